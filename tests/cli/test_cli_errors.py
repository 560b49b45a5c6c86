"""What users meet who call the command line wrongly: one clear paragraph, an exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TINY, Run, check_failure

from robustprune.data import ImageData
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.runtime.files import write_sealed
from robustprune.tickets.ticket import Ticket

WEIGHT = ("--method", "weight", "--sparsity", "0.8")
FILTER = ("--method", "filter")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, few_digits: ImageData) -> Path:
    """A folder with a ticket, its record, and files that are neither."""
    folder = tmp_path_factory.mktemp("files")
    ticket = Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)
    ticket.save(folder / "ticket.pt")
    evaluate(ticket, few_digits, limit=20).save(folder / "record.json")
    whole = bytearray((folder / "ticket.pt").read_bytes())
    (folder / "cut.pt").write_bytes(whole[:999])
    whole[len(whole) // 2] ^= 4
    (folder / "damaged.pt").write_bytes(whole)
    (folder / "cut.json").write_bytes((folder / "record.json").read_bytes()[:99])
    (folder / "folder.pt").mkdir()
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("prune", "--model", "resnet23", "--blocks", "1", "--out", "x.pt"), 1, ["Did you mean 'resnet32'"]),
        (("prune", *TINY, "--dataset", "digit", "--blocks", "1", "--out", "x.pt"), 1, ["Did you mean 'digits'"]),
        (("prune", *TINY, "--criterion", "gasp", "--blocks", "1", "--out", "x.pt"), 1, ["Did you mean 'grasp'"]),
        (("prune", *TINY, "--eligibility", "strikt", "--blocks", "1", "--out", "x.pt"), 2, ["strict"]),
        (
            ("prune", *TINY, "--criterion", "grasp:bn_mod=x", "--blocks", "1", "--out", "x.pt"),
            1,
            ["Did you mean 'bn_mode'"],
        ),
        (("prune", *TINY, "--criterion", "grasp:seed=1", "--blocks", "1", "--out", "x.pt"), 1, ["no option 'seed'"]),
        (("prune", *TINY, *WEIGHT, "--criterion", "snip:seed=1", "--out", "x.pt"), 1, ["no option 'seed'"]),
        (("blocks", "--model", "resnet20:data=1"), 1, ["data is no option of a network"]),
        (("blocks", "--model", "resnet20:width"), 1, ["no argument after a colon"]),
        (("blocks", "--model", "resnet20:wid=3"), 1, ["width"]),
        (("evaluate", *TINY, "--attack", "pgd:step=3"), 1, ["takes no option 'step'", "Did you mean 'steps'"]),
        (("evaluate", *TINY, "--attack", "pgd:step-size=1/255"), 1, ["'step-size'", "Did you mean 'step_size'"]),
        (("evaluate", *TINY, "--attack", "pgd:epsilon=1/255"), 1, ["epsilon is set for all attacks together"]),
        (("evaluate", *TINY, "--attack", "pgd,,fgsm"), 1, ["an empty name"]),
        (("evaluate", *TINY, "--attack", "pgd:linf"), 1, ["takes no argument after a colon", "pgd:key=value"]),
        (("evaluate", *TINY, "--ood", "noise", "--detector", "knn:K=5"), 1, ["'K' is no option", "Did you mean 'k'"]),
        (("prune", *TINY, "--out", "x.pt"), 2, ["Missing option '--blocks'"]),
        (("prune", *TINY, "--blocks", "1"), 2, ["Missing option '--out'"]),
        (("prune", *TINY, "--method", "weight", "--out", "x.pt"), 2, ["Missing option '--sparsity'"]),
        (("prune", *TINY, *WEIGHT, "--blocks", "1", "--out", "x.pt"), 2, ["--blocks belongs to --method layer"]),
        (("prune", *TINY, *WEIGHT, "--eligibility", "strict", "--out", "x.pt"), 2, ["--eligibility belongs to"]),
        (("prune", *TINY, *FILTER, "--out", "x.pt"), 2, ["Missing option '--match' or '--filters'"]),
        (("prune", *TINY, *FILTER, "--match-by", "macs", "--out", "x.pt"), 2, ["Missing option '--match'"]),
        (("prune", *TINY, *FILTER, "--filters", "3", "--match-by", "macs", "--out", "x.pt"), 2, ["give one"]),
        (("prune", *TINY, *FILTER, "--filters", "3", "--match", "l.pt", "--out", "x.pt"), 2, ["give one"]),
        (("prune", *TINY, *FILTER, "--filters", "3", "--blocks", "3", "--out", "x.pt"), 2, ["--blocks belongs to"]),
        (("prune", *TINY, "--blocks", "3", "--match-by", "macs", "--out", "x.pt"), 2, ["--match-by belongs to"]),
        (("prune", *TINY, *FILTER, "--filters", "999", "--out", "x.pt"), 1, ["asked for 999 filters, from 1 to 75"]),
        (
            ("prune", *TINY, "--method", "filter", "--criterion", "kl", "--filters", "3", "--out", "x.pt"),
            1,
            ["Kl does"],
        ),
        (("prune", *TINY, "--blocks", "1", "--sparsity", ".5", "--out", "x.pt"), 2, ["--sparsity belongs to"]),
        (("prune", *TINY, "--blocks", "1", "--rounds", "5", "--out", "x.pt"), 1, ["cannot go in 5 rounds"]),
        (("prune", *TINY, "--method", "weight", "--sparsity", "1", "--out", "x.pt"), 2, ["not in the range 0<x<1"]),
        (("prune", *TINY, *WEIGHT, "--rounds", "0", "--out", "x.pt"), 2, ["not in the range x>=1"]),
        (("prune", *TINY, *WEIGHT, "--criterion", "kl", "--out", "x.pt"), 1, ["Kl does not score weights: "]),
        (("prune", *TINY, "--method", "block", "--out", "x.pt"), 2, ["layer"]),
        (
            ("prune", *TINY, "--criterion", "l1:scoring_images=clean", "--blocks", "1", "--out", "x.pt"),
            1,
            ["criterion l1: there is no option 'scoring_images'", "It takes reduction"],
        ),
        (("prune", *TINY, "--blocks", "1", "--out", "."), 2, ["is a directory"]),
        (("prune", *TINY, "--blocks", "1", "--out", ""), 2, ["it is empty"]),
        (("prune", *TINY, "--blocks", "1", "--out", "file/x.pt"), 2, ["is a file"]),
        (("prune", *TINY, "--blocks", "1", "--out", "file/far/x.pt"), 2, ["is a file"]),
        (("prune", *TINY, "--blok", "1"), 2, ["Did you mean", "'--blocks'"]),
        (("prun",), 2, ["Did you mean 'prune'"]),
        (("train", "--model", "missing.pt", "--out", "x.pt"), 1, ["there is no file missing.pt"]),
        (("train", *TINY, "--recipe", "quik", "--out", "x.pt"), 2, ["'quick'"]),
        (("evaluate", *TINY, "--attack", "pdg"), 1, ["Did you mean 'pgd'"]),
        (("evaluate", *TINY, "--attack", "pgd", "--eps", "8"), 1, ["forgot /255?"]),
        (("evaluate", *TINY, "--attack", "pgd", "--eps", "abc"), 1, ["'abc'"]),
        (
            ("evaluate", *TINY, "--attack", "pgd", "--step-size", "abc"),
            2,
            ["--step-size", "such as '8/255', got 'abc'"],
        ),
        (("evaluate", *TINY, "--attack", "pgd", "--step-size", "0"), 2, ["--step-size", "above 0, got '0'"]),
        (("evaluate", *TINY, "--attack", "pgd", "--step-size", "nan"), 2, ["--step-size", "a finite number"]),
        (("evaluate", *TINY, "--attack", "fgsm", "--steps", "3"), 1, ["'steps' is no option of fgsm"]),
        (("evaluate", *TINY, "--steps", "3"), 2, ["--steps is for attacks"]),
        (("evaluate", *TINY, "--eps", "2/255"), 2, ["--eps is for attacks"]),
        (("evaluate", *TINY, "--limit", "3"), 1, ["at least 10"]),
        (("evaluate", *TINY, "--out", "file/record.json"), 2, ["is a file"]),
        (("evaluate", *TINY, "--attack", "fgsm", "--save-adversarial", "file/x.npz"), 2, ["is a file"]),
        (("evaluate", *TINY, "--attack", "fgsm", "--save-adversarial", "."), 2, ["is a directory"]),
        (("evaluate", *TINY, "--attack", "fgsm", "--resume"), 2, ["--resume", "name one with --out"]),
        (("evaluate", *TINY, "--device", "mps"), 1, ["it has: cpu"]),
        (("blocks", "--model", "file"), 1, ["no ticket can be read"]),
        (("blocks", "--model", "file:missing.py:Net"), 1, ["there is no file missing.py"]),
        (("cost", *TINY, "--dense", "missing.pt"), 1, ["there is no file missing.pt"]),
        (("list", "atacks"), 2, ["attacks"]),
        (("demo", "--out", "file"), 2, ["is a file"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input(run: Run, arguments: tuple[str, ...], code: int, words: list[str]) -> None:
    if torch.backends.mps.is_available() and "mps" in arguments:
        pytest.skip("there is such a device here")
    Path("file").write_text("a file\n")
    check_failure(run(*arguments), code, *words)
    check_failure(run(*arguments, "--json"), code, *words)
    assert os.listdir() == ["file"]


@pytest.mark.parametrize(
    ("command", "option"),
    [("corrupt", "--device"), ("blocks", "--device"), ("export", "--device"), ("lottery", "--model-code")],
)
def test_options_that_a_command_has_no_use_for_are_none_of_its(run: Run, command: str, option: str) -> None:
    check_failure(run(command, option, "cpu"), 2, "No such option", option)


def test_foreign_and_malicious_tickets(run: Run) -> None:
    class Touches:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch marker",)

    write_sealed(Path("malicious.pt"), {"format": "robustprune-ticket", "header": Touches()})
    torch.save({"weights": torch.ones(2)}, "foreign.pt")
    check_failure(run("evaluate", "--model", "malicious.pt"), 1, "malicious.pt", "other than plain tensors")
    check_failure(run("evaluate", "--model", "foreign.pt"), 1, "foreign.pt", "some other program")
    assert not Path("marker").exists()


NO_TICKETS = {
    "missing.pt": "there is no file",
    "cut.pt": "cut short",
    "damaged.pt": "is damaged",
    "folder.pt": "Is a directory",
    "record.json": "of another kind, such as a record",
}


@pytest.mark.parametrize("name", NO_TICKETS)
def test_what_is_no_ticket(run: Run, files: Path, name: str) -> None:
    place = str(files / name)
    check_failure(run("blocks", "--model", place), 1, place, NO_TICKETS[name])
    check_failure(run("prune", *TINY, *FILTER, "--match", place, "--out", "x.pt"), 1, place, NO_TICKETS[name])
    assert os.listdir() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("cost", "--model", "{}"),
        ("cost", *TINY, "--dense", "{}"),
        ("evaluate", "--model", "{}", "--out", "x.json"),
        ("evaluate", *TINY, "--extra-model", "{}", "--out", "records"),
        ("evaluate", *TINY, "--attack", "pgd", "--transfer-from", "{}", "--out", "x.json"),
        ("prune", "--model", "{}", "--blocks", "1", "--out", "x.pt"),
        ("train", "--model", "{}", "--out", "x.pt"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_record_in_place_of_its_ticket(run: Run, files: Path, arguments: tuple[str, ...]) -> None:
    place = str(files / "record.json")
    check_failure(run(*(each.replace("{}", place) for each in arguments)), 1, place, "such as a record")
    assert os.listdir() == []


NO_RECORDS = {
    "missing.json": "cannot be read",
    "cut.json": "is no record",
    "ticket.pt": "is no record but an archive of arrays, such as a ticket; `robustprune evaluate --model ",
    "folder.pt": "holds no record",
}


@pytest.mark.parametrize("name", NO_RECORDS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "dense={}", "layer={record}"),
        ("compare", "dense={record}", "layer={}"),
        ("report", "{}", "--out", "x.html"),
        ("report", "dense={record}", "layer={}", "--out", "x.html"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_what_is_no_record(run: Run, files: Path, arguments: tuple[str, ...], name: str) -> None:
    place, record = str(files / name), str(files / "record.json")
    check_failure(
        run(*(each.replace("{}", place).replace("{record}", record) for each in arguments)), 1, place, NO_RECORDS[name]
    )
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--validation-fraction", "nan"),
        ("--eps", "nan"),
        ("--eps", "8/255,"),
        ("--detector", "odin:epsilon=-1"),
        ("--detector", "gen:gamma=0"),
        ("--detector", "energy:temperature=nan"),
        ("--ood-attack", "inf"),
    ],
)
def test_numbers_that_mean_nothing(run: Run, option: str, value: str) -> None:
    about = ("--ood", "noise") if option in ("--detector", "--ood-attack") else ("--attack", "pgd")
    check_failure(run("evaluate", *TINY, "--limit", "20", *about, option, value, "--out", "x.json"), 1)
    assert os.listdir() == []


@pytest.mark.parametrize("tolerance", ["nan", "inf", "-1", "101"])
def test_tolerances_that_mean_nothing(run: Run, files: Path, tolerance: str) -> None:
    both = (f"dense={files / 'record.json'}", f"layer={files / 'record.json'}")
    check_failure(run("compare", *both, "--tolerance", tolerance), 1, "percentage points from 0 to 100")
    check_failure(run("report", *both, "--tolerance", tolerance, "--out", "x.html"), 1, "percentage points")
    assert os.listdir() == []


def test_a_lottery_that_cannot_be_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("robustprune.sweep.store.write_atomically", refuse)
    check_failure(
        run("lottery", *TINY, "--epochs", "1", "--out", "runs"), 1, "cannot be written to runs/sweeps/", "Permission"
    )
    assert os.listdir() == []


def test_interruption_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("robustprune.evaluation.cost_summary.measure_cost", interrupt)
    outcome = run("cost", *TINY)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.strip().count("\n") == 0
    assert "Error: interrupted" in outcome.err


def test_a_defect_says_so_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("robustprune.evaluation.cost_summary.measure_cost", fail)
    outcome = run("cost", *TINY)
    assert outcome.code == 1
    assert "should not happen: RuntimeError: two lines" in outcome.err
    assert outcome.err.count("\n") == 1
    monkeypatch.setenv("ROBUSTPRUNE_DEBUG", "1")
    with pytest.raises(RuntimeError, match="two"):
        run("cost", *TINY)


@pytest.mark.slow
def test_exit_codes_of_the_installed_command(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = Path(sys.executable).with_name("robustprune")
        return subprocess.run([str(command), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = call("cost", *TINY, "--threads", "1", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["dataset"] == "digits"
    failed = call("cost", "--model", "missing.pt")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == "Error: no ticket can be read: there is no file missing.pt\n"
    assert call("prune").returncode == 2
    assert call("--help").returncode == 0


def test_input_is_never_overwritten(run: Run) -> None:
    assert run("prune", *TINY, "--criterion", "random", "--blocks", "1", "--out", "a.pt").code == 0
    before = Path("a.pt").read_bytes()
    for command in (("train", "--epochs", "1"), ("evaluate",), ("prune", "--blocks", "1")):
        done = run(command[0], "--model", "a.pt", "--out", "./a.pt", *command[1:])
        assert done.code == 2
        assert "is the file that --model names" in done.err
    assert Path("a.pt").read_bytes() == before
