"""Detection as a part of an evaluation and of its record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from robustprune.data import ImageData
from robustprune.errors import EvaluationError, RobustPruneError
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.ood.requests import OOD
from robustprune.records import Record, load_record
from robustprune.tickets.ticket import Ticket


@pytest.fixture(scope="module")
def record(digits: ImageData) -> Record:
    ticket = Ticket.from_model(build_model("resnet20", digits, width=4), digits)
    return evaluate(
        ticket,
        digits,
        ood=OOD(["constant", "noise"], detectors=["energy", "knn", "msp", "she"], resamples=20, full_spectrum=True),
        limit=50,
    )


def test_the_record_holds_what_detectors_found_and_the_scores(record: Record, tmp_path: Path) -> None:
    record.save(tmp_path / "record.json")
    found = load_record(tmp_path / "record.json")
    assert found.model_dump() == record.model_dump()
    assert found.samples is not None
    assert [entry.dataset for entry in found.ood] == ["constant", "noise"]
    assert found.ood_summary is not None
    assert found.ood_summary.protocol["in_distribution"] == {"dataset": "digits", "split": "test", "n": 50}
    np.testing.assert_array_equal(found.samples["ood_in_index"], found.samples["index"])
    for place, entry in enumerate(found.ood):
        for name, figures in entry.detectors.items():
            if figures.auroc is None:  # of a network that was not trained, she may know too few classes
                assert name == "she"
                continue
            scores = np.concatenate([found.samples[f"ood_in_{name}"], found.samples[f"ood{place}_{name}"]])
            assert figures.auroc == pytest.approx(roc_auc_score([0] * 50 + [1] * 50, scores))


def test_scores_of_another_record_are_refused(record: Record, tmp_path: Path) -> None:
    changed = record.model_copy(update={"samples": {**(record.samples or {}), "ood0_knn": np.zeros(49)}})
    changed.save(tmp_path / "short.json")
    with pytest.raises(EvaluationError, match="ood0_knn is not one number for each of 50"):
        load_record(tmp_path / "short.json")
    without = {name: values for name, values in (record.samples or {}).items() if name != "ood_in_energy"}
    record.model_copy(update={"samples": without}).save(tmp_path / "without.json")
    with pytest.raises(EvaluationError, match="ood_in_energy"):
        load_record(tmp_path / "without.json")
    assert record.samples is not None
    turned = {**record.samples, "ood0_knn": -record.samples["ood0_knn"]}  # distances: now below all others
    record.model_copy(update={"samples": turned}).save(tmp_path / "turned.json")
    with pytest.raises(EvaluationError, match=r"AUROC of knn on constant is .* in the record and 0\.0000 here"):
        load_record(tmp_path / "turned.json")


def test_detectors_without_foreign_images_are_an_error(digits: ImageData) -> None:
    model = build_model("resnet20", digits, width=4)
    with pytest.raises(EvaluationError, match="detectors without an out-of-distribution set"):
        evaluate(model, digits, ood=OOD(detectors=["knn"]))
    assert evaluate(model, digits, limit=20).ood_summary is None


@pytest.mark.parametrize(
    ("asked", "images", "message"),
    [
        (OOD("digits", detectors=["energy"]), {}, "digits is the in-distribution set itself"),
        (OOD("noise", tune_on="digits"), {}, "digits is the in-distribution set itself"),
        (OOD("noise", detectors=["enrgy"]), {}, "Did you mean 'energy'"),
        (OOD("noise"), {"mine": np.zeros((2, 1, 8, 8), np.uint8)}, "'mine'.*none of the sets asked for: noise"),
        (OOD(), {"mine": np.zeros((2, 1, 8, 8), np.uint8)}, "'mine'.*by the names that ood= gives them"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    digits: ImageData, asked: OOD, images: dict[str, np.ndarray], message: str
) -> None:
    shown: list[object] = []
    network = build_model("resnet20", digits, width=4)
    network.register_forward_pre_hook(lambda *given: shown.append(given))
    with pytest.raises(RobustPruneError, match=message):
        evaluate(network, digits, ood=asked, ood_images=images, limit=10)
    assert not shown
