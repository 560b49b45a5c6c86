"""What intervals and verdicts promise, in worlds whose truth is known: 2,000 draws each."""

from __future__ import annotations

import numpy as np
import pytest
from comparison_simulation import World, shares
from scipy import stats

from robustprune.comparison.difference import calibration_spread, estimate_difference, placements
from robustprune.comparison.metric import SHARE, MetricValue

# Seeds, images, deviation over seeds, images on which all seeds agree, all pairs with one image in ten telling apart.
QUICK = [(1, 1000, 0.0, 0.0), (3, 1000, 0.01, 0.01), (5, 1000, 0.0, 0.0)]
SLOW = [
    *[(1, 4000, 0.005, 0.05), (2, 4000, 0.005, 0.0), (3, 4000, 0.0, 0.0), (3, 4000, 0.02, 0.0), (3, 4000, 0.02, 0.01)],
    *[(5, 4000, 0.0, 0.01), (5, 4000, 0.005, 0.0), (5, 4000, 0.02, 0.01), (10, 4000, 0.0, 0.0), (10, 4000, 0.01, 0.05)],
    # As much of images that all seeds agree on as of others, and hardly an effect of seeds: three seeds cannot tell
    # these parts from one another.
    *[(3, 2000, 0.0, 0.05), (3, 2000, 0.005, 0.05), (20, 1000, 0.0, 0.05), (20, 1000, 0.005, 0.02)],
]
WIDE = [(5, 360, 0.0, 0.02)]  # few images tell networks apart


@pytest.mark.parametrize(
    "world", [*QUICK, *(pytest.param(world, marks=pytest.mark.slow) for world in SLOW)], ids=lambda world: str(world)
)
def test_intervals_hold_the_truth_as_often_as_they_say(world):
    seeds, images, deviation, fixed = world
    found = shares(World(seeds, images, 0.005, 0.1, deviation, fixed))
    assert found["covered"] == pytest.approx(95, abs=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("world", WIDE)
def test_intervals_are_never_too_narrow(world):
    seeds, images, deviation, fixed = world
    assert shares(World(seeds, images, 0.005, 0.1, deviation, fixed))["covered"] >= 93.5


# Statements about the method; those about these networks are put to the test without an effect of seeds.
VERDICTS = [(1, 1000, 0.0, 0.0), (3, 1000, 0.0, 0.0), (3, 1000, 0.01, 0.02)]
MORE_VERDICTS = [(1, 360, 0.0, 0.0), (3, 360, 0.005, 0.02), (5, 4000, 0.01, 0.02), (10, 4000, 0.0, 0.05)]
MOST = 5 + 1  # percent, and two standard errors of a share of 2,000 draws
WORLDS = [*VERDICTS, *(pytest.param(world, marks=pytest.mark.slow) for world in MORE_VERDICTS)]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world))
def test_a_network_that_loses_by_the_tolerance_seldom_wins(world):
    seeds, images, deviation, fixed = world
    found = shares(World(seeds, images, -0.01, 0.1, deviation, fixed), tolerance=1.0)
    assert found["wins"] <= MOST
    assert found["worse"] <= MOST


@pytest.mark.quick_cases(1)
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: str(world))
def test_an_equal_network_is_seldom_better(world):
    seeds, images, deviation, fixed = world
    assert shares(World(seeds, images, 0.0, 0.1, deviation, fixed))["better"] <= 5


def test_a_network_that_is_as_good_wins_where_there_are_images_enough():
    # Two standard errors, √(0.04/10000) = 0.2 pp, are well within 1 pp: power is 1 − Φ(1.96 − 5).
    found = shares(World(1, 10_000, 0.0, 0.04), draws=200)
    assert found["wins"] >= 97


def test_ten_images_without_a_difference_are_no_win():
    # One image in a hundred is lost: most tests on 50 images never see one.
    found = shares(World(1, 50, -0.01, 0.01), tolerance=1.0)
    assert found["wins"] <= 5


def test_intervals_of_auroc_hold_the_truth():
    random = np.random.default_rng(4)
    n, covered = 500, 0
    truth = 100 * (stats.norm.cdf(1.2 / np.sqrt(2.5)) - stats.norm.cdf(1 / np.sqrt(2.5)))
    for _ in range(2000):
        own, ood = random.normal(size=n), random.normal(size=n)
        networks = []
        for shift in (1.0, 1.2):
            inside = own + 0.5 * random.normal(size=n)
            parts = placements(inside, ood + shift + 0.5 * random.normal(size=n))
            networks.append(MetricValue(SHARE * float(parts[0].mean()), parts, SHARE))
        low, high = estimate_difference(networks[:1], networks[1:], paired=True).interval()
        covered += low <= truth <= high
    assert covered / 20 == pytest.approx(95, abs=1.5)


# How overconfident the dense network and the other are, and how sure: a parameter of a beta distribution.
CALIBRATION = [(0.1, 0.2, 4), (0.0, 0.0, 4), (0.1, 0.0, 4), (0.02, 0.0, 4), (0.05, 0.02, 12), (0.05, 0.0, 12)]


@pytest.mark.parametrize(("dense", "own", "sureness"), CALIBRATION)
def test_intervals_of_the_calibration_error_hold_the_true_difference(dense, own, sureness):
    random = np.random.default_rng(5)
    truth, n, found = 100 * (own - dense), 800, []  # overconfident alike in every bin
    for _ in range(200):
        base = 0.25 + 0.7 * random.beta(sureness, 1, n)
        networks = []
        for overconfidence in (dense, own):
            confidence = np.clip(base + 0.02 * random.normal(size=n), 0.21, 0.999).astype(np.float32)
            right = random.random(n) < confidence - overconfidence
            drawn, bias, bias_error = calibration_spread(confidence, right, 200, 0)
            value = 100 * _calibration_error(confidence, right)
            networks.append(MetricValue(value, replicates=100 * drawn, bias=100 * bias, bias_error=100 * bias_error))
        found.append(estimate_difference(networks[:1], networks[1:], paired=True).interval())
    covered = 100 * np.mean([low <= truth <= high for low, high in found])
    # Exact far from calibrated, wide near it, and hardly ever narrow.
    assert covered >= 93


def _calibration_error(confidence, right):
    bins = np.minimum((confidence * 15).astype(int), 14)
    return sum(abs((right[bins == b] - confidence[bins == b]).sum()) for b in range(15)) / len(bins)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "deviation"), [((3, 3), 0.0), ((3, 5), 0.01), ((8, 4), 0.02)])
def test_two_groups_of_seeds_hold_the_truth(seeds, deviation):
    # Networks of either side are right on image i with a probability of its own, the same for all, and one of theirs.
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(2000):
        ease = random.choice([0.5, 0.9, 0.97], 1000, p=[0.1, 0.3, 0.6])
        sides = []
        for count in seeds:
            own = ease + deviation * random.standard_normal((count, 1))
            right = random.random((count, 1000)) < own
            sides.append([MetricValue(SHARE * float(row.mean()), (row,), SHARE) for row in right])
        low, high = estimate_difference(*sides, paired=False).interval()
        covered += low <= 0 <= high
    assert covered / 20 == pytest.approx(95.5, abs=2)
