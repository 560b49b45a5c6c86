"""Modules of a user's own go the whole way; the oracle is the module itself, by plain torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Run, check_failure
from torch import Tensor, nn
from torchvision import models

import robustprune as rp
from robustprune.errors import ModelError, PruningError, TicketError
from robustprune.models.libraries import import_quietly
from robustprune.runtime.file_kinds import TICKET
from robustprune.runtime.files import write_sealed
from robustprune.tickets.rewinding import reinitialize
from robustprune.tickets.ticket import FORMAT
from robustprune.training.train import train_to_file

CODE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return (x + self.second(self.norm(self.first(x)).relu())).relu()

class Mine(nn.Module):
    def __init__(self, depth=4, width=6, classes=10):
        super().__init__()
        self.architecture = "mine"  # a name that this package uses, too
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, images, scale=1.0):
        assert self.architecture == "mine"
        return scale * self.head(self.blocks(self.stem(images).relu()).mean(dim=(2, 3)))
"""
_own: dict[str, Any] = {}
exec(compile(CODE, "net.py", "exec"), _own)  # the same text is a file of the command line's below
Mine: Callable[..., nn.Module] = _own["Mine"]

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "own": Mine,
    "torchvision": lambda: models.resnet18(num_classes=10),
    "timm": lambda: import_quietly("timm", "this test").create_model("convnext_atto", num_classes=10),
}
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
BRIEFLY: dict[str, Any] = {"epochs": 1, "batch_size": 16, "country": None}


@pytest.fixture(scope="module")
def data() -> rp.ImageData:
    return rp.load_data("digits", train_limit=40, image_size=32, channels=3)


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(IMAGES)  # type: ignore[no-any-return]


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def is_as_before(network: nn.Module, before: dict[str, Tensor]) -> bool:
    now = network.state_dict()
    return list(now) == list(before) and all(torch.equal(now[name], value) for name, value in before.items())


@pytest.fixture
def cut(data: rp.ImageData) -> rp.Ticket:
    model = Mine()
    return rp.prune_layers(model, rp.score_blocks(model, data, "random"), blocks=2, eligibility="identity")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "own")) for name in NETWORKS])
