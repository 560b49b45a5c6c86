"""Binary classifiers of one logit, by a file's name and as a user's module; the oracle is the sign of that logit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Run
from torch import Tensor, nn

import robustprune as rp

CODE = """
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))

    def forward(self, maps):
        return (maps + self.branch(maps)).relu()

class One(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Linear(4, 1)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images).relu()).mean((2, 3)))

class Flat(One):
    def forward(self, images):
        return super().forward(images).squeeze(1)

class Probability(One):
    def forward(self, images):
        return super().forward(images).sigmoid()
"""
_own: dict[str, Any] = {}
exec(compile(CODE, "net.py", "exec"), _own)
BRIEFLY: dict[str, Any] = {"epochs": 1, "batch_size": 16, "country": None}


def images_of(classes: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(48) % classes
    noise = torch.randint(0, 90, (48, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return (noise + 60 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels


@pytest.fixture(scope="module")
def data() -> rp.ImageData:
    return rp.as_data(train=images_of(2), test=images_of(2))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(CODE)
    return tmp_path / "net.py"


def accuracy(model: nn.Module) -> float:
    images, labels = images_of(2)
    with torch.no_grad():
        return float(((model.eval()(images / 255).flatten() > 0) == labels).double().mean())


@pytest.mark.parametrize("name", ["One", "Flat"])
def test_from_a_file_and_in_hand(name: str, data: rp.ImageData, file: Path) -> None:
    named = rp.build_model(f"file:{file}:{name}", data, seed=2)
    own = _own[name]()
    own.load_state_dict(named.network.state_dict())  # type: ignore[union-attr]
    tickets = {}
    for way, model in {"file": named, "hand": own}.items():
        assert rp.evaluate(model, data).clean.accuracy == pytest.approx(accuracy(model))
        ticket = rp.prune_layers(
            model, rp.score_blocks(model, data, "snip"), blocks=1, eligibility="identity", data=data
        )
        tickets[way] = rp.train(ticket, data, **BRIEFLY)
        tickets[way].save(file.with_name(f"{way}.pt"))
    again = {
        "file": rp.load_ticket(file.with_name("file.pt"), model_code=file),
        "hand": rp.load_ticket(file.with_name("hand.pt"), into=_own[name]()),
        "code": rp.load_ticket(file.with_name("hand.pt"), model_code=file),
    }
    assert again["file"].sha256 == tickets["file"].sha256
    assert again["hand"].sha256 == again["code"].sha256 == tickets["hand"].sha256
    assert list(tickets["file"].plan.removed) == [f"network.{each}" for each in tickets["hand"].plan.removed]
    found = [rp.evaluate(each, data).clean for each in again.values()]
    assert found[0] == found[1] == found[2]
    assert found[0].accuracy == pytest.approx(accuracy(again["hand"].network))


def test_what_cannot_be_is_refused_when_it_is_built(data: rp.ImageData, file: Path) -> None:
    three = rp.as_data(train=images_of(3), test=images_of(3))
    for call in (lambda: rp.build_model(f"file:{file}:One", three), lambda: rp.train(_own["One"](), three, **BRIEFLY)):
        with pytest.raises(rp.ModelError, match=r"has 1 logit and the images are of 3 classes; give its last layer"):
            call()
    for call in (
        lambda: rp.build_model(f"file:{file}:Probability", data),
        lambda: rp.train(_own["Probability"](), data, **BRIEFLY),
    ):
        with pytest.raises(rp.ModelError, match="one probability for each image, not a logit"):
            call()


def test_on_the_command_line(run: Run, file: Path) -> None:
    images, labels = (each.numpy() for each in images_of(2))
    np.savez("two.npz", train_images=images[:, 0], train_labels=labels, test_images=images[:, 0], test_labels=labels)
    asked = ("--dataset", "npz:two.npz", "--epochs", "1", "--no-energy")
    assert run("train", "--model", "file:net.py:One", *asked, "--out", "t.pt").code == 0
    found = run("evaluate", "--model", "t.pt", "--model-code", "net.py", "--json").json
    ticket = rp.load_ticket("t.pt", model_code="net.py")
    assert found["clean"]["accuracy"] == pytest.approx(accuracy(ticket.network))
