"""What checks doubt and attacks mitigate stands beside what was asked for: in records, tables and on the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from support import Run
from torch import nn

from robustprune.attacks import Attacks
from robustprune.data import ImageData
from robustprune.evaluation import evaluate
from robustprune.records import load_record
from robustprune.tickets.ticket import Ticket

SHORT = {"epsilons": ["0.1", "0.2"], "steps": 3, "step_size": 0.002, "mitigate": True}


@pytest.fixture(scope="module")
def ticket(digits: ImageData) -> Ticket:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    images, labels = digits.train.images.float() / 255, digits.train.labels
    optimizer = torch.optim.Adam(layers.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(layers(images), labels).backward()
        optimizer.step()
    return Ticket.from_model(layers.eval(), digits)


def test_both_figures_are_in_the_record(ticket: Ticket, digits: ImageData, tmp_path: Path) -> None:
    record = evaluate(ticket, digits, attacks=Attacks("pgd", **SHORT), limit=60)
    names = [(entry.name, entry.epsilon) for entry in record.attacks]
    assert names == [("pgd", 0.1), ("pgd", 0.2), ("mitigated:pgd", 0.1), ("mitigated:pgd", 0.2)]
    for before, after in zip(record.attacks[:2], record.attacks[2:], strict=True):
        (check,) = [each for each in before.checks if each.name == "convergence"]
        assert check.verdict == "WARN"
        assert f"{before.robust_accuracy:.2%} → {after.robust_accuracy:.2%}" in check.detail
        assert after.robust_accuracy < before.robust_accuracy - 0.1
    record.save(tmp_path / "record.json")
    again = load_record(tmp_path / "record.json")
    assert again.asked["attacks"]["mitigate"] is True
    for i in range(2):
        broken, mitigated = (again.samples[f"attack{place}_broken"] for place in (i, i + 2))
        assert bool((mitigated >= broken).all())
        assert float((mitigated == 0).mean()) == pytest.approx(again.attacks[i + 2].robust_accuracy)


def test_images_of_another_network_mitigate_too(ticket: Ticket, digits: ImageData) -> None:
    attacks = Attacks("noise", epsilons="0.2", mitigate=True, transfer_from=ticket.model())
    direct, moved = evaluate(ticket, digits, attacks=attacks, limit=40).attacks[:2]
    assert (direct.name, moved.name) == ("noise", "transfer:noise")
    attacks = Attacks("pgd", **SHORT | {"epsilons": "0.2", "transfer_from": _other(digits)})
    found = {entry.name: entry for entry in evaluate(ticket, digits, attacks=attacks, limit=40).attacks}
    assert found["mitigated:pgd"].robust_accuracy <= min(
        found[name].robust_accuracy for name in ("pgd", "transfer:pgd")
    )


def _other(digits: ImageData) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()


def test_the_terminal_shows_both(tmp_path: Path, run: Run) -> None:
    arguments = ["evaluate", "--model", "resnet20", "--limit", "20", "--threads", "1", "--attack", "pgd", "--mitigate"]
    arguments += ["--steps", "3", "--step-size", "0.0005", "--eps", "0.01"]
    done = run(*arguments, "--json")
    assert done.code == 0, done.err
    entries = json.loads(done.out)["attacks"]
    assert [entry["name"] for entry in entries] in (["pgd"], ["pgd", "mitigated:pgd"])
    if len(entries) == 2:
        shown = run(*arguments).out
        assert "mitigated:pgd" in shown
        assert "mitigated with pgd:steps=" in " ".join(shown.split())
