from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import Shape

from robustprune.errors import ModelError
from robustprune.models import build_model

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, in_channels, hidden=5):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.LazyLinear(hidden), nn.ReLU())
        self.head = nn.Linear(hidden, num_classes)
        self.in_channels = in_channels
    def forward(self, images):
        return self.head(self.body(images))

def broken(num_classes):
    raise RuntimeError("no such luck")

ready = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
wrong_output = nn.Flatten()
number = 3
"""


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_torchvision_network_is_fitted_and_normalized() -> None:
    shape = Shape(channels=1, image_size=(40, 40), num_classes=4)
    network = build_model("torchvision:resnet18", shape)
    images = torch.rand(2, 1, 40, 40)
    assert network(images).shape == (2, 4)
    torch.testing.assert_close(network(images), network.network((images - 0.4) / 0.2))


def test_penultimate_features_feed_the_last_layer() -> None:
    network = build_model("torchvision:resnet18", Shape())
    images = torch.rand(2, 3, 32, 32)
    features = network.forward_features(images)
    assert features.shape == (2, 512)
    torch.testing.assert_close(network.network.fc(features), network(images))
    assert not network.network.fc._forward_pre_hooks


def test_unknown_torchvision_name_suggests() -> None:
    with pytest.raises(ModelError, match="Did you mean 'resnet50'"):
        build_model("torchvision:resnet51", Shape())


def test_impossible_image_size_is_explained() -> None:
    with pytest.raises(ModelError, match="vit_b_16"):
        build_model("torchvision:vit_b_16", Shape(image_size=(33, 33)))


def test_class_of_a_file_is_given_what_it_names(own_file: Path) -> None:
    network = build_model(f"file:{own_file}:Net", Shape(), hidden=6)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert network.network.in_channels == 3
    assert network.forward_features(torch.rand(2, 3, 32, 32)).shape == (2, 6)


def test_ready_module_of_a_file_gets_no_second_normalization(own_file: Path) -> None:
    network = build_model(f"file:{own_file}:ready", Shape(channels=1, image_size=(8, 8)))
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(network(images), network.network(images))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nett", "Did you mean 'Net'"),
        ("broken", "no such luck"),
        ("number", "not a torch nn.Module"),
        ("wrong_output", r"logits and the images are of 10 classes"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(own_file: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(f"file:{own_file}:{name}", Shape())


def test_options_a_class_does_not_take(own_file: Path) -> None:
    with pytest.raises(ModelError, match=r"takes no 'hiden'.* Did you mean 'hidden'"):
        build_model(f"file:{own_file}:Net", Shape(), hiden=3)


@pytest.mark.parametrize("name", ["file:", "file:own.py", "file:nowhere.py:Net"])
def test_incomplete_or_missing_file(name: str) -> None:
    with pytest.raises(ModelError, match="file"):
        build_model(name, Shape())


def test_file_with_a_syntax_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def Net(:\n")
    with pytest.raises(ModelError, match="SyntaxError"):
        build_model(f"file:{path}:Net", Shape())


def test_what_a_file_only_imports_is_not_called(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "own.py"
    path.write_text("from os import system\nfrom torch.nn import Identity\n")
    with pytest.raises(ModelError, match="that the file itself defines"):
        build_model(f"file:{path}:system", Shape(), command=f"touch {marker}")
    assert not marker.exists()


def test_pretrained_weights_are_not_an_option() -> None:
    with pytest.raises(ModelError, match="nothing is downloaded unasked"):
        build_model("torchvision:resnet18", Shape(), weights="DEFAULT")


def test_file_is_loaded_as_a_script_would_be(tmp_path: Path) -> None:
    (tmp_path / "beside_own.py").write_text("WIDTH = 5\n")
    path = tmp_path / "own.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n"
        "from beside_own import WIDTH\n\n@dataclass\nclass Options:\n    width: int = WIDTH\n\n"
        "def net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, Options().width), nn.Linear(WIDTH, num_classes))\n"
    )
    network = build_model(f"file:{path}:net", Shape(channels=1, image_size=(8, 8)))
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(("code", "complaint"), [("sys.exit(3)", "cannot be imported: SystemExit: 3"), ("", "raised")])
def test_a_file_that_ends_the_process_is_said_to(tmp_path: Path, code: str, complaint: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(f"import sys\n{code}\n\ndef make():\n    sys.exit(4)\n")
    with pytest.raises(ModelError, match=complaint):
        build_model(f"file:{path}:make", Shape())
