"""Foreign images from the command line."""

from __future__ import annotations

import pytest
from support import TINY, Run, check_failure

from robustprune.records import load_record


@pytest.fixture
def ticket(run: Run) -> str:
    assert run("prune", *TINY, "--criterion", "random", "--blocks", "2", "--out", "ticket.pt").code == 0
    return "ticket.pt"


def test_foreign_images(run: Run, ticket: str) -> None:
    arguments = (
        "evaluate",
        "--model",
        ticket,
        "--ood",
        "noise",
        "--ood",
        "near",
        "--detector",
        "energy",
        "--limit",
        "40",
    )
    document = run(
        *arguments, "--detector", "knn:k=5", "--ood-attack", "--ood-fit-limit", "60", "--out", "r.json", "--json"
    ).json
    entry = document["ood"][0]
    assert (entry["dataset"], entry["group"], entry["n_in"], entry["n_out"]) == ("noise", "sanity", 40, 40)
    figures = {"auroc", "aupr_in", "aupr_out", "fpr95_ood_positive", "fpr95_id_positive", "prevalence"}
    assert figures <= entry["detectors"]["energy"].keys()
    assert list(entry["detectors"]) == ["energy", "knn:k=5"]
    assert document["ood_summary"]["protocol"]["fitted_on"]["train"] == 60
    assert "notmnist" in document["ood_summary"]["missing"]
    assert entry["attacks"][0]["epsilon"] == pytest.approx(1 / 255)
    scores = load_record("r.json").samples
    assert scores is not None
    assert scores["ood_in_knn:k=5"].shape == scores["ood0_energy"].shape == (40,)
    table = run(*arguments)
    assert table.code == 0
    assert "AUROC" in table.out
    assert "left out: notmnist" in table.err


def test_foreign_images_misnamed(run: Run, ticket: str) -> None:
    check_failure(run("evaluate", "--model", ticket, "--detector", "energy"), 2, "--ood")
    check_failure(run("evaluate", "--model", ticket, "--ood", "nois"), 1, "Did you mean 'noise'")
    check_failure(run("evaluate", "--model", ticket, "--ood", "noise", "--detector", "enrgy"), 1, "'energy'")
    check_failure(run("evaluate", "--model", ticket, "--ood", "noise", "--ood-attack", "8"), 1, "forgot /255")
    check_failure(run("evaluate", "--model", ticket, "--ood", "digits"), 1, "itself")
