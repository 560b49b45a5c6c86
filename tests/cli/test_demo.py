from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from robustprune.cli import main
from robustprune.cli.demo import NAMES as READABLE
from robustprune.cli.demo import DemoResult, run_demo
from robustprune.comparison import compare
from robustprune.corruptions import HEADLINE
from robustprune.records import load_record
from robustprune.sweep import Store
from robustprune.sweep.status import status
from robustprune.tickets.ticket import load_ticket

NAMES = ("dense", "layer", "filter", "random")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    # The demo as it is, but with fewer images and budgets, and without its stop-watch.
    module = sys.modules["robustprune.cli.demo"]  # by its name, that of the command is in its place
    attacks = {"names": ["fgsm", "pgd"], "epsilons": ["8/255", "0.1"]}
    monkeypatch.setitem(module.DATA, "train_limit", 200)
    for name, value in {"attacks": attacks, "latency": False, "limit": 100}.items():
        monkeypatch.setitem(module.EVALUATION, name, value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for both tests: the command goes on from what the function has trained."""
    return tmp_path_factory.mktemp("demo")


@pytest.mark.slow
def test_tickets_records_and_report(folder: Path) -> None:
    said: list[str] = []
    shown: list[str] = []

    def again() -> DemoResult:
        shown.clear()
        return run_demo(
            folder, epochs=1, seed=0, device="cpu", say=said.append, progress=lambda label, *_: shown.append(label)
        )

    result = again()
    assert {f"train of {name} 4 seed 0" for name in ("layer grasp", "filter grasp", "layer random")} < set(shown)
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        ".robustprune-demo",
        "report.html",
        *(f"{name}{ending}" for name in NAMES for ending in (".pt", ".json", ".json.samples.npz")),
    }
    tickets = {name: load_ticket(folder / f"{name}.pt") for name in NAMES}
    assert {name: len(ticket.plan.removed) for name, ticket in tickets.items()} == {
        "dense": 0,
        "layer": 4,
        "filter": 0,
        "random": 4,
    }
    match = tickets["filter"].plan.match
    assert match is not None
    assert (match.by, match.removed) == ("filters", tuple(tickets["layer"].plan.removed))
    for name, found in result.records.items():
        record = load_record(folder / f"{name}.json")
        assert record.model_dump() == found.model_dump()
        assert record.model.sha256 == tickets[name].sha256
        assert [(entry.name, round(entry.epsilon, 3), entry.valid) for entry in record.attacks] == [
            (attack, epsilon, True) for attack in ("fgsm", "pgd") for epsilon in (0.031, 0.1)
        ]
        assert record.corruptions is not None
        assert tuple(record.corruptions.table) == HEADLINE
        assert [entry.dataset for entry in record.ood] == ["photo-patches", "noise"]
        assert record.n == 100
    # From the files alone the same comes out.
    files = {READABLE[name]: folder / f"{name}.json" for name in NAMES[1:]}
    assert compare(folder / "dense.json", files).to_dict() == result.comparison.to_dict()
    assert len(said) == 4  # what each ticket lost, and that the report is drawn
    # The folder is a sweep's, too, in which nothing is left to do.
    (standing,) = status(Store(folder))
    assert (standing["runs"], standing["finished"]) == (4, 4)
    assert again().to_dict() == result.to_dict()
    assert not any("seed 0" in label for label in shown)


@pytest.mark.slow
def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["robustprune", "demo", "--out", str(folder), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", [*call, "--json"])
    main()
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found.keys() == {"networks", "comparison", "report"}
    assert [each["name"] for each in found["networks"]] == list(NAMES)
    for each in found["networks"]:
        assert each["record"] == json.loads((folder / f"{each['name']}.json").read_text())
        assert Path(each["ticket"]).is_file()
    assert Path(found["report"]).is_file()
    assert "layer: removed layer" in printed.err
    assert "filter: removed 160 filters, as many as layer (MACs are not matched)" in printed.err

    monkeypatch.setattr(sys, "argv", call)
    main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"Open the report: {folder}/report.html"
    for row in found["comparison"]["rows"]:
        if row["metric"] == "accuracy":
            assert any(f"{row['value']:.1f} %" in line for line in lines)
            assert any(row["verdict"] in line for line in lines)
