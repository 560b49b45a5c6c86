"""Records as evaluations write them: small networks, trained, cut, attacked and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from extras import needs

from robustprune.attacks.requests import Attacks
from robustprune.comparison import Comparison, compare
from robustprune.data import ImageData
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.ood.requests import OOD
from robustprune.pruning import score_blocks
from robustprune.records import load_record
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

mcnemar = needs("statsmodels.stats.contingency_tables").mcnemar


@pytest.fixture(scope="module")
def folder(few_digits: ImageData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write records of a dense network and a layer ticket of two seeds."""
    found = tmp_path_factory.mktemp("records")
    for seed in range(2):
        dense = Ticket.from_model(build_model("resnet20", few_digits, width=4, seed=seed), few_digits)
        scores = score_blocks(dense.network, few_digits, criterion="random", seed=seed)
        for name, ticket in (("layer", prune_layers(dense, scores, blocks=2)), ("dense", dense)):
            trained = train(ticket, few_digits, epochs=2, batch_size=20, country=None, seed=seed)
            record = evaluate(
                trained,
                few_digits,
                attacks=Attacks(["fgsm"], epsilons=["4/255"]),
                corruptions=["fog", "contrast"],
                ood=OOD("noise", detectors=["energy", "knn"]),
                limit=120,
            )
            record.save(found / name / f"{seed}.json")
    return found


@pytest.fixture(scope="module")
def found(folder: Path) -> Comparison:
    return compare(folder / "dense", {"layer": folder / "layer"})


@pytest.mark.slow
def test_every_metric_is_compared(found: Comparison) -> None:
    assert {row.metric for row in found.rows if row.verdict} == {
        *("accuracy", "robust_accuracy[fgsm Linf 0.0157]", "corruption_accuracy", "ece", "nll", "brier"),
        *("auroc[energy noise]", "auroc[knn noise]"),
    }
    saved = {row.metric: row.saved_percent or 0 for row in found.rows if row.group == "cost"}
    assert saved.keys() == {"macs", "parameters", "memory", "training_seconds"}
    assert min(saved["macs"], saved["parameters"], saved["memory"]) > 0
    assert all(row.seeds_paired and row.paired for row in found.rows if row.verdict)


def test_figures_are_those_of_the_records(found: Comparison, folder: Path) -> None:
    rows = {row.metric: row for row in found.rows}
    dense, layer = ([load_record(folder / name / f"{seed}.json") for seed in (0, 1)] for name in ("dense", "layer"))
    for seed, (first, second) in enumerate(zip(dense, layer, strict=True)):
        assert first.samples is not None
        assert second.samples is not None
        entry = rows["robust_accuracy[fgsm Linf 0.0157]"].per_seed[seed]
        whole = [record.samples["attack0_broken"] == 0 for record in (first, second)]  # type: ignore[index]
        table = [[np.sum(a & b) for b in (whole[1], ~whole[1])] for a in (whole[0], ~whole[0])]
        assert entry["p"] == pytest.approx(mcnemar(table, exact=True).pvalue)
        assert entry["difference"] == pytest.approx(100 * (whole[1].mean() - whole[0].mean()))
        aurocs = [record.ood[0].detectors["energy"].auroc or 0 for record in (first, second)]
        assert rows["auroc[energy noise]"].per_seed[seed]["value"] == pytest.approx(100 * aurocs[1])
        assert rows["ece"].per_seed[seed]["reference"] == pytest.approx(100 * first.clean.ece)
        cells = list((second.corruptions.table if second.corruptions else {}).values())
        assert rows["corruption_accuracy"].per_seed[seed]["value"] == pytest.approx(100 * np.mean(cells))
