from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from robustprune import demo
from robustprune.cli import main
from robustprune.records import load_record
from robustprune.ticket import load_ticket

NAMES = ("dense", "grasp", "random")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    # The demo as it is, but with fewer training images and attacks of one budget.
    load = demo.load_data
    monkeypatch.setattr(demo, "load_data", lambda name, *, seed: load(name, seed=seed, train_limit=200))
    monkeypatch.setattr(demo, "EPSILONS", ("8/255",))


def test_tickets_and_records(tmp_path: Path) -> None:
    (tmp_path / "dense.pt.checkpoint").write_bytes(b"of an interrupted demo")
    said: list[str] = []
    shown: set[str] = set()
    results = demo.run_demo(tmp_path, epochs=1, say=said.append, progress=lambda label, _done, _total: shown.add(label))
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}{ending}" for name in NAMES for ending in (".pt", ".json", ".samples.npz")
    }
    tickets = {name: load_ticket(tmp_path / f"{name}.pt") for name in NAMES}
    assert {name: len(ticket.plan.removed) for name, ticket in tickets.items()} == {"dense": 0, "grasp": 4, "random": 4}
    for result in results:
        record = load_record(tmp_path / f"{result.name}.json")
        assert record.model_dump() == result.record.model_dump()
        assert record.samples is not None
        assert record.model.sha256 == tickets[result.name].sha256
        assert record.model.removed == list(tickets[result.name].plan.removed)
        assert [(entry.name, entry.valid) for entry in record.attacks] == [("fgsm", True), ("pgd", True)]
        assert record.n == 359
    # The same samples throughout, so that the records can be compared sample by sample.
    assert len({result.record.samples_sha256 for result in results}) == 1
    assert len(said) == 6
    assert {f"training {name}" for name in NAMES} < shown


def test_json_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["robustprune", "demo", "--out", str(tmp_path), "--epochs", "1", "--json"])
    main()
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [each["name"] for each in found] == list(NAMES)
    for each in found:
        assert each.keys() == {"name", "ticket", "record"}
        assert each["record"] == json.loads((tmp_path / f"{each['name']}.json").read_text())
        assert Path(each["ticket"]).is_file()
    assert "grasp: removed layer" in printed.err
