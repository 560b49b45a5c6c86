"""An attack that is interrupted at any query and picked up ends as one that never was, and repeats one part at most."""

import copy
import types
from collections import Counter
from functools import partial

import pytest
import torch
from test_attack_defects import AlwaysDrops
from torch import nn

from robustprune.attacks import AttackProblem, run_attack, transfer_attack
from robustprune.attacks.engine import chunk_runner
from robustprune.attacks.engine.full_checks import FEW_PROBED
from robustprune.attacks.losses import cross_entropy
from robustprune.attacks.registry import named
from robustprune.errors import AttackError
from robustprune.runtime.work import Work

ENSEMBLE = {"attack": "autoattack", "epsilon": 0.06, "steps": 4, "queries": 8, "target_classes": 2}
CASES = {
    "ensemble": ENSEMBLE,
    "restarts": ENSEMBLE | {"restarts": 2},
    "without early stopping": ENSEMBLE | {"early_stop": False, "selection": "last"},
    "one piece": {"attack": "pgd", "epsilon": 0.06, "steps": 5, "restarts": 2},
    "momentum": {"attack": "mifgsm", "epsilon": 0.06, "steps": 9},
    "targets in turn": {"attack": "apgd-t", "epsilon": 0.06, "steps": 5, "target_classes": 3},
    "in l2": {"attack": "square", "norm": "l2", "epsilon": 0.6, "queries": 15},
    "the nearest": {"attack": "fmn", "norm": "l2", "steps": 6, "restarts": 2},
    "another package": {"attack": "torchattacks:PGD", "epsilon": 0.06, "steps": 3, "batch_size": 30},
}


class Stop(Exception):
    pass


@pytest.fixture
def stop_after(monkeypatch):
    """Let the process die, so to speak, at the first question after so many; return a list of all asked."""
    ask, asked = AttackProblem.ask, []

    def begin(limit):
        asked.clear()

        def limited(problem, rows, *arguments, **options):
            if len(problem.labels) == FEW_PROBED:  # a check, which is made anew
                return ask(problem, rows, *arguments, **options)
            if len(asked) >= limit:
                raise Stop
            asked.append((id(problem), problem.restart, problem.stage))
            return ask(problem, rows, *arguments, **options)

        monkeypatch.setattr(AttackProblem, "ask", limited)
        return asked

    return begin


def check_equal(resumed, whole):
    for field in ("broken", "adversarial", "broken_at_step", "queries", "adversarial_predictions"):
        assert torch.equal(getattr(resumed, field), getattr(whole, field)), field
    for field in ("broken_by", "options", "checks", "gradient_evaluations", "forward_evaluations"):
        assert getattr(resumed, field) == getattr(whole, field), field


