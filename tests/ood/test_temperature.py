"""The temperature of least likelihood loss: closed forms, identities, and validation sets that have none."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from robustprune.errors import DetectorError
from robustprune.metrics import detection_figures
from robustprune.ood.detector_scores import fit_detectors, score_outputs
from robustprune.ood.detectors.temperature import NoTemperatureError, best_temperature
from robustprune.ood.outputs import Outputs
from robustprune.ood.protocol import compare_scores


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def answers(n, classes, size, seed, wrong=0.2):
    """Return logits of a network that is sure of itself by ``size``, and labels that it often knows."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=n)
    logits = size * random.random((n, classes))
    told = np.where(random.random(n) < wrong, random.integers(classes, size=n), labels)
    logits[np.arange(n), told] += size
    return torch.tensor(logits), torch.tensor(labels)


def test_mean_confidence_is_made_honest():
    # Two classes, margin 2 throughout, three of four right: σ(2/T) must be 3/4, so T = 2 / log 3.
    logits, labels = tensor([2.0, 0], [2, 0], [2, 0], [2, 0]), torch.tensor([0, 0, 0, 1])
    assert best_temperature(logits, labels) == pytest.approx(2 / math.log(3))


@given(
    st.integers(5, 200), st.integers(2, 12), st.floats(0.1, 10), st.integers(0, 10_000), st.floats(-6, 6),
    st.floats(-50, 50),
)  # fmt: skip
def test_the_temperature_follows_the_scale_of_the_logits_and_is_the_best(n, classes, size, seed, power, offset):
    logits, labels = answers(n, classes, size, seed)
    try:
        found = best_temperature(logits, labels)
    except NoTemperatureError:
        hardly = [F.cross_entropy(logits / t, labels).item() for t in (1e6, 1.0, 1e-6)]
        assert hardly == sorted(hardly)[::-1] or hardly == sorted(hardly) or np.ptp(hardly) < 1e-9
        return
    scaled = best_temperature((logits + offset) * 10**power, labels)
    assert scaled == pytest.approx(found * 10**power, rel=1e-4)
    least = F.cross_entropy(logits / found, labels).item()
    assert all(least <= F.cross_entropy(logits / (found * factor), labels).item() + 1e-12 for factor in (0.9, 1.1))


def test_logits_of_any_scale_get_theirs():
    # Beyond what a search between 0.01 and 100 finds.
    logits, labels = tensor([2.0, 0], [2, 0], [2, 0], [2, 0]), torch.tensor([0, 0, 0, 1])
    for scale in (1e-5, 1e4):
        assert best_temperature(scale * logits, labels) == pytest.approx(scale * 2 / math.log(3))


RIGHT, WRONG = "classified correctly", "do not know the labels"
NONE = {
    "all right": (tensor([5.0, 0], [0, 5]), [0, 1], RIGHT),
    "barely right": (tensor([1e-6, 0], [0, 50]), [0, 1], RIGHT),
    "one image": (tensor([3.0, 1, 0]), [0], RIGHT),
    "one class, all right": (tensor([3.0, 1, 0], [2, 0, 0]), [0, 0], RIGHT),
    "all wrong": (tensor([5.0, 0], [0, 5]), [1, 0], WRONG),
    "no better than chance": (tensor([5.0, 0], [5, 0]), [0, 1], WRONG),
    "constant logits": (tensor([1.0, 1], [1, 1]), [0, 1], "are equal"),
    "a network of one class": (tensor([1.0], [2.0]), [0, 0], "are equal"),
    "tied and right": (tensor([1.0, 1, 0], [0, 2, 0]), [0, 1], RIGHT),
}


@pytest.mark.parametrize("case", NONE)
def test_where_none_is_best_it_stays_at_1_and_says_so(case):
    logits, labels, why = NONE[case]
    held_out = Outputs(logits, labels=torch.tensor(labels))
    with pytest.raises(NoTemperatureError, match=why):
        best_temperature(logits, held_out.labels)
    fitted = fit_detectors(["temperature", "msp"], held_out, held_out)
    assert fitted["temperature"].reason is None
    assert why in fitted["temperature"].detector.remark
    found = {name: score_outputs(each, held_out) for name, each in fitted.items()}
    np.testing.assert_array_equal(found["temperature"], found["msp"])
    entry = compare_scores(
        found["temperature"], found["temperature"], resamples=0, remark=fitted["temperature"].detector.remark
    )
    assert why in entry.reason
    assert entry.auroc == 0.5


def test_logits_whose_differences_are_no_numbers_are_refused():
    with pytest.raises(DetectorError, match="too large to be compared"):
        best_temperature(tensor([1e308, -1e308], [-1e308, 1e308]), torch.tensor([0, 0]))


def test_one_error_among_many_is_enough():
    # σ(2/T) = (n − 1)/n.
    n = 1000
    logits = tensor([2.0, 0]).expand(n, 2)
    labels = (torch.arange(n) == 0).long()
    assert best_temperature(logits, labels) == pytest.approx(2 / math.log(n - 1))


def test_a_network_without_an_error_on_validation_images_is_told_apart_all_the_same():
    random = np.random.default_rng(0)
    margins = torch.tensor(random.gamma(9, 1, (600, 1)))
    inside = torch.cat([margins, torch.zeros(600, 9).double()], dim=1)
    outside = inside / 3
    labels = torch.zeros(600, dtype=torch.int64)
    fitted = fit_detectors(["temperature"], Outputs(inside, labels=labels), Outputs(inside, labels=labels))
    scores = [score_outputs(fitted["temperature"], Outputs(each)) for each in (inside, outside)]
    by_margin = detection_figures(-inside[:, 0], -outside[:, 0])
    assert detection_figures(*scores).auroc == pytest.approx(by_margin.auroc, abs=1e-12)


def test_a_class_that_is_ruled_out_changes_nothing():
    logits, labels = answers(100, 5, 3.0, 0)
    masked = torch.cat([logits, torch.full((100, 2), -torch.inf)], dim=1)
    assert best_temperature(masked, labels) == pytest.approx(best_temperature(logits, labels))
