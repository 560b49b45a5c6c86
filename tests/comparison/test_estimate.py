"""The interval of a difference against tests and bootstraps that are not ours."""

from __future__ import annotations

import math

import numpy as np
import pytest
from comparison_simulation import World, estimate
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.weightstats import ttost_paired

from robustprune.comparison.difference import _MOST_BIAS, calibration_spread, estimate_difference, placements
from robustprune.comparison.metric import SHARE, MetricValue
from robustprune.metrics import expected_calibration_error
from robustprune.metrics.seeds import CrossedDifference, paired_difference, unpaired_difference


@pytest.fixture
def random():
    return np.random.default_rng(1)


def test_seeds_alone_are_a_t_test(random):
    differences = random.normal(0.5, 1, 6)
    found = paired_difference(differences, np.zeros((6, 6)))
    expected = stats.ttest_1samp(differences, 0)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.interval(0.9) == pytest.approx(tuple(expected.confidence_interval(0.9)))


def test_two_groups_are_a_test_of_welch(random):
    first, second = random.normal(size=5), random.normal(1, 3, 8)
    found = unpaired_difference(first, second, np.zeros((13, 13)))
    expected = stats.ttest_ind(second, first, equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_one_seed_is_a_normal_interval():
    found = CrossedDifference(0.3, 0.04)
    assert found.interval() == pytest.approx(stats.norm.interval(0.95, 0.3, 0.2))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(1.5), rel=1e-6)
    assert not found.of_method


@pytest.mark.parametrize("tolerance", [0.1, 0.7, 2.0])
def test_two_one_sided_tests_are_those_of_statsmodels(random, tolerance):
    dense = random.normal(90, 1, 7)
    own = dense + random.normal(0.3, 0.5, 7)
    found = paired_difference(own - dense, np.zeros((7, 7)))
    expected, *_ = ttost_paired(own, dense, -tolerance, tolerance)
    assert found.p_equivalent(tolerance) == pytest.approx(expected, rel=1e-9)
    is_within = all(abs(end) < tolerance for end in found.interval(0.9))
    assert is_within == (expected < 0.05)


@pytest.mark.parametrize("freedom", [2, 3, 4, 9, 19])
@pytest.mark.parametrize(("confidence", "least", "most"), [(0.95, 94.3, 95.8), (0.9, 89.99, 91.4)])
def test_few_seeds_beside_many_images_by_quadrature(freedom, confidence, least, most):
    # The difference is normal; the seeds' part A of its variance is drawn from χ² with its degrees of freedom, the
    # images' part is known. How often is the truth held, at any ratio of the true parts?
    chances = (np.arange(500) + 0.5) / 500
    for share in np.linspace(0.02, 1, 25):
        drawn = share * stats.chi2.ppf(chances, freedom) / freedom
        halves = [CrossedDifference(0.0, 1 - share, part, freedom).interval(confidence)[1] for part in drawn]
        assert least - 0.1 <= 100 * np.mean(2 * stats.norm.cdf(halves) - 1) <= most + 0.1


@pytest.mark.parametrize("difference", [0.0, 0.01, 1.0, 3.0, 1e3])
def test_p_value_and_interval_say_the_same(difference):
    found = CrossedDifference(difference, 0.3, 0.2, 2.5)
    assert 0 < found.p_value <= 1
    if 1e-12 < found.p_value < 1:
        low, high = found.interval(1 - found.p_value)
        assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-6 * difference)


def test_without_any_spread():
    assert CrossedDifference(0.0, 0.0).interval() == (0.0, 0.0)
    assert CrossedDifference(0.0, 0.0).p_value == 1
    assert CrossedDifference(1.0, 0.0).p_value < 1e-10


def test_bonett_and_price(random):
    # Their interval of paired proportions adds one sample to either cell that tells the two apart.
    lost, gained, n = 7, 12, 400
    differences = np.repeat([-1, 1, 0], [lost, gained, n - lost - gained])[None]
    low, high = estimate(differences).interval()
    p_gained, p_lost = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    theirs = 100 * stats.norm.ppf(0.975) * np.sqrt((p_gained + p_lost - (p_gained - p_lost) ** 2) / (n + 2))
    assert (high - low) / 2 == pytest.approx(theirs, rel=0.01)


@pytest.mark.parametrize("seeds", [3, 8])
def test_bootstrap_over_seeds_and_images(random, seeds):
    # Drawn literally, seeds and images jointly. It sees (S − 1)/S of the spread of seeds, and adds a third time what
    # seed and image do together (Owen 2007, "The pigeonhole bootstrap"); ours has each once.
    differences, _ = World(seeds, 400, 0.02, 0.2, seed_deviation=0.02, fixed=0.05).draw(random)
    values = 100.0 * differences
    drawn = []
    for _ in range(4000):
        rows, columns = random.integers(seeds, size=seeds), random.integers(400, size=400)
        drawn.append(values[rows][:, columns].mean())
    found = estimate(differences)
    residuals = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    interaction = (residuals**2).sum() / ((seeds - 1) * 399) / (seeds * 400)
    unseen = 100**2 * 2 / 400**2  # some images are lost, or gained, for all seeds
    expected = found.seeds * (seeds - 1) / seeds + found.images - unseen
    expected += interaction * (1 + (seeds - 1) / seeds)
    assert np.var(drawn) == pytest.approx(expected, rel=0.08)