LONG = ("ensemble", "restarts", "targets in turn")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case in LONG)) for case in CASES])
def test_whatever_the_moment(network, test_images, test_labels, tmp_path, monkeypatch, stop_after, case):
    monkeypatch.setattr(chunk_runner, "CHUNK_SAMPLES", 60)  # two chunks
    settings = {"batch_size": 30, **CASES[case]}
    images, labels = test_images[:90], test_labels[:90]
    asked = stop_after(torch.inf)
    whole = run_attack(network, images, labels, **settings)
    total, longest = len(asked), max(Counter(asked).values())
    for moment in range(1, total, max(total // 3, 1)):
        work = Work(folder=tmp_path / str(moment))
        asked = stop_after(moment)
        with pytest.raises(Stop):
            run_attack(network, images, labels, work=work, **settings)
        asked = stop_after(torch.inf)
        resumed = run_attack(network, images, labels, work=work, **settings)
        check_equal(resumed, whole)
        assert moment + len(asked) <= total + longest
    asked = stop_after(torch.inf)
    check_equal(run_attack(network, images, labels, work=work, **settings), whole)
    assert asked == []


@pytest.mark.slow
def test_interrupted_again_and_again(network, test_images, test_labels, tmp_path, stop_after):
    settings = ENSEMBLE | {"restarts": 2}
    asked = stop_after(torch.inf)
    whole = run_attack(network, test_images, test_labels, **settings)
    longest = max(Counter(asked).values())
    resumed, attempts = None, 0
    while resumed is None:
        asked, attempts = stop_after(longest + 1), attempts + 1
        try:
            resumed = run_attack(network, test_images, test_labels, work=Work(folder=tmp_path), **settings)
        except Stop:
            assert len(asked) == longest + 1
    check_equal(resumed, whole)
    assert attempts > 3


@pytest.mark.slow
def test_seconds_are_those_of_all_sessions(network, test_images, test_labels, tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(chunk_runner, "CHUNK_SAMPLES", 60)  # two chunks
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    draw = AttackProblem.draw

    def slow_draw(*arguments):
        now[0] += 1000
        return draw(*arguments)

    monkeypatch.setattr(AttackProblem, "draw", slow_draw)
    settings = {"epsilon": 0.001, "steps": 5, "restarts": 3, "batch_size": 30}
    asked = stop_after(torch.inf)
    whole = run_attack(network, test_images[:90], test_labels[:90], **settings)
    # A draw for each restart of each chunk, and one of the check of a large budget.
    assert whole.seconds == (2 * 3 + 1) * 1000
    total = len(asked)
    for moment in (1, total // 4, total // 2 + 3, total - 1):
        work = Work(folder=tmp_path / str(moment))
        stop_after(moment)
        with pytest.raises(Stop):
            run_attack(network, test_images[:90], test_labels[:90], work=work, **settings)
        stop_after(torch.inf)
        resumed = run_attack(network, test_images[:90], test_labels[:90], work=work, **settings)
        # What was lost with the part that was interrupted is not counted.
        assert resumed.seconds == whole.seconds, moment
    stop_after(torch.inf)
    again = run_attack(network, test_images[:90], test_labels[:90], work=work, **settings)
    assert again.seconds == whole.seconds
    moved = transfer_attack(network, network, test_images[:90], test_labels[:90], "pgd", **settings)
    picked_up = {**settings, "work": Work(folder=tmp_path / "moved")}
    for _ in range(2):
        found = transfer_attack(network, network, test_images[:90], test_labels[:90], "pgd", **picked_up)
        assert found.seconds == moved.seconds > 0


def other_loss(logits, labels):
    return cross_entropy(logits, labels)


def test_the_state_of_an_attack_with_a_loss_of_ones_own(network, test_images, test_labels, tmp_path, stop_after):
    """In another process the same function has another address, as here a function made anew."""

    def made_anew(function):
        return types.FunctionType(function.__code__, function.__globals__, function.__name__)

    settings = {"epsilon": 0.06, "steps": 5, "work": Work(folder=tmp_path)}
    run_attack(network, test_images, test_labels, loss=other_loss, **settings)
    run_attack(network, test_images, test_labels, loss=cross_entropy, **settings)
    assert len(list(tmp_path.iterdir())) == 2
    asked = stop_after(torch.inf)
    again = run_attack(network, test_images, test_labels, loss=made_anew(other_loss), **settings)
    assert asked == []
    whole = run_attack(network, test_images, test_labels, loss="ce", epsilon=0.06, steps=5)
    assert torch.equal(again.adversarial, whole.adversarial)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("ce", "ce"),
        (3, 3),
        (cross_entropy, "robustprune.attacks.losses.cross_entropy"),
        (nn.CrossEntropyLoss(), "torch.nn.modules.loss.CrossEntropyLoss"),
        (partial(cross_entropy, labels=2), "robustprune.attacks.losses.cross_entropy with [{'labels': 2}]"),
        (
            {"stages": {"a": {"loss": cross_entropy}}},
            {"stages": {"a": {"loss": "robustprune.attacks.losses.cross_entropy"}}},
        ),
    ],
    ids=["name", "number", "function", "module", "partial", "nested"],
)
def test_functions_go_by_their_names(value, name):
    assert named(value) == name


def test_a_network_that_draws_goes_on_drawing(network, test_images, test_labels, tmp_path, stop_after):
    model = nn.Sequential(AlwaysDrops(), network)
    settings = {"attack": "quick", "epsilon": 0.06, "eot": 2}
    whole = run_attack(model, test_images[:60], test_labels[:60], **settings)
    stop_after(15)  # within the second part
    with pytest.raises(Stop):
        run_attack(model, test_images[:60], test_labels[:60], work=Work(folder=tmp_path), **settings)
    stop_after(torch.inf)
    resumed = run_attack(model, test_images[:60], test_labels[:60], work=Work(folder=tmp_path), **settings)
    check_equal(resumed, whole)


@pytest.mark.slow
def test_a_state_is_that_of_one_attack(network, test_images, test_labels, tmp_path):
    work = Work(folder=tmp_path)

    def check(change, model=network, images=test_images, labels=test_labels):
        found = run_attack(model, images, labels, work=work, **(ENSEMBLE | change))
        check_equal(found, run_attack(model, images, labels, **(ENSEMBLE | change)))
        return len(list(tmp_path.iterdir()))

    other = copy.deepcopy(network)
    other[0].bias.data += 0.1
    counts = [check(change) for change in ({}, {"epsilon": 0.07}, {"seed": 1}, {"steps": 7})]
    counts += [check({}, images=test_images[:100], labels=test_labels[:100]), check({}, other)]
    assert counts == [1, 2, 3, 4, 5, 6]
    assert check({}) == 6


def test_a_state_that_is_damaged_is_refused(network, test_images, test_labels, tmp_path):
    work = Work(folder=tmp_path)
    run_attack(network, test_images, test_labels, work=work, **ENSEMBLE)
    (state,) = tmp_path.iterdir()
    found = torch.load(state, weights_only=True)
    torch.save(found | {"best": {}}, state)
    with pytest.raises(AttackError, match="is damaged"):
        run_attack(network, test_images, test_labels, work=work, **ENSEMBLE)
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(AttackError, match="no state of an attack"):
        run_attack(network, test_images, test_labels, work=work, **ENSEMBLE)
