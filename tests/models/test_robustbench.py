"""RobustBench in a process of its own, since importing it changes timm's registry and takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import Shape
from torch import nn

from robustprune.errors import ModelError
from robustprune.models import build_model
from robustprune.models.architecture import Architecture
from robustprune.models.build import build_network
from robustprune.models.libraries import build_robustbench
from robustprune.models.weight_files import load_weights

SCRIPT = """
import inspect, socket, sys, warnings
warnings.simplefilter("error")
sys.path.insert(0, TESTS)

def no_network(*_args, **_keywords):
    raise AssertionError("the network was used")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = no_network

import torch
from support import Shape
from robustprune.errors import ModelError, TicketError
from robustprune.cli.listing import list_rows
from robustprune.models import build_model
from robustprune.pruning import find_blocks
from robustprune.tickets.ticket import Ticket, load_ticket

def refused(name, message, shape=Shape(), **options):
    try:
        build_model(name, shape, **options)
    except ModelError as error:
        assert message in str(error), error
    else:
        raise AssertionError(f"{name} {options} was built")

list_rows("models")
assert "robustbench" not in sys.modules and "timm" not in sys.modules

images = torch.rand(2, 3, 32, 32)
network = build_model("robustbench:Addepalli2022Efficient_RN18", Shape())
assert "autoattack" not in sys.modules
assert torch.equal(network(images), network.network(images))  # no second normalization
assert len(find_blocks(network)) == 8
assert network.architecture.options == {}

# As published: names of DataParallel within a checkpoint.
published = build_model("robustbench:Addepalli2022Efficient_RN18", Shape(), seed=5)
state = {f"module.{name}": value for name, value in published.network.state_dict().items()}
torch.save({"state_dict": state, "epoch": 3}, FOLDER + "/weights.pt")
loaded = build_model("robustbench:Addepalli2022Efficient_RN18", Shape(), weights_file=FOLDER + "/weights.pt")
assert torch.equal(loaded(images), published(images)) and not torch.equal(loaded(images), network(images))

# A ticket of it knows the architecture alone, and comes back when the file is gone.
import os
Ticket.from_model(loaded).save(FOLDER + "/ticket.pt")
os.remove(FOLDER + "/weights.pt")
ticket = load_ticket(FOLDER + "/ticket.pt")
assert ticket.architecture.options == {}
assert torch.equal(ticket.model()(images), published(images))
for option in ("weights_file", "download", "model_dir"):
    ticket.architecture = ticket.architecture.model_copy(update={"options": {option: "1"}})
    ticket.save(FOLDER + "/foreign.pt")
    try:
        load_ticket(FOLDER + "/foreign.pt")
    except TicketError as error:
        assert "an architecture takes only 'threat_model'" in str(error)
    else:
        raise AssertionError(option)

refused("robustbench:Addepalli2022Eficient_RN18", "Did you mean 'Addepalli2022Efficient_RN18'")
refused("robustbench:Standard", "it has: Linf, L2, corruptions", threat_model="L3")
hundred = build_model("robustbench:Addepalli2022Efficient_RN18", Shape(num_classes=100))
assert hundred(images).shape == (2, 100)
assert build_model("robustbench:Rade2021Helper_R18_ddpm", Shape(), threat_model="L2")(images).shape == (2, 10)

# Its own entry downloads while it is built; ours is built without weights, and has no file to fetch.
light = build_model("robustbench:Debenedetti2022Light_XCiT-S12", Shape())
assert light(images).shape == (2, 10) and len(find_blocks(light)) == 12
refused("robustbench:Debenedetti2022Light_XCiT-S12", "not one file", download=1)
refused("robustbench:Chen2020Adversarial", "not one file", download=True)

# No other entry downloads while it is built.
from robustbench.model_zoo.models import model_dicts
for dataset, lists in list(model_dicts.items())[:2]:
    for threat, entries in lists.items():
        for name, entry in entries.items():
            if entry["gdrive_id"] is not None:
                assert "pretrained=True" not in inspect.getsource(entry["model"]).replace(" ", ""), name
print("done")
"""


@pytest.mark.slow
@pytest.mark.needs("robustbench")
def test_the_zoo_without_a_network(tmp_path: Path) -> None:
    script = f"TESTS, FOLDER = {str(Path(__file__).parents[1])!r}, {str(tmp_path)!r}\n{SCRIPT}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("done\n"), done.stderr


@pytest.mark.parametrize(
    "shape", [Shape(channels=1), Shape(image_size=(28, 28)), Shape(num_classes=7)], ids=["gray", "28×28", "7 classes"]
)
def test_other_images_are_refused_before_anything_is_imported(shape: Shape) -> None:
    with pytest.raises(ModelError, match="3×32×32 images of 10 or 100 classes"):
        build_model("robustbench:Standard", shape)


@pytest.mark.parametrize("option", ["weights_file", "download", "pretrained"])
def test_an_architecture_says_nothing_of_where_weights_come_from(option: str) -> None:
    with pytest.raises(ModelError, match="no part of one"):
        build_network(Architecture.for_data("robustbench:Standard", Shape(), **{option: "1"}))


def test_the_first_line_says_that_weights_are_random() -> None:
    assert "random weights unless" in (build_robustbench.__doc__ or "").partition("\n")[0]


def test_only_robustbench_downloads() -> None:
    with pytest.raises(ModelError, match="nothing to download"):
        build_model("resnet20", Shape(), download=True)
    with pytest.raises(ModelError, match="neither 1 nor 0"):
        build_model("resnet20", Shape(), download="no")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('executed')",)


def small() -> nn.Module:
    return build_model("wrn:10-1", Shape(), width=2)


@pytest.mark.parametrize("content", [{"state_dict": Evil()}, Evil()])
def test_pickled_code_is_refused_not_run(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match="could run code"):
        load_weights(small(), tmp_path / "evil.pt")


def test_weights_file_of_our_own_network(tmp_path: Path) -> None:
    source = build_model("wrn:10-1", Shape(), width=2, seed=3)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    network = build_model("wrn:10-1", Shape(), width=2, weights_file=tmp_path / "weights.pt")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), source.parameters(), strict=True))
    assert network.architecture.options == {"width": 2}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path, state = tmp_path / "weights.pt", small().state_dict()
    cases = {
        "lacks fc.bias": {name: value for name, value in state.items() if name != "fc.bias"},
        "lacks bn.running_var": {name: value for name, value in state.items() if name != "bn.running_var"},
        "has beyond it extra": {**state, "extra": torch.zeros(1)},
        "has in another shape fc.bias": {**state, "fc.bias": torch.zeros(3)},
        "holds a int": 3,
        "no name agrees": [torch.zeros(1)],
    }
    for message, content in cases.items():
        torch.save(content, path)
        with pytest.raises(ModelError, match=message):
            load_weights(small(), path)
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ModelError, match="damaged"):
        load_weights(small(), path)
    with pytest.raises(ModelError, match="no file"):
        load_weights(small(), tmp_path / "nowhere.pt")


def test_constants_may_be_missing_and_wrappers_are_taken_off(tmp_path: Path) -> None:
    source = build_model("wrn:10-1", Shape(), width=2, seed=3)
    state = {f"module.{name}": value for name, value in source.state_dict().items() if "normalize" not in name}
    torch.save({"last": {"state_dict": state}, "best": {}, "epoch": 1}, tmp_path / "weights.pt")
    network = small()
    load_weights(network, tmp_path / "weights.pt")
    assert torch.equal(network.fc.weight, source.fc.weight)
    assert torch.equal(network.normalize.mean, source.normalize.mean)
