"""Attacks as part of an evaluation: curves, unions, transfers, and what the record and its files say of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import TINY, Run, check_failure

from robustprune.attacks import AttackProblem, clear_states, run_attack
from robustprune.attacks.engine.full_checks import FEW_PROBED
from robustprune.attacks.requests import Attacks
from robustprune.cli.attack_options import accuracy_table
from robustprune.data import ImageData
from robustprune.errors import AttackError
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.pruning import prunable_convolutions, score_blocks, score_filters
from robustprune.records import load_record
from robustprune.runtime.work import Work
from robustprune.tickets import prune_filters, prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import train


@pytest.fixture(scope="module")
def ticket(digits: ImageData) -> Ticket:
    ticket = Ticket.from_model(build_model("resnet20", digits, width=4), digits)
    return train(ticket, digits, epochs=2, country=None)


@pytest.fixture(scope="module")
def other(digits: ImageData) -> Ticket:
    other = Ticket.from_model(build_model("resnet20", digits, width=4, seed=5), digits)
    return train(other, digits, epochs=2, seed=5, country=None)


BUDGETS = ["0.1", "0.02", "0.05"]


def test_a_curve_is_on_record(ticket: Ticket, digits: ImageData, tmp_path: Path) -> None:
    record = evaluate(ticket, digits, attacks=Attacks("pgd", epsilons=BUDGETS, steps=3), limit=60)
    (curve,) = record.curves
    assert curve.epsilons == [0.02, 0.05, 0.1]
    assert curve.robust_accuracy == [entry.robust_accuracy for entry in record.attacks]
    assert curve.robust_accuracy == sorted(curve.robust_accuracy, reverse=True)
    assert record.samples is not None
    broken = np.array([record.samples[f"attack{i}_broken"] for i in range(3)])
    minimal = np.where(broken.any(0), np.array(curve.epsilons)[broken.argmax(0)], np.inf)
    minimal[record.samples["attack0_step"] == 0] = 0
    median = np.sort(minimal)[30]
    assert curve.median_minimal_epsilon == (median if np.isfinite(median) else None)
    record.save(tmp_path / "record.json")
    again = load_record(tmp_path / "record.json")
    assert again.curves == record.curves
    assert evaluate(ticket, digits, attacks=Attacks("fgsm", epsilons="0.1"), limit=20).curves == []


def test_each_sample_says_what_broke_it(ticket: Ticket, digits: ImageData) -> None:
    attacks = Attacks(["pgd", "fgsm"], epsilons="0.05", steps=3, union=True)
    record = evaluate(ticket, digits, attacks=attacks, limit=60)
    (entry,) = record.attacks
    assert entry.name == "union"
    assert list(entry.options["attacks"]) == ["fgsm", "pgd"]
    assert record.samples is not None
    parts = np.array(entry.parts)[record.samples["attack0_part"]]
    assert np.array_equal(parts != "", record.samples["attack0_broken"])
    assert np.array_equal(parts == "clean", record.samples["clean_prediction"] != record.samples["label"])
    assert "fgsm" in parts


def test_options_of_one_attack_are_its_own(ticket: Ticket, digits: ImageData) -> None:
    asked = Attacks("pgd:steps=2,restarts=2,pgd:steps=3,loss=margin,pgd,fgsm", epsilons="0.05", steps=1)
    record = evaluate(ticket, digits, attacks=asked, limit=30)
    found = {entry.name: (entry.steps, entry.restarts, entry.options.get("loss")) for entry in record.attacks}
    assert found == {
        "pgd:steps=2,restarts=2": (2, 2, "ce"),
        "pgd:steps=3,loss=margin": (3, 1, "margin"),
        "pgd": (1, 1, "ce"),
        "fgsm": (None, 1, "ce"),
    }
    together = evaluate(ticket, digits, attacks=asked.model_copy(update={"union": True}), limit=30).attacks[0]
    assert set(together.options["attacks"]) == set(found)
    assert together.robust_accuracy <= min(entry.robust_accuracy for entry in record.attacks)


def gap_of_logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.amax(1) - logits.gather(1, labels[:, None])[:, 0]


@pytest.mark.parametrize("union", [False, True])
def test_a_loss_of_ones_own_goes_by_its_name(ticket: Ticket, digits: ImageData, tmp_path: Path, union: bool) -> None:
    attacks = Attacks("pgd", epsilons="0.05", steps=2, loss=gap_of_logits, union=union)
    record = evaluate(ticket, digits, attacks=attacks, limit=20)
    record.save(tmp_path / "record.json")
    (entry,) = load_record(tmp_path / "record.json").attacks
    options = entry.options["attacks"]["pgd"] if union else entry.options
    assert options["loss"] == f"{__name__}.gap_of_logits"


def test_transfer_and_saved_images(ticket: Ticket, other: Ticket, digits: ImageData, tmp_path: Path) -> None:
    settings = {"transfer_from": other.model(), "save_adversarial": tmp_path / "found.npz"}
    record = evaluate(ticket, digits, attacks=Attacks("pgd", epsilons="0.05", steps=3, **settings), limit=60)
    direct, moved = record.attacks
    assert (direct.name, moved.name) == ("pgd", "transfer:pgd")
    assert "transfer" in [check.name for check in direct.checks]
    with (
        np.load(tmp_path / "found.npz-pgd-0.05.npz") as found,
        np.load(tmp_path / "found.npz-transfer-pgd-0.05.npz") as other_,
    ):
        assert float((found["broken"] == 0).mean()) == pytest.approx(direct.robust_accuracy)
        assert float((other_["broken"] == 0).mean()) == pytest.approx(moved.robust_accuracy)
        network = ticket.model()
        with torch.no_grad():
            predictions = network(torch.tensor(found["adversarial"])).argmax(1).numpy()
        assert np.array_equal(predictions, found["adversarial_predictions"])


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.slow
def test_what_is_finished_is_not_attacked_again(
    ticket: Ticket, other: Ticket, digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, union: bool
) -> None:
    states = tmp_path / "states"
    work = Work(folder=states)
    attacks = Attacks(["quick", "fgsm"], epsilons=["0.03", "0.05"], union=union, transfer_from=other.model())
    whole = evaluate(ticket, digits, attacks=attacks, limit=30)
    evaluate(ticket, digits, attacks=attacks, limit=30, work=work)
    # Two attacks at two budgets, on the network and on the other.
    assert len(list(states.iterdir())) == 8
    asked: list[int] = []
    ask = AttackProblem.ask
    monkeypatch.setattr(
        AttackProblem,
        "ask",
        lambda problem, *args, **more: (asked.append(len(problem.labels)), ask(problem, *args, **more))[1],
    )
    again = evaluate(ticket, digits, attacks=attacks, limit=30, work=work)
    assert set(asked) <= {FEW_PROBED}  # a check, which is made anew
    for field in ("name", "epsilon", "robust_accuracy", "parts", "options", "gradient_evaluations"):
        assert [getattr(entry, field) for entry in again.attacks] == [getattr(entry, field) for entry in whole.attacks]
    assert whole.samples is not None
    assert again.samples is not None
    for name, values in whole.samples.items():
        assert np.array_equal(again.samples[name], values), name
    clear_states(work)
    assert list(states.iterdir()) == []


def test_evaluations_that_share_a_folder_leave_each_other_what_they_kept(
    ticket: Ticket, digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, ask = tmp_path / "states", AttackProblem.ask
    attacks = Attacks(["fgsm", "pgd"], epsilons="0.05")
    left = [4]

    def ask_until_interrupted(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return ask(*args, **more)

    monkeypatch.setattr(AttackProblem, "ask", ask_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(ticket, digits, attacks=attacks, limit=20, work=Work(folder=states))
    monkeypatch.undo()
    kept = {path: path.read_bytes() for path in states.iterdir()}
    assert kept
    other = Work(folder=states)
    evaluate(ticket, digits, attacks=Attacks("pgd", epsilons="0.05", steps=6), limit=20, work=other)
    assert len(list(states.iterdir())) > len(kept)
    clear_states(other)
    assert {path: path.read_bytes() for path in states.iterdir()} == kept
    same = Work(folder=states)
    evaluate(ticket, digits, attacks=attacks, limit=20, work=same)
    clear_states(same)
    assert list(states.iterdir()) == []


@pytest.mark.slow
def test_examples_of_all_attacks_together_are_shown_to_the_network(
    ticket: Ticket, other: Ticket, digits: ImageData
) -> None:
    asked: dict[str, Any] = {"epsilons": "0.05", "steps": 3, "transfer_from": other.model()}
    alone = evaluate(ticket, digits, attacks=Attacks(["pgd", "fgsm"], **asked), limit=60)
    union = evaluate(ticket, digits, attacks=Attacks(["pgd", "fgsm"], **asked, union=True), limit=60)
    assert [entry.name for entry in alone.attacks] == ["pgd", "fgsm", "transfer:pgd", "transfer:fgsm"]
    assert [entry.name for entry in union.attacks] == ["union", "transfer:union"]
    assert alone.samples is not None
    assert union.samples is not None
    broken = alone.samples["attack2_broken"] | alone.samples["attack3_broken"]
    assert np.array_equal(union.samples["attack1_broken"], broken)
    parts = np.array(union.attacks[1].parts)[union.samples["attack1_part"]]
    assert set(parts) <= {"", "clean", "transfer:pgd", "transfer:fgsm"}
    assert np.array_equal(parts != "", broken)
    (check,) = [check for check in union.attacks[0].checks if check.name == "transfer"]
    further = broken & ~union.samples["attack0_broken"]
    assert f"a further {further.mean():.2%}" in check.detail


def test_options_of_attacks_that_come_to_nothing(run: Run) -> None:
    model = ["evaluate", "--model", "resnet20", "--limit", "10"]
    for option in (["--union"], ["--strict"], ["--mitigate"], ["--save-adversarial", "found.npz"]):
        check_failure(run(*model, *option), 2, option[0], "--attack pgd")
    several = [*model, "--extra-model", "resnet32", "--attack", "fgsm", "--save-adversarial", "found.npz"]
    check_failure(run(*several), 2, "one by one")


def test_settings_that_do_not_exist(ticket: Ticket, digits: ImageData) -> None:
    with pytest.raises(AttackError, match=r"'onion' is no option of fgsm"):
        evaluate(ticket, digits, attacks=Attacks("fgsm", onion=True), limit=20)


def test_the_command_line(ticket: Ticket, tmp_path: Path, run: Run) -> None:
    ticket.save(tmp_path / "ticket.pt")
    arguments = ["evaluate", "--model", "ticket.pt", "--limit", "40", "--threads", "1"]
    arguments += ["--attack", "pgd", "--steps", "2", "--eps", "0.02,0.05", "--resume", "--out", "record.json"]
    done = run(*arguments, "--strict", "--json", "--checks", "full")
    assert done.code == 0, done.err
    record = json.loads(done.out)
    assert [entry["epsilon"] for entry in record["attacks"]] == [0.02, 0.05]
    assert "black box" in [check["name"] for check in record["attacks"][0]["checks"]]
    assert not Path("record.json.resume").exists()
    Path("record.json.resume").write_text("a file")
    check_failure(run(*arguments), 2, "record.json.resume, which is a file")
    Path("record.json.resume").unlink()
    assert "half are broken at" in run(*arguments).out


def test_strict_refuses_figures_that_a_check_withholds(
    ticket: Ticket, digits: ImageData, tmp_path: Path, run: Run
) -> None:
    saturated = copy.deepcopy(ticket)  # other tests attack the ticket itself
    with torch.no_grad():
        for parameter in saturated.network.fc.parameters():  # type: ignore[union-attr]
            parameter *= 1e5
    saturated.save(tmp_path / "ticket.pt")
    arguments = ["evaluate", "--model", "ticket.pt", "--limit", "40", "--threads", "1", "--attack", "pgd", "--json"]
    lenient, strict = run(*arguments), run(*arguments, "--strict")
    assert (lenient.code, strict.code) == (0, 1)
    for outcome in (lenient, strict):
        assert json.loads(outcome.out)["attacks"][0]["valid"] is False
    assert "zero gradient" in strict.err


def filter_scores(ticket: Ticket, digits: ImageData) -> Any:
    return score_filters(ticket.network, list(prunable_convolutions(ticket.network).values()), digits, "l1")


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("kind", ["dense", "layers", "filters", "adversarial", "torchvision"])
def test_healthy_networks_fail_no_check(ticket: Ticket, digits: ImageData, kind: str) -> None:
    made = {
        "dense": lambda: ticket,
        "layers": lambda: prune_layers(ticket, score_blocks(ticket.network, digits, "snip"), blocks=2, data=digits),
        "filters": lambda: prune_filters(ticket, filter_scores(ticket, digits), filters=10),
        "adversarial": lambda: train(
            Ticket.from_model(build_model("resnet20", digits, width=4), digits),
            digits, epochs=1, adversarial="fgsm", epsilon=0.05, country=None,
        ),
        "torchvision": lambda: Ticket.from_model(build_model("torchvision:resnet18", digits), digits),
    }  # fmt: skip
    record = evaluate(made[kind](), digits, attacks=Attacks(["pgd", "quick"], epsilons="0.03", steps=3), limit=30)
    assert [(entry.name, check) for entry in record.attacks for check in entry.checks if check.verdict == "FAIL"] == []


def test_a_table_withholds_what_a_check_withholds(
    ticket: Ticket, digits: ImageData, capsys: pytest.CaptureFixture[str]
) -> None:
    record = evaluate(ticket, digits, attacks=Attacks("fgsm", epsilons=BUDGETS), limit=20)
    (curve,) = record.curves
    curve.median_minimal_epsilon = 0.1
    for entry, share in zip(record.attacks, (0.81, 0.62, 0.43), strict=True):
        entry.robust_accuracy = share
    accuracy_table(record)
    drawn = capsys.readouterr().out
    assert all(words in drawn for words in ("81.0", "62.0", "43.0", "half are broken at 0.1"))
    record.attacks[1].valid = curve.valid = False
    accuracy_table(record)
    drawn = capsys.readouterr().out
    assert all(words in drawn for words in ("81.0", "43.0", "invalid"))
    assert "62.0" not in drawn
    assert "half are broken" not in drawn


def test_the_device_is_handed_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = torch.device("meta")
    monkeypatch.setattr("robustprune.runtime.devices.choose_device", lambda name: meta)
    asked: list[torch.device] = []

    def caught(_tickets: dict[str, Ticket], *_arguments: Any, **options: Any) -> None:
        asked.append(options["device"])
        raise AttackError("as far as this goes")

    monkeypatch.setattr("robustprune.evaluation.evaluate_models", caught)
    others = ("--extra-model", "resnet32", "--transfer-from", "resnet20")
    check_failure(run("evaluate", "--model", "resnet20", *others, "--attack", "fgsm"), 1, "as far as this goes")
    assert asked == [meta]


@pytest.mark.parametrize("name", ["apgd-ce", "apgd-dlr", "apgd-t", "autoattack", "square", "medium", "strong"])
def test_a_norm_that_an_attack_does_not_know_is_found_out_first(digits: ImageData, name: str) -> None:
    class Untouched(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pytest.fail("asked before it was known that the attacks can be run")

    with pytest.raises(AttackError, match=f"'{name}' is for linf, l2 and l1; in l0, attack with 'fmn' or"):
        evaluate(Untouched(), digits, attacks=Attacks(["fmn", name], epsilons=["4"], norm="l0"), limit=10)
    labels = torch.zeros(1, dtype=torch.long)
    with pytest.raises(AttackError, match="is for linf, l2 and l1"):
        run_attack(Untouched(), torch.zeros(1, 1, 8, 8), labels, name, norm="l0", epsilon=4)


def test_a_step_may_be_a_fraction(run: Run) -> None:
    attacking = ("evaluate", *TINY, "--attack", "pgd", "--steps", "2", "--limit", "20", "--json")
    by_fraction, by_number = (run(*attacking, "--step-size", size).json["attacks"] for size in ("4/250", "0.016"))
    assert by_fraction[0]["options"] == by_number[0]["options"]
    assert by_fraction[0]["options"]["step_size"] == 0.016
    assert by_fraction[0]["robust_accuracy"] == by_number[0]["robust_accuracy"]