def test_from_scoring_to_evaluation(name: str, data: rp.ImageData, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    before, attributes = state_of(model), set(vars(model))
    scores = rp.score_blocks(model, data, criterion="snip")
    ticket = rp.prune_layers(model, scores, blocks=2, eligibility="identity")
    assert type(ticket.network) is type(model)
    assert all(torch.equal(value, before[name]) for name, value in ticket.network.state_dict().items())
    rp.train(ticket, data, **BRIEFLY)
    ticket.save(tmp_path / "t.pt")
    fresh = NETWORKS[name]()
    untouched = state_of(fresh)
    found = rp.load_ticket(tmp_path / "t.pt", into=fresh)
    assert torch.equal(logits(found.network), logits(ticket.network))
    assert not torch.equal(logits(found.network), logits(model))
    for each in ("plan", "scores", "history", "training", "sha256", "architecture"):
        assert getattr(found, each) == getattr(ticket, each), each
    record = rp.evaluate(found, data)
    assert record.model.parameters == sum(weight.numel() for weight in ticket.network.parameters())
    assert record.model.architecture == type(model).__name__ == rp.evaluate(model, data).model.architecture
    assert record.model.removed == list(ticket.plan.removed)
    # All blocks of the module, which the file does not hold.
    dense = rp.find_blocks(model, IMAGES)
    assert [(block.name, block.stage) for block in record.model.blocks] == [
        (block.name, block.stage) for block in dense
    ]
    assert {block.name for block in record.model.blocks if block.removed} == set(ticket.plan.removed)
    assert {block.name: block.score for block in record.model.blocks if block.score is not None} == dict(scores)
    assert rp.evaluate(ticket, data).model.blocks == record.model.blocks
    # Neither module was touched.
    assert is_as_before(model, before)
    assert model.training
    assert set(vars(model)) == attributes
    assert is_as_before(fresh, untouched)
    assert fresh.training


def test_a_network_is_trained_as_a_copy(data: rp.ImageData) -> None:
    for model in (Mine(), rp.build_model("resnet20", data, width=4)):
        before = state_of(model)
        trained = rp.train(model, data, **BRIEFLY)
        assert is_as_before(model, before)
        assert not is_as_before(trained.network, before)
        assert len(trained.history) == 1
        assert torch.equal(
            logits(rp.train(rp.Ticket.from_model(model, data), data, **BRIEFLY).network), logits(trained.network)
        )


def test_weights_filters_cost_and_export(data: rp.ImageData, tmp_path: Path) -> None:
    model = Mine()
    masked = rp.prune_weights(model, data, "snip", sparsity=0.5)
    layers = list(rp.prunable_convolutions(model, example=IMAGES).values())
    narrow = rp.prune_filters(model, rp.score_filters(model, layers, data, "l1"), filters=5)
    for place, ticket in enumerate((masked, narrow)):
        rp.train(ticket, data, **BRIEFLY)
        ticket.save(tmp_path / f"{place}.pt")
        found = rp.load_ticket(tmp_path / f"{place}.pt", into=Mine())
        assert torch.equal(logits(found.network), logits(ticket.network))
        assert found.sha256 == ticket.sha256
        assert rp.load_ticket(tmp_path / f"{place}.pt", into=ticket.network).sha256 == ticket.sha256
    assert masked.mask_summary is not None
    assert masked.mask_summary["kept"] == round(0.5 * masked.mask_summary["weights"])
    parameters = sum(weight.numel() for weight in narrow.network.parameters())
    assert rp.describe_cost(narrow)["parameters"] == parameters < sum(weight.numel() for weight in model.parameters())
    rp.export_model(model, tmp_path / "m.pt2", "torch-export", data=data)
    exported = torch.export.load(tmp_path / "m.pt2").module()
    torch.testing.assert_close(exported(IMAGES), logits(model), rtol=1e-4, atol=1e-5)


def test_rewinding_takes_the_weights_of_a_module(cut: rp.Ticket) -> None:
    early = Mine()
    back = rp.rewind(cut, early, 0)
    assert back.network.state_dict().keys() == cut.network.state_dict().keys()
    assert all(torch.equal(value, early.state_dict()[name]) for name, value in back.network.state_dict().items())
    with pytest.raises(PruningError, match="only you can build it"):
        reinitialize(cut)
    with pytest.raises(TicketError, match="no residual block"):
        rp.rewind(cut, Mine(depth=1), 0)


def test_what_torch_puts_around_a_module_is_not_in_its_ticket(data: rp.ImageData, tmp_path: Path) -> None:
    model = Mine()
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        ticket = rp.Ticket.from_model(wrapped, data, seed=3)
        ticket.save(tmp_path / "t.pt")
        found = rp.load_ticket(tmp_path / "t.pt", into=Mine())
        assert torch.equal(logits(found.network), logits(model))
        assert (found.seed, found.architecture.name) == (3, "module:Mine")
        assert torch.equal(
            logits(rp.load_ticket(tmp_path / "t.pt", into=nn.DataParallel(Mine())).network), logits(model)
        )


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_scripts_keep_their_images(data: rp.ImageData) -> None:
    script = torch.jit.trace(Mine().eval(), IMAGES)
    assert rp.train(script, data, **BRIEFLY).history


def test_an_interrupted_training_is_found_finished(cut: rp.Ticket, data: rp.ImageData, tmp_path: Path) -> None:
    again = copy.deepcopy(cut)
    trained = train_to_file(cut, data, tmp_path / "t.pt", **BRIEFLY)
    found = train_to_file(again, data, tmp_path / "t.pt", resume=True, **BRIEFLY)
    assert found.provenance == trained.provenance
    assert torch.equal(logits(found.network), logits(trained.network))


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "deeper": (lambda: Mine(depth=5), r"has beyond it blocks\.4\.first\.weight.* and \d+ more"),
    "shallower": (lambda: Mine(depth=2), r"lacks blocks\.2\.first\.weight"),
    "wider": (lambda: Mine(width=7), r"stem\.weight as float32 \(7, 3, 3, 3\) in place of float32 \(6, 3, 3, 3\)"),
    "classes": (lambda: Mine(classes=3), r"head\.weight as float32 \(3, 6\) in place of float32 \(10, 6\)"),
    "half": (lambda: Mine().half(), r"stem\.weight as float16"),
    "foreign": (lambda: nn.Linear(2, 2), "of another network than this Linear, which lacks stem"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_network_is_refused_in_a_paragraph(name: str, data: rp.ImageData, tmp_path: Path) -> None:
    order = rp.score_blocks(model := Mine(), data, "random")
    order.update({block: float(block != "blocks.1") for block in order})
    build, words = OTHERS[name]
    rp.prune_layers(model, order, blocks=1, eligibility="identity").save(tmp_path / "t.pt")
    with pytest.raises(TicketError, match=words) as caught:
        rp.load_ticket(tmp_path / "t.pt", into=build())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_module_is_asked_for_where_it_is_needed(cut: rp.Ticket, data: rp.ImageData, tmp_path: Path) -> None:
    cut.save(tmp_path / "t.pt")
    with pytest.raises(TicketError, match=r"module of your own, Mine.*never its code.*into=Mine"):
        rp.load_ticket(tmp_path / "t.pt")
    with pytest.raises(TicketError, match="not by both"):
        rp.load_ticket(tmp_path / "t.pt", into=Mine(), model_code="net.py")
    rp.Ticket.from_model(rp.build_model("resnet20", data, width=4), data).save(tmp_path / "named.pt")
    with pytest.raises(TicketError, match="leave out into"):
        rp.load_ticket(tmp_path / "named.pt", into=Mine())
    with pytest.raises(ModelError, match=r"3 logits and the images are of 10 classes"):
        rp.train(Mine(classes=3), data)
    with pytest.raises(ModelError, match="what images it takes"):
        rp.Ticket.from_model(Mine())


def test_a_crafted_file_runs_nothing(cut: rp.Ticket, tmp_path: Path) -> None:
    cut.save(tmp_path / "t.pt")
    content = torch.load(tmp_path / "t.pt", weights_only=True)
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath(__file__).with_name('marker').touch()\n")
    (tmp_path / "net.py").write_text("from os import system\n")
    for name in (f"module:{tmp_path}/evil.py:Net", "module:evil.py:Net", "module:system", "module:__builtins__"):
        content["header"]["architecture"]["name"] = name
        write_sealed(tmp_path / "t.pt", content, TICKET)
        assert content["format"] == FORMAT
        for code in (None, tmp_path / "net.py"):
            with pytest.raises(TicketError):
                rp.load_ticket(tmp_path / "t.pt", model_code=code)
    assert not (tmp_path / "marker").exists()


def test_state_that_is_no_tensor_is_refused_by_name(data: rp.ImageData, tmp_path: Path) -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

        def set_extra_state(self, state: Any) -> None: ...

    ticket = rp.Ticket.from_model(nn.Sequential(nn.Flatten(), Odd(3 * 32 * 32, 10)), data)
    with pytest.raises(TicketError, match=r"1\._extra_state in its state_dict, which is no tensor"):
        ticket.save(tmp_path / "t.pt")


def test_the_command_line_takes_the_file_that_defines_it(run: Run, cut: rp.Ticket) -> None:
    cut.save("t.pt")
    Path("net.py").write_text(CODE + "\ndef small():\n    return Mine()\n\ndef deep():\n    return Mine(depth=5)\n")
    check_failure(run("cost", "--model", "t.pt"), 1, "module of your own, Mine", "--model-code")
    for code in ("net.py", "net.py:small"):
        found = run("cost", "--model", "t.pt", "--model-code", code, "--json").json
        assert found["parameters"] == sum(weight.numel() for weight in cut.network.parameters())
    check_failure(run("cost", "--model", "t.pt", "--model-code", "net.py:deep"), 1, "another network", "blocks.4")
    check_failure(run("cost", "--model", "t.pt", "--model-code", "net.py:none"), 1, "defines no 'none'")
    size = ("--dataset", "digits", "--train-limit", "40", "--epochs", "1", "--no-energy")
    for more in ((), ("--resume",)):
        assert run("train", "--model", "t.pt", "--model-code", "net.py", *size, "--out", "u.pt", *more).code == 0
    check_failure(
        run("train", "--model", "t.pt", "--model-code", "net.py:small", *size, "--out", "net.py"), 2, "net.py"
    )
