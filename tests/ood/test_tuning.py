"""Options are chosen on validation images alone, and are the best of those tried."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from robustprune.data import InMemorySplit
from robustprune.errors import EvaluationError
from robustprune.ood import OOD, evaluate_ood, fit_detectors, make_detector, score_outputs
from robustprune.ood.detector_scores import tune_detectors

NAMES = ["knn", "react", "gen", "energy", "ash:percentile=0.5"]


def auroc(name, case):
    fitted = fit_detectors([name], case.train, case.held_out)[name]
    inside, outside = (score_outputs(fitted, outputs) for outputs in (case.held_out, case.outside))
    return roc_auc_score([0] * len(inside) + [1] * len(outside), [*inside, *outside])


def test_the_best_of_what_was_tried_is_taken(case):
    fitted, chosen = tune_detectors(NAMES, case.train, case.held_out, case.outside)
    assert set(chosen) == {"knn", "react", "gen"}
    for name, options in chosen.items():
        (option,) = [each for each in options if each != "auroc"]
        every = {value: auroc(f"{name}:{option}={value}", case) for value in make_detector(name).tried[option]}
        assert options["auroc"] == pytest.approx(max(every.values()))
        assert every[options[option]] == pytest.approx(max(every.values()))
        assert getattr(fitted[name].detector, option) == options[option]
    assert fitted["ash:percentile=0.5"].detector.percentile == 0.5


def test_defaults_win_where_nothing_is_better(case):
    constant = replace(case.held_out, logits=torch.zeros_like(case.held_out.logits))
    fitted, chosen = tune_detectors(["gen"], case.train, constant, constant)
    assert fitted["gen"].detector == make_detector("gen")
    assert chosen["gen"] == {"gamma": 0.1, "auroc": 0.5}


def test_no_detector_is_lost_when_none_of_its_options_work(case):
    dead = replace(case.train, features=torch.zeros_like(case.train.features))
    fitted, chosen = tune_detectors(["knn"], dead, case.held_out, case.outside)
    assert "no direction" in fitted["knn"].reason
    assert chosen["knn"]["auroc"] is None


@pytest.mark.parametrize("tuning_set", ["photo-patches", "corrupted:corruption=fog,severity=5"])
def test_test_images_decide_nothing(case, digits, tuning_set):
    def chosen(data):
        result = evaluate_ood(
            case.network, data, OOD("noise", detectors=["knn", "gen"], tune_on=tuning_set, resamples=0), limit=30
        )
        return result.summary.protocol["tuned_on"]

    test = digits.require("test")
    inverted = replace(digits, test=InMemorySplit(255 - test.images, test.labels))
    assert chosen(inverted) == chosen(digits)
    assert chosen(digits)["dataset"] == tuning_set


def test_what_chooses_does_not_judge(case, digits, tmp_path):
    np.savez(tmp_path / "own.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.zeros(2, np.int64))
    roundabout = tmp_path / "own.npz" / ".." / "own.npz"
    fog = "corrupted:corruption=fog"
    for judge, tuning_set in (("corrupted", fog), (f"npz:{tmp_path}/own.npz", f"npz:{roundabout}")):
        with pytest.raises(EvaluationError, match="cannot both choose options and judge"):
            evaluate_ood(case.network, digits, OOD(judge, detectors="knn", tune_on=tuning_set), limit=20)
    with pytest.raises(EvaluationError, match="cannot both choose options and judge"):
        evaluate_ood(case.network, digits, OOD(["noise", "constant"], detectors="knn", tune_on="noise"))
    with pytest.raises(EvaluationError, match="needs training and validation images"):
        evaluate_ood(
            case.network, replace(digits, val=None), OOD("noise", detectors="knn", tune_on="uniform"), limit=20
        )
