"""Going back to an earlier epoch, against the states that training itself passed through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from robustprune.data import ImageData
from robustprune.errors import PruningError, TrainingError
from robustprune.models import build_model
from robustprune.pruning import score_blocks
from robustprune.tickets import prune_layers
from robustprune.tickets.rewinding import RewindPoint, parse_rewind_point, reinitialize, rewind
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe, train, train_to_file

EPOCHS = 4


def fresh(data: ImageData, **options: Any) -> Ticket:
    return Ticket.from_model(build_model("resnet20", data, width=4, **options), data)


def state(ticket: Ticket) -> dict[str, Tensor]:
    return ticket.network.state_dict()


def equal(first: Ticket, second: Ticket) -> bool:
    return first.sha256 == second.sha256


@pytest.fixture(scope="module")
def passed_through(few_digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """The dense network's state after 0, 1, … epochs, read from the network while it trains."""
    ticket = fresh(few_digits)
    states = [{name: value.clone() for name, value in state(ticket).items()}]

    def on_epoch(_entry: object, _epochs: int) -> None:
        states.append({name: value.clone().contiguous() for name, value in state(ticket).items()})

    out = tmp_path_factory.mktemp("passed") / "ticket.pt"
    train_to_file(ticket, few_digits, out, epochs=EPOCHS, batch_size=64, country=None, on_epoch=on_epoch)
    return states


@pytest.fixture(scope="module")
def dense(few_digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ticket, dict[int, Ticket]]:
    """The trained network, and what it kept on the way."""
    folder = tmp_path_factory.mktemp("dense")
    keep = {epoch: folder / f"{epoch}.pt" for epoch in range(1, EPOCHS)}
    start = fresh(few_digits)
    start.save(folder / "0.pt")
    trained = train_to_file(
        start, few_digits, folder / "trained.pt", epochs=EPOCHS, batch_size=64, country=None, keep=keep
    )
    return trained, {epoch: load_ticket(folder / f"{epoch}.pt") for epoch in range(EPOCHS)}


@pytest.mark.quick_cases(3)
@pytest.mark.parametrize("epoch", range(EPOCHS))
@pytest.mark.parametrize("criterion", ["hrank", "random"])
def test_what_is_kept_is_bit_equal_to_then(
    dense: tuple[Ticket, dict[int, Ticket]],
    passed_through: list[dict[str, Tensor]],
    few_digits: ImageData,
    epoch: int,
    criterion: str,
) -> None:
    trained, earlier = dense
    found = prune_layers(trained, score_blocks(trained.network, few_digits, criterion), blocks=2)
    before = {name: value.clone() for name, value in state(found).items()}
    rewound = rewind(found, earlier[epoch], epoch)
    kept = [name for name in passed_through[epoch] if not name.startswith(tuple(f"{b}." for b in found.plan.removed))]
    assert list(state(rewound)) == kept
    assert any("running_var" in name for name in kept)
    for name, value in state(rewound).items():
        assert value.numpy().tobytes() == passed_through[epoch][name].numpy().tobytes(), name
    assert rewound.plan.rewound_to == epoch
    assert (rewound.history, rewound.training) == ([], {})
    assert [run["epochs"] for run in rewound.earlier_training] == [EPOCHS]  # it took the dense training to find it
    assert all(torch.equal(value, before[name]) for name, value in state(found).items())
    assert load_ticket_again(rewound).plan == rewound.plan


def load_ticket_again(ticket: Ticket) -> Ticket:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ticket.save(Path(folder) / "t.pt")
        return load_ticket(Path(folder) / "t.pt")


