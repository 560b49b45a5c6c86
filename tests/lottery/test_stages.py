"""What a lottery's folder may be put through between two calls."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support import LINEAR_BLOCKS

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.lottery import run_lottery, stages
from robustprune.models import build_model
from robustprune.tickets.draws import Draw, make_draws
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe

SMALL: dict[str, Any] = {
    "model": "resnet20",
    "model_options": {"width": 4},
    "criteria": ["random"],
    "epochs": 4,
    "batch_size": 64,
    "country": None,
}


@pytest.mark.slow
def test_interrupted_repetition_does_not_stand_in_for_another(few_digits: ImageData, tmp_path: Path) -> None:
    run_lottery(tmp_path / "a", few_digits, **SMALL)
    dense = tmp_path / "a/seed0/dense"

    def stop(_label: str, _done: float, _total: float) -> None:
        if any("checkpoint" in name for _, _, names in os.walk(dense) for name in names):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_lottery(tmp_path / "a", few_digits, rewind_to=[3], progress=stop, **SMALL)
    run_lottery(tmp_path / "a", few_digits, rewind_to=[1], **SMALL)
    run_lottery(tmp_path / "a", few_digits, rewind_to=[3], **SMALL)
    run_lottery(tmp_path / "b", few_digits, rewind_to=[1, 3], **SMALL)
    for epoch in (1, 3):
        name = f"seed0/dense/epoch-{epoch}.pt"
        assert load_ticket(tmp_path / "a" / name).sha256 == load_ticket(tmp_path / "b" / name).sha256
    assert sorted(os.listdir(dense)) == sorted(os.listdir(tmp_path / "b/seed0/dense"))


@pytest.mark.slow
def test_two_processes_that_repeat_the_same_epochs(
    few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_lottery(tmp_path, few_digits, **SMALL)
    real, calls = stages.train, [0]

    def overtaken(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        calls[0] += 1
        if calls[0] == 1:
            run_lottery(tmp_path, few_digits, rewind_to=[2], **SMALL)
        return found

    monkeypatch.setattr(stages, "train", overtaken)
    results = run_lottery(tmp_path, few_digits, rewind_to=[2], **SMALL)
    assert calls == [2]
    assert len(results.rows) == 1
    assert sorted(os.listdir(tmp_path / "seed0/dense")) == [
        *("epoch-0.pt", "epoch-2.pt", "trained.json", "trained.json.samples.npz", "trained.pt"),
    ]


def test_record_goes_with_its_network(few_digits: ImageData, tmp_path: Path) -> None:
    run_lottery(tmp_path, few_digits, **SMALL)
    for name in ("dense/trained", "random/blocks-1-layer-epoch-0"):
        ticket = tmp_path / f"seed0/{name}.pt"
        record = ticket.with_suffix(".json")
        record.write_text(record.read_text().replace('"accuracy": 0.', '"accuracy": 0.9'))  # of some other network
        ticket.unlink()
    for found in tmp_path.rglob("*.samples.npz"):
        found.unlink()
    results = run_lottery(tmp_path, few_digits, **SMALL)
    fresh = run_lottery(tmp_path / "fresh", few_digits, **SMALL)
    assert results.dense[0].clean == fresh.dense[0].clean
    assert results.rows[0].differences == fresh.rows[0].differences


def test_densities_and_eligibilities_share_scores(
    few_digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, scored = stages.score, []
    monkeypatch.setattr(stages, "score", lambda *given: scored.append(given[2]) or real(*given))
    model = build_model("resnet20", few_digits, width=4, seed=0)

    def fresh(name: str) -> stages.Stages:
        made = stages.Stages(tmp_path / name, few_digits, "resnet20", {}, Recipe("quick"), torch.device("cpu"))
        Ticket.from_model(model, few_digits).save(made.folder / "seed0/dense/epoch-0.pt")
        return made

    draws = [
        Draw("snip", blocks, at_init=True, eligibility=rule) for blocks in (1, 3) for rule in ("authors", "strict")
    ]
    shared = fresh("shared")
    found = [shared.find(0, draw) for draw in draws]
    assert len(scored) == 1
    alone = [fresh(str(number)).find(0, draw) for number, draw in enumerate(draws)]
    assert [(each.sha256, each.plan.removed, each.scores) for each in found] == [
        (each.sha256, each.plan.removed, each.scores) for each in alone
    ]
    scored.clear()
    shared.find(0, Draw("snip", 1, at_init=True, options={"reduction": "mean"}))
    shared.find(0, Draw("snip", 1, method="filter", at_init=True))
    assert len(scored) == 2


def test_filters_are_matched_by_the_cost_that_is_named(few_digits: ImageData, tmp_path: Path) -> None:
    lottery = stages.Stages(tmp_path, few_digits, "resnet20", {}, Recipe("quick"), torch.device("cpu"))
    model = build_model("resnet20", few_digits, width=4, seed=0)
    Ticket.from_model(model, few_digits).save(tmp_path / "seed0/dense/epoch-0.pt")
    draws = {
        by: make_draws(["snip"], [1], methods=["layer", "filter"], at_init=True, match_by=by)
        for by in ("filters", "macs")
    }
    for by, (layer, cut) in draws.items():
        assert layer.name == "snip-init/blocks-1-layer"  # it is matched to nothing
        assert (cut.name == "snip-init/blocks-1-filter") == (by == "filters")
        match = lottery.find(0, cut).plan.match
        assert match is not None
        assert match.by == by
    with pytest.raises(PruningError, match="Did you mean 'macs'"):
        make_draws(["snip"], [1], match_by="mac")


def test_moved_folder_names_its_files_where_they_are(few_digits: ImageData, tmp_path: Path) -> None:
    first = run_lottery(tmp_path / "a", few_digits, **SMALL)
    shutil.move(tmp_path / "a", tmp_path / "b")
    again = run_lottery(tmp_path / "b", few_digits, **SMALL)
    (seed,) = again.to_dict()["tickets"][0]["seeds"].values()
    assert load_ticket(seed["path"]).sha256 == seed["sha256"] == first.rows[0].records[0].model.sha256


def test_code_that_has_changed_is_another_lottery(few_digits: ImageData, tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    settings = {**SMALL, "model": f"file:{code}:Net", "model_options": {}, "eligibility": "identity"}
    code.write_text(LINEAR_BLOCKS)
    run_lottery(tmp_path / "out", few_digits, **settings)
    run_lottery(tmp_path / "out", few_digits, **settings)
    code.write_text(LINEAR_BLOCKS.replace("relu", "gelu"))
    with pytest.raises(PruningError, match=r"other settings: files\..*net\.py was '[0-9a-f]{64}', is '[0-9a-f]{64}'"):
        run_lottery(tmp_path / "out", few_digits, **settings)


def test_weights_file_that_has_changed_is_another_lottery(few_digits: ImageData, tmp_path: Path) -> None:
    run_lottery(tmp_path / "first", few_digits, **SMALL)
    start = load_ticket(tmp_path / "first/seed0/dense/trained.pt").network.state_dict()
    torch.save(start, tmp_path / "weights.pt")
    options = {"width": 4, "weights_file": str(tmp_path / "weights.pt")}
    settings = {**SMALL, "model_options": options, "at_init": True}
    run_lottery(tmp_path / "out", few_digits, **settings)
    found = load_ticket(tmp_path / "out/seed0/random-init/blocks-1-layer.pt").network.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in found.items())
    torch.save({name: value + 1 for name, value in start.items()}, tmp_path / "weights.pt")
    with pytest.raises(PruningError, match=r"files\..*weights\.pt was"):
        run_lottery(tmp_path / "out", few_digits, **settings)
