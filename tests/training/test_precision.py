"""Mixed precision against loops in plain torch, and what stays in single precision."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import Run
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.data import ImageData
from robustprune.errors import TrainingError
from robustprune.models import build_model
from robustprune.runtime.files import read_sealed
from robustprune.runtime.randomness import seeded_generator
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import CHECKPOINT_NAME, Recipe, train
from robustprune.training.adversarial_training import adversarial_loss
from robustprune.training.epoch import make_optimizer, train_epoch
from robustprune.training.precision import make_scaler

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}
BOTH = pytest.mark.parametrize("precision", KINDS)


class Interrupted(Exception):
    """Stands for whatever ends a run from outside."""


def fresh(data: ImageData, width: int = 4) -> Ticket:
    return Ticket.from_model(build_model("resnet20", data, width=width), data)


def quietly(ticket: Ticket, data: ImageData, **options: Any) -> Ticket:
    return train(ticket, data, **{"epochs": 2, "batch_size": 64, "country": None, **options})


def loop(network: nn.Module, data: ImageData, recipe: Recipe) -> nn.Module:
    """Train as torch's documentation of mixed precision has it, without augmentation, for one epoch."""
    network = network.to(memory_format=torch.channels_last).train()
    part, size = data.require("train"), recipe.batch_size
    steps = len(part) // size
    options: dict[str, Any] = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "nesterov": True}
    optimizer = torch.optim.SGD(network.parameters(), lr=recipe.learning_rate, **options)
    scaler = torch.amp.GradScaler("cpu", enabled=recipe.precision == "fp16")
    order = torch.randperm(len(part), generator=seeded_generator(0, "epoch", 0))[: steps * size]
    for step, rows in enumerate(order.split(size)):
        images = (part.images[rows].float() / 255).contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step / steps / recipe.epochs)
        optimizer.zero_grad()
        with torch.autocast("cpu", KINDS.get(recipe.precision), enabled=recipe.precision in KINDS):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), part.labels[rows], label_smoothing=recipe.label_smoothing)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    return network


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("precision", ["fp32", *KINDS])
@pytest.mark.parametrize("batch_size", [200, 32], ids=["one step", "six steps"])
def test_training_is_a_plain_loop_with_autocast_bit_for_bit(
    few_digits: ImageData, precision: str, batch_size: int
) -> None:
    ticket = fresh(few_digits, width=16)  # no convolution of few channels, which has a kernel of its own
    recipe = Recipe("quick", epochs=1, batch_size=batch_size, augmentation="none", precision=precision)
    expected = loop(copy.deepcopy(ticket.network), few_digits, recipe).state_dict()
    train(ticket, few_digits, recipe, country=None)
    found = ticket.network.state_dict()
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.slow
def test_precisions_differ_and_end_near_each_other(few_digits: ImageData) -> None:
    """Rounding to 8 bits moves each step by some 0.4 %, and the loss of a short training by less than 0.1."""
    found = {
        precision: quietly(fresh(few_digits, width=8), few_digits, epochs=6, batch_size=32, precision=precision)
        for precision in ("fp32", "bf16", "fp16")
    }
    assert len({ticket.sha256 for ticket in found.values()}) == 3
    plain = found.pop("fp32").history
    for ticket in found.values():
        assert ticket.history[-1]["train_loss"] < ticket.history[0]["train_loss"] - 0.3
        assert ticket.history[-1]["train_loss"] == pytest.approx(plain[-1]["train_loss"], abs=0.1)


@BOTH
def test_weights_and_the_optimizers_state_stay_in_single_precision(
    few_digits: ImageData, tmp_path: Path, precision: str
) -> None:
    kinds: list[torch.dtype] = []
    ticket = fresh(few_digits)
    ticket.network.conv1.register_forward_hook(lambda _module, _inputs, found: kinds.append(found.dtype))
    quietly(ticket, few_digits, precision=precision, work=Work(folder=tmp_path))
    assert set(kinds) == {KINDS[precision], torch.float32}  # of training, and of validation
    content = read_sealed(tmp_path / CHECKPOINT_NAME, "robustprune-checkpoint")
    momenta = [state["momentum_buffer"] for state in content["optimizer"]["state"].values()]
    for value in [*content["weights"].values(), *momenta, *ticket.network.state_dict().values()]:
        assert value.dtype in (torch.float32, torch.int64)
    assert len(momenta) == len(list(ticket.network.parameters()))