def test_bootstrap_over_images_for_fewer_seeds(random):
    differences, _ = World(2, 500, 0.02, 0.2, fixed=0.05).draw(random)
    drawn = [100 * differences[:, random.integers(500, size=500)].mean() for _ in range(4000)]
    unseen = 100**2 * 2 / 500**2
    assert estimate(differences).images - unseen == pytest.approx(np.var(drawn), rel=0.08)


def test_images_that_seeds_share_are_not_counted_as_more(random):
    # The same difference for all seeds: three seeds say no more of images than one.
    once, _ = World(1, 500, 0.02, 0.2).draw(random)
    thrice = np.repeat(once, 3, axis=0)
    assert estimate(thrice).images == pytest.approx(estimate(once).images)
    assert estimate(thrice).seeds == pytest.approx(0)


def test_seeds_that_agree_by_chance_prove_nothing():
    # One image more for each of three seeds, another one each time.
    differences = np.zeros((3, 360), int)
    differences[[0, 1, 2], [3, 5, 7]] = 1
    low, high = estimate(differences).interval()
    assert low < 0 < high


def test_no_difference_on_a_few_images_proves_little():
    low, high = estimate(np.zeros((3, 50), int)).interval()
    assert low < -1
    assert high > 1


def delong(inside, outside):
    """Return the variance of AUROC(1) − AUROC(0) by definition, from all pairs of samples; scores are (2, n)."""
    wins = [
        (outside[k][:, None] > inside[k][None, :]) + 0.5 * (outside[k][:, None] == inside[k][None, :]) for k in (0, 1)
    ]
    difference = 1.0 * wins[1] - wins[0]
    return difference.mean(axis=1).var(ddof=1) / len(outside[0]) + difference.mean(axis=0).var(ddof=1) / len(inside[0])


def detection_outcomes(inside, outside):
    return [
        MetricValue(100 * roc_auc_score([0] * len(own) + [1] * len(ood), [*own, *ood]), placements(own, ood), SHARE)
        for own, ood in zip(inside, outside, strict=True)
    ]


def test_auroc_is_that_of_delong(random):
    ease = random.normal(size=300)
    inside = np.round(ease + 0.5 * random.normal(size=(2, 300)), 1)  # with ties
    outside = np.round(random.normal(1, 1, 200) + 0.5 * random.normal(size=(2, 200)), 1)
    first, second = detection_outcomes(inside, outside)
    for outcome in (first, second):
        for part in outcome.samples:
            assert 100 * part.mean() == pytest.approx(outcome.value, abs=1e-4)
    found = estimate_difference([first], [second], paired=True)
    assert found.difference == pytest.approx(second.value - first.value)
    spreads = [abs(b - a).max() for a, b in zip(first.samples, second.samples, strict=True)]
    unseen = sum(2 * (spread / n) ** 2 for spread, n in zip(spreads, (300, 200), strict=True))
    assert found.images == pytest.approx(100**2 * (delong(inside, outside) + unseen), rel=1e-4)


def calibration_error(confidence, right):
    logits = np.log(np.stack([confidence, 1 - confidence + 1e-9], axis=1))
    return expected_calibration_error(logits, np.where(right, 0, 1))


def test_calibration_error_of_drawn_samples(random):
    # So far from calibrated that no bin is near 0 and there is no bias: plainly the error of drawn samples.
    confidence = random.uniform(0.7, 1, 4000).astype(np.float32)
    right = random.random(4000) < 0.5 * confidence
    drawn, bias, bias_error = calibration_spread(confidence, right, 400, seed=3)
    own = []
    for _ in range(400):
        places = random.integers(4000, size=4000)
        own.append(calibration_error(confidence[places], right[places]))
    assert (bias, bias_error) == (pytest.approx(0, abs=1e-6), 0)
    assert drawn.mean() == pytest.approx(np.mean(own), rel=0.01)
    assert drawn.std() == pytest.approx(np.std(own), rel=0.12)


def test_little_is_left_of_the_bias_of_a_bin():
    # By quadrature: E(|s| − excess) − |μ| in standard errors, s ~ N(μ, 1), at any μ.
    nodes = np.linspace(-12, 12, 24001)
    for mean in np.linspace(0, 6, 61):
        weights = stats.norm.pdf(nodes - mean) * (nodes[1] - nodes[0])
        left = weights @ (np.abs(nodes) - 1.3 * np.exp(-1.4 * nodes**2)) - mean
        assert abs(left) <= _MOST_BIAS


@pytest.mark.parametrize(("n", "miscalibration"), [(400, 0.0), (2000, 0.0), (2000, 0.03), (2000, 0.2)])
def test_most_of_the_bias_of_the_calibration_error_is_known(n, miscalibration):
    random = np.random.default_rng(0)
    errors, known = [], []
    for _ in range(200):
        confidence = random.uniform(0.55, 0.98, n).astype(np.float32)
        right = random.random(n) < confidence - miscalibration
        errors.append(calibration_error(confidence, right))
        _, bias, bias_error = calibration_spread(confidence, right, 20, 0)
        known.append((bias, bias_error))
    truth = miscalibration
    bias, bias_error = np.mean(known, axis=0)
    excess = np.mean(errors) - truth
    noise = 3 * np.std(errors) / math.sqrt(len(errors))
    assert abs(excess - bias) <= math.sqrt(3) * bias_error + noise
    if miscalibration == 0:
        assert bias > excess / 2
