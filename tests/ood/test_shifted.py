"""Corrupted images of the network's own kind, as OOD set and as a part of what is in-distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from robustprune.corruptions import HEADLINE, SEVERITIES, corrupt
from robustprune.errors import EvaluationError, UnknownNameError
from robustprune.ood import OOD, evaluate_ood
from robustprune.ood.image_sets import corrupt_evenly, load_set, parse_corrupted


def test_every_image_is_corrupted_once_and_all_ways_are_used_about_evenly(digits):
    images = digits.require("test").images[:1].repeat(1500, 1, 1, 1)
    found = corrupt_evenly(images, torch.arange(1500), ["brightness", "contrast"], [1, 3, 5], seed=0)
    ways = torch.cat(
        [corrupt(images[:1], name, severity) for name in ("brightness", "contrast") for severity in (1, 3, 5)]
    )
    counts = [(found == way).flatten(1).all(dim=1).sum().item() for way in ways]
    assert sum(counts) == 1500
    assert all(200 < count < 300 for count in counts)


def test_an_image_comes_out_the_same_in_any_subset(digits):
    images = digits.require("test").images
    whole = corrupt_evenly(images, torch.arange(len(images)), HEADLINE, SEVERITIES, seed=3)
    part = torch.tensor([5, 300, 17])
    assert torch.equal(corrupt_evenly(images[part], part, HEADLINE, SEVERITIES, seed=3), whole[part])
    assert not torch.equal(corrupt_evenly(images, torch.arange(len(images)), HEADLINE, SEVERITIES, seed=4), whole)


def test_names():
    assert parse_corrupted("corrupted") == (list(HEADLINE), [1, 2, 3, 4, 5])
    assert parse_corrupted("corrupted:corruption=fog+gaussian_noise,severity=5") == (["fog", "gaussian_noise"], [5])
    assert parse_corrupted("corrupted:severity=2+3") == (list(HEADLINE), [2, 3])
    with pytest.raises(EvaluationError, match="severities are 1 to 5"):
        parse_corrupted("corrupted:severity=6")
    with pytest.raises(UnknownNameError, match="Did you mean 'fog'"):
        parse_corrupted("corrupted:corruption=fogg")
    for wrong in ("corrupted:fog", "corrupted:severities=5"):
        with pytest.raises(EvaluationError, match="corrupted:corruption=fog"):
            parse_corrupted(wrong)


def test_a_corruption_that_changes_nothing_is_no_foreign_set(digits):
    # Grey images have no saturation.
    with pytest.raises(EvaluationError, match="corrupted:corruption=saturate changes none of the images of digits"):
        load_set("corrupted:corruption=saturate", digits)


def test_corrupted_images_as_a_foreign_set(case, digits):
    foreign = load_set("corrupted:corruption=contrast,severity=5", digits, limit=20)
    originals = digits.require("test").take(foreign.indices)
    assert torch.equal(foreign.images, corrupt(originals, "contrast", 5))
    assert foreign.conversions["severities"] == [5]
    asked = OOD("corrupted:corruption=impulse_noise,severity=5", detectors="msp", resamples=0)
    result = evaluate_ood(case.network, digits, asked)
    assert result.entries[0].group == "shifted"
    assert result.entries[0].detectors["msp"].auroc > 0.6


def test_the_full_spectrum_counts_corrupted_images_as_in_distribution(case, digits):
    result = evaluate_ood(
        case.network, digits, OOD(["photo-patches", "noise"], detectors=["msp", "knn"], full_spectrum=True, resamples=0)
    )
    entry = result.entries[0]
    assert result.summary.shifted == ["msp", "knn"]
    for name in ("msp", "knn"):
        own = np.concatenate([result.samples[f"ood_in_{name}"], result.samples[f"ood_shifted_{name}"]])
        assert len(own) == 2 * 359
        foreign = result.samples[f"ood0_{name}"]
        expected = roc_auc_score([0] * len(own) + [1] * len(foreign), np.concatenate([own, foreign]))
        assert entry.full_spectrum[name].auroc == pytest.approx(expected)
        assert entry.full_spectrum[name].auroc < entry.detectors[name].auroc
    assert [mean.full_spectrum for mean in result.summary.groups] == [False, True]
    assert result.summary.protocol["full_spectrum"]["severities"] == list(SEVERITIES)