@pytest.mark.parametrize("start", [1, 3])
def test_resumed_run_without_momentum_is_the_run_that_never_stopped(few_digits: ImageData, start: int) -> None:
    """Without momentum nothing but weights and epoch goes from one epoch into the next: the ends are bit-equal."""
    recipe = Recipe("quick", epochs=EPOCHS, batch_size=64, momentum=0.0, learning_rate=0.05)
    whole = train(fresh(few_digits), few_digits, recipe=recipe, country=None)
    first = train(fresh(few_digits), few_digits, recipe=recipe, stop_epoch=start, country=None)
    assert not equal(first, whole)
    second = train(first, few_digits, recipe=recipe, start_epoch=start, country=None)
    assert equal(second, whole)
    timeless = [{k: v for k, v in entry.items() if "second" not in k} for entry in whole.history]
    assert [{k: v for k, v in entry.items() if "second" not in k} for entry in second.history] == timeless[start:]
    assert second.training["start_epoch"] == start


@pytest.mark.parametrize("recipe", ["quick", "paper"])
def test_learning_rates_are_those_of_the_epochs_that_are_left(few_digits: ImageData, recipe: str) -> None:
    options = {"recipe": recipe, "epochs": 8, "batch_size": 64, "country": None}
    rates = [entry["learning_rate"] for entry in train(fresh(few_digits), few_digits, **options).history]
    ticket = train(fresh(few_digits), few_digits, start_epoch=3, **options)
    assert [entry["epoch"] for entry in ticket.history] == [4, 5, 6, 7, 8]
    assert [entry["learning_rate"] for entry in ticket.history] == rates[3:]


def test_killed_after_keeping_and_resumed_keeps_the_same(few_digits: ImageData, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(entry: dict[str, Any], _epochs: int) -> None:
        if entry["epoch"] == 2:
            raise Killed

    options: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 64, "country": None}
    straight = {2: tmp_path / "straight.pt", 3: tmp_path / "straight3.pt"}
    train_to_file(fresh(few_digits), few_digits, tmp_path / "straight.out", keep=straight, **options)
    keep, out = {2: tmp_path / "a.pt", 3: tmp_path / "b.pt"}, tmp_path / "out.pt"
    with pytest.raises(Killed):
        train_to_file(fresh(few_digits), few_digits, out, keep=keep, on_epoch=kill, **options)
    train_to_file(fresh(few_digits), few_digits, out, keep=keep, resume=True, **options)
    for epoch, path in keep.items():
        assert equal(load_ticket(path), load_ticket(straight[epoch]))
        assert len(load_ticket(path).history) == epoch


def test_reinitialized_weights_are_new_and_reproducible(dense: tuple[Ticket, dict[int, Ticket]]) -> None:
    trained, earlier = dense
    again = reinitialize(trained)
    assert equal(again, reinitialize(trained))
    rebuilt = build_model("resnet20", trained.architecture, width=4, seed=again.seed)
    assert all(torch.equal(value, rebuilt.state_dict()[name]) for name, value in state(again).items())
    assert not any(
        torch.equal(value, state(earlier[0])[name]) for name, value in state(again).items() if "conv" in name
    )
    assert again.plan.rewound_to == "random"


def test_points_by_epoch_share_and_name() -> None:
    points = [parse_rewind_point(text, epochs=20) for text in ("0", "25%", " 50% ", 5, "random", "12.5%")]
    assert [point.origin for point in points] == [0, 5, 10, 5, "random", 2]
    assert points[1] == points[3] == RewindPoint(5)


@pytest.mark.parametrize("text", ["20", "100%", "30", "-1", "1.5", "early", "", "25 %%"])
def test_points_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(PruningError, match="rewind"):
        parse_rewind_point(text, epochs=20)


def test_other_architecture_is_refused(dense: tuple[Ticket, dict[int, Ticket]], few_digits: ImageData) -> None:
    other = Ticket.from_model(build_model("resnet32", few_digits, width=4), few_digits)
    with pytest.raises(PruningError, match="resnet20 cannot be rewound to weights of resnet32"):
        rewind(dense[0], other, 0)


@pytest.mark.parametrize(("start", "stop"), [(4, None), (-1, None), (0, 5), (3, 3), (2, 1)])
def test_epochs_that_are_no_part_of_the_run(few_digits: ImageData, start: int, stop: int | None) -> None:
    with pytest.raises(TrainingError, match="no part of a training of 4 epochs"):
        train(fresh(few_digits), few_digits, epochs=4, start_epoch=start, stop_epoch=stop)