@BOTH
@pytest.mark.parametrize("adversarial", ["fgsm", "pgd", "trades"])
def test_attacks_are_those_of_single_precision(few_digits: ImageData, precision: str, adversarial: str) -> None:
    """The images that the network is trained on, and the passes that find them."""
    network = build_model("resnet20", few_digits, width=4).train()
    images, labels = few_digits.train.images[:16].float() / 255, few_digits.train.labels[:16]
    seen: dict[str, list[tuple[torch.dtype, Tensor]]] = {}

    def attacked(name: str) -> Tensor:
        own: list[tuple[torch.dtype, Tensor]] = seen.setdefault(name, [])
        handle = network.conv1.register_forward_hook(lambda _, inputs, out: own.append((out.dtype, inputs[0].detach())))
        recipe = Recipe("quick", adversarial=adversarial, adversarial_steps=3, precision=name)
        loss, _ = adversarial_loss(copy.deepcopy(network), images, labels, recipe, seeded_generator(7))
        handle.remove()
        return loss

    plain, mixed = attacked("fp32"), attacked(precision)
    assert plain.dtype == mixed.dtype == torch.float32
    assert not torch.equal(plain, mixed)
    torch.testing.assert_close(mixed, plain, rtol=0.02, atol=0.02)
    *found, last = seen[precision]
    assert {kind for kind, _ in found} == {torch.float32}
    assert last[0] == KINDS[precision]
    for (_, mine), (_, theirs) in zip(seen[precision], seen["fp32"], strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize(
    ("precision", "how"),
    [
        ("bf16", {}),
        ("fp16", {}),
        ("bf16", {"augmentation": "corruptions"}),
        ("fp16", {"augmentation": "augmix", "consistency": 12.0}),
        ("fp16", {"adversarial": "trades", "adversarial_steps": 1}),
    ],
)
def test_interrupted_and_resumed_is_bit_identical(
    few_digits: ImageData, tmp_path: Path, precision: str, how: dict[str, Any]
) -> None:
    how = {**how, "precision": precision, "epochs": 2}
    expected = quietly(fresh(few_digits), few_digits, **how)
    left = [5]  # an epoch of three steps, and some of the second

    def progress(what: str, _done: float, _total: float) -> None:
        left[0] -= what == "training"
        if left[0] == 0:
            raise Interrupted

    with pytest.raises(Interrupted):
        quietly(fresh(few_digits), few_digits, **how, work=Work(progress=progress, folder=tmp_path))
    resumed = quietly(fresh(few_digits), few_digits, **how, work=Work(folder=tmp_path))
    assert len(resumed.history) == 2
    assert resumed.sha256 == expected.sha256


def test_the_scale_of_losses_is_resumed(few_digits: ImageData, tmp_path: Path) -> None:
    """A scale that has been lowered, and how long ago: a new one would leave out the next step again."""

    def overflowing() -> Ticket:
        ticket = fresh(few_digits)
        ticket.network.fc.register_forward_hook(lambda _module, _inputs, logits: _Steep.apply(logits))
        return ticket

    how: dict[str, Any] = {"precision": "fp16", "epochs": 2}
    expected = quietly(overflowing(), few_digits, **how)
    stop_epoch = {"stop_epoch": 1, "work": Work(folder=tmp_path)}
    quietly(overflowing(), few_digits, **how, **stop_epoch)
    state = read_sealed(tmp_path / CHECKPOINT_NAME, "robustprune-checkpoint")["scaler"]
    assert 1 <= state["scale"] < 2**16
    assert quietly(overflowing(), few_digits, **how, work=Work(folder=tmp_path)).sha256 == expected.sha256


class _Steep(torch.autograd.Function):
    """Gradients of more than 100 overflow, as those of half precision do above 65504: scaled by 2¹⁶ they are large."""

    @staticmethod
    def forward(_context: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return torch.where(gradient.abs().amax() > 100, torch.inf, 1.0) * gradient


def test_steps_that_overflow_are_left_out_and_the_scale_is_halved(few_digits: ImageData) -> None:
    network = build_model("resnet20", few_digits, width=4)
    network.fc.register_forward_hook(lambda _module, _inputs, logits: _Steep.apply(logits))
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    recipe = Recipe("quick", epochs=1, batch_size=200, precision="fp16")
    optimizer, scaler = make_optimizer(network, recipe), make_scaler("fp16", torch.device("cpu"))
    scales = []
    for epoch in range(12):
        train_epoch(network, optimizer, few_digits, recipe, epoch=0, seed=epoch, scaler=scaler)
        scales.append(scaler.get_scale())
        moved = any(not torch.equal(value, before[name]) for name, value in network.named_parameters())
        assert moved == (epoch > 0 and scales[-1] == scales[-2])
        if moved:
            break
    assert scales[:-1] == [2.0 ** (15 - step) for step in range(len(scales) - 1)]
    assert moved


def test_gradients_that_no_scale_makes_finite_are_an_error(few_digits: ImageData) -> None:
    ticket = fresh(few_digits)
    ticket.network.fc.register_full_backward_hook(lambda _module, inputs, _outputs: (inputs[0] * torch.inf,))
    with pytest.raises(TrainingError, match=r"training diverged: the gradient norm is (inf|nan)"):
        quietly(ticket, few_digits, precision="fp16", epochs=20)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_with_weights_of_another_type_is_trained_in_that_or_refused(
    few_digits: ImageData, kind: torch.dtype
) -> None:
    name = str(kind).removeprefix("torch.")

    def own() -> Ticket:
        return Ticket.from_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(kind), few_digits)

    for precision in KINDS:
        with pytest.raises(TrainingError, match=rf"weights in {name}. Leave --precision out"):
            quietly(own(), few_digits, precision=precision)
    ticket = quietly(own(), few_digits, batch_size=32, learning_rate=0.5)
    assert ticket.history[-1]["train_loss"] < ticket.history[0]["train_loss"]
    assert {value.dtype for value in ticket.network.parameters()} == {kind}
    assert ticket.training["precision"] == name


def test_a_device_that_cannot_is_said_before_training(few_digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError('"slow_conv2d" not implemented\nfor Half.')

    with monkeypatch.context() as patch:
        patch.setattr("robustprune.training.precision.F", SimpleNamespace(conv2d=refuse))
        with pytest.raises(
            TrainingError, match=r"'cpu' cannot train in fp16: .*not implemented for Half\. Train in bf16"
        ):
            quietly(fresh(few_digits), few_digits, precision="fp16")
    # As torch leaves autocast out for types that it does not know on a device.
    monkeypatch.setattr(torch, "autocast", partial(torch.autocast, enabled=False))
    with pytest.raises(TrainingError, match=r"cannot train in bf16: .*in float32\. Train in fp32 \(--precision\)"):
        quietly(fresh(few_digits), few_digits, precision="bf16")


def test_precision_is_recorded_and_the_default_leaves_no_trace_in_hashes(few_digits: ImageData, tmp_path: Path) -> None:
    ticket = quietly(fresh(few_digits), few_digits, epochs=1, precision="bf16")
    ticket.save(tmp_path / "ticket.pt")
    loaded = load_ticket(tmp_path / "ticket.pt").training
    assert loaded["precision"] == loaded["recipe"]["precision"] == "bf16"
    assert Recipe.of(loaded["recipe"]) == Recipe("quick", epochs=1, batch_size=64, precision="bf16")
    plain = Recipe("quick", precision="fp32", compile=False)
    assert plain == Recipe()
    assert not {"precision", "compile"} & plain.model_dump().keys()
    assert Recipe("quick", precision="bf16", compile=True).model_dump() == {
        **plain.model_dump(mode="json"), "precision": "bf16", "compile": True,
    }  # fmt: skip
    with pytest.raises(TrainingError, match="'fp32', 'bf16' or 'fp16'"):
        Recipe("quick", precision="half")


def test_command_line(run: Run) -> None:
    options = ("--model", "resnet20", "--epochs", "1", "--no-energy", "--train-limit", "200", "--dataset", "digits")
    for precision in ("bf16", "fp16"):
        done = run("train", *options, "--precision", precision, "--out", f"{precision}.pt")
        assert done.code == 0, done.err
        assert load_ticket(f"{precision}.pt").training["recipe"]["precision"] == precision


@pytest.mark.slow
def test_compiled_training_is_that_of_the_network_as_it_is(
    few_digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's own tracer without a compiler behind it; its graphs run the operations as they are."""
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        compiled.append(len(graph.graph.nodes))
        return graph.forward

    # Strided 1×1 convolutions of few channels, whose gradients are made sound by a mode that the tracer has to see.
    ticket, traced = (fresh(few_digits) for _ in range(2))
    traced.network.load_state_dict(ticket.network.state_dict())
    expected = quietly(ticket, few_digits)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    found = quietly(traced, few_digits, compile=True)
    assert sum(compiled) > 60  # layers of a ResNet20
    assert found.sha256 == expected.sha256
    assert found.training["recipe"]["compile"] is True
    assert type(found.network) is type(expected.network)
