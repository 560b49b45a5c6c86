"""What the suite on the pretend accelerator shares; it runs in a process of its own, see test_accelerator."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import pretend
from support import shaken

from robustprune.data import ImageData, load_data
from robustprune.models import model_device
from robustprune.runtime.environment import hash_weights


@pytest.fixture(scope="session", autouse=True)
def _pretend() -> None:
    pretend.install()
    # Some kernels of oneDNN write past their memory. The package keeps networks on the processor from them
    # (runtime/kernels.py), and not those on the device, whose convolutions run on the processor, too.
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    # Packed convolutions are the processor's alone, and round otherwise.
    patch = pytest.MonkeyPatch()
    patch.setattr("robustprune.inference.frozen._packed", lambda copy, images: copy)


@pytest.fixture(scope="session")
def data() -> ImageData:
    return load_data("digits", train_limit=120, validation_fraction=0.02)


class Block(nn.Module):
    """A residual block with an identity shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, features: Tensor) -> Tensor:
        inner = self.bn1(self.conv1(features)).relu()
        return (features + self.bn2(self.conv2(inner))).relu()


class Net(nn.Module):
    """A residual network that is quick, and in double precision, where sums in another order differ next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(images)))  # type: ignore[no-any-return]


def build(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return shaken(Net()).eval()


@pytest.fixture(scope="session")
def _built() -> nn.Module:
    return build(3)


@pytest.fixture
def other() -> nn.Module:
    """Another one of the kind."""
    return build(4)


@pytest.fixture
def model(_built: nn.Module) -> Iterator[nn.Module]:
    """A network on the processor, which nothing may move or change."""
    before, modes = hash_weights(_built), [module.training for module in _built.modules()]
    held = [*_built.parameters(), *_built.buffers()]
    yield _built
    assert all(own is now for own, now in zip(held, (*_built.parameters(), *_built.buffers()), strict=True))
    assert model_device(_built).type == "cpu"
    assert hash_weights(_built) == before
    assert [module.training for module in _built.modules()] == modes


@pytest.fixture
def images(data: ImageData) -> Tensor:
    return data.require("test").take(torch.arange(12))


@pytest.fixture
def labels(model: nn.Module, images: Tensor) -> Tensor:
    """What the network says of the images, so that none is misclassified to begin with."""
    with torch.no_grad():
        return model(images.double() / 255).argmax(dim=1)


@pytest.fixture
def same() -> Any:
    """Hold that two results are alike but for the order of sums, and lie in host memory."""

    def check(expected: Any, found: Any) -> None:
        if isinstance(expected, dict):
            assert list(expected) == list(found)
            for name in expected:
                check(expected[name], found[name])
        elif isinstance(expected, list | tuple):
            assert len(expected) == len(found)
            for one, another in zip(expected, found, strict=True):
                check(one, another)
        elif isinstance(expected, Tensor):
            assert found.device.type == "cpu"
            # Of float32, what results are rounded to.
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7, equal_nan=True)
        elif isinstance(expected, float):
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)
        else:
            assert found == expected

    return check
