"""How many seeds a verdict takes, against closed forms, statsmodels, and simulations of the verdicts themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from comparison_simulation import World, estimate, shares
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from statsmodels.stats.power import TTestPower
from support import Run, check_failure
from synthetic_records import make_record

from robustprune.comparison.difference import estimate_difference
from robustprune.comparison.metric import MetricValue
from robustprune.comparison.power import chances, plan_seeds
from robustprune.comparison.verdict import judge
from robustprune.errors import ComparisonError
from robustprune.metrics.seeds import paired_difference, unpaired_difference
from robustprune.metrics.spreads import Spreads


def of_seeds(*deviations: float) -> Spreads:
    """Return spreads that come from seeds alone."""
    return Spreads(deviations, 0.0, (0.0,) * len(deviations), 1000)


@pytest.mark.parametrize("n_seeds", [3, 5, 12])
@pytest.mark.parametrize("difference", [-0.4, 0.0, 0.7])
def test_seeds_alone_have_the_power_of_a_t_test(n_seeds: int, difference: float) -> None:
    found = chances(of_seeds(0.8), n_seeds, 1000, difference=difference)

    def power(effect: float, level: float) -> float:
        return float(TTestPower().power(effect / 0.8, n_seeds, level, alternative="larger"))

    assert found["better"] == pytest.approx(power(difference, 0.025), abs=1e-5)
    assert found["no worse"] == pytest.approx(power(difference + 1, 0.05), abs=1e-5)
    assert found["worse"] == pytest.approx(power(-difference - 1, 0.05), abs=1e-5)


@pytest.mark.parametrize("difference", [0.0, 0.5, 1.0])
def test_seeds_alone_have_the_exact_power_of_two_one_sided_tests(difference: float) -> None:
    # Phillips 1990 (also Owen 1965): over the standard deviation s as it comes out, up to where the bounds meet.
    count, sigma, margin = 6, 0.7, 1.0
    error, critical = sigma / np.sqrt(count), stats.t.ppf(0.95, count - 1)

    def integrand(s: float) -> float:
        half = critical * s / np.sqrt(count)
        inside = np.diff(stats.norm.cdf([half - margin, margin - half], difference, error))[0]
        return float(inside * stats.chi.pdf(s * np.sqrt(count - 1) / sigma, count - 1) * np.sqrt(count - 1) / sigma)

    expected = integrate.quad(integrand, 0, margin * np.sqrt(count) / critical)[0]
    assert chances(of_seeds(sigma), count, 1000, difference=difference)["equivalent"] == pytest.approx(
        expected, abs=1e-4
    )
    if difference == margin:
        assert expected <= 0.05


def test_two_groups_of_seeds_are_as_simulated() -> None:
    random = np.random.default_rng(0)
    counts = {"no worse": 0, "equivalent": 0}
    for _ in range(600):
        sides = random.normal(0, 0.6, 5), random.normal(0, 0.3, 5)
        low, high = unpaired_difference(*sides, np.zeros((10, 10))).interval(0.9)
        counts["no worse"] += low > -1
        counts["equivalent"] += low > -1 and high < 1
    found = chances(of_seeds(0.6, 0.3), 5, 1000)
    assert {name: count / 600 for name, count in counts.items()} == pytest.approx(
        {name: found[name] for name in counts}, abs=0.05
    )


def test_images_alone_are_a_normal_interval() -> None:
    spreads = Spreads((0.0,), 0.5, (0.0,), 1000)
    found = chances(spreads, 5, 4000, difference=0.1)
    bound = stats.norm.ppf(0.95) * 0.25
    expected = np.diff(stats.norm.cdf([bound - 1, 1 - bound], 0.1, 0.25))[0]
    assert found["equivalent"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "world",
    [
        World(5, 400, 0.0, 0.05, 0.003, 0.01),
        pytest.param(World(3, 1500, 0.0, 0.05, 0.003), marks=pytest.mark.slow),
        pytest.param(World(10, 360, 0.005, 0.03, 0.004), marks=pytest.mark.slow),
        pytest.param(World(5, 10_000, 0.0, 0.1, 0.006), marks=pytest.mark.slow),
        pytest.param(World(4, 3000, 0.01, 0.08, 0.003, 0.02), marks=pytest.mark.slow),
    ],
)
def test_verdicts_are_as_likely_as_simulated(world: World) -> None:
    draws = 500
    simulated = shares(world, draws)
    share = 100 * world.seed_deviation, 100 * world.discordance, 100 * world.fixed
    found = chances(
        Spreads.stated(*share, n_images=world.images), world.seeds, world.images, difference=100 * world.difference
    )
    for name, expected in {"no worse": simulated["wins"], "better": simulated["better"]}.items():
        error = 300 * np.sqrt(found[name] * (1 - found[name]) / draws)
        assert 100 * found[name] == pytest.approx(expected, abs=error + 1.5)
    # Better by less than ξ counts as equivalent here.
    assert simulated["equivalent"] - 5 <= 100 * found["equivalent"] <= simulated["equivalent"] + simulated["better"] + 5


def test_spreads_of_a_pilot_are_those_that_it_was_drawn_with() -> None:
    # As a mean over pilots, whose variances are unbiased: all in variances of one image, and of one pair.
    random = np.random.default_rng(0)
    world = World(6, 800, 0.0, 0.08, 0.01, 0.03)
    found = [estimate(world.draw(random)[0]).spreads for _ in range(200)]
    assert np.mean([each.seeds[0] ** 2 for each in found]) == pytest.approx(1.0, rel=0.2)
    assert 800 * np.mean([each.images**2 for each in found]) == pytest.approx(300, rel=0.12)
    assert 800 * np.mean([each.both[0] ** 2 for each in found]) == pytest.approx(500, rel=0.05)
    assert {(each.n_images, each.n_seeds, each.of_share) for each in found} == {(800, (6,), True)}


def test_what_a_pilot_of_two_groups_says() -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(0, 1, 400), random.normal(0, 2, 300)
    found = unpaired_difference(first, second, np.zeros((700, 700))).spreads
    assert found is not None
    assert found.seeds == pytest.approx((first.std(ddof=1), second.std(ddof=1)))
    assert found.n_seeds == (400, 300)


def test_nothing_is_foretold_from_what_says_nothing_of_other_seeds() -> None:
    two, trimmed = np.array([0.1, 0.3]), np.array([0.1, 0.3, 0.2, 0.3, -50.0])
    assert paired_difference(two, np.zeros((2, 2))).spreads is None
    assert paired_difference(trimmed, np.zeros((5, 5)), trim=True).spreads is None
    value = MetricValue(1.0, replicates=np.array([1.0, 2.0]))
    assert estimate_difference([value], [value], paired=True).spreads is None


def test_upper_bound_of_the_spread_is_above_the_truth_in_four_pilots_of_five() -> None:
    random = np.random.default_rng(5)
    held = [
        paired_difference(random.normal(0, 0.5, 3), np.zeros((3, 3))).spreads.at_most().seeds[0] >= 0.5  # type: ignore[union-attr]
        for _ in range(400)
    ]
    assert np.mean(held) == pytest.approx(0.8, abs=0.06)


@settings(max_examples=20)
@given(st.floats(0.05, 2), st.floats(0.5, 20), st.floats(0, 1), st.integers(3, 60), st.integers(50, 50_000))
def test_chances_of_verdicts_agree_with_one_another(sigma: float, apart: float, part: float, s: int, n: int) -> None:
    found = chances(Spreads.stated(sigma, apart, part * apart), s, n, difference=0.3)
    assert all(-1e-9 <= chance <= 1 + 1e-9 for chance in found.values())
    assert found["equivalent"] <= found["no worse"] + 1e-9
    assert found["better"] <= found["no worse"] + 1e-9
    assert found["worse"] + found["no worse"] <= 1 + 1e-9
    assert judge((0.1, 0.2), (0.1, 0.2), 1.0) == "better"


def test_fewest_are_enough_and_one_less_is_not() -> None:
    spreads = Spreads.stated(0.6, 5, 0.5)
    plan = plan_seeds(spreads, images=[2000], seeds=[3, 8], difference=0.2)
    assert plan.verdicts == ("better", "equivalent", "no worse")
    needed = [each for each in plan.needed if each.n_seeds]
    assert needed
    for each in needed:
        assert each.n_seeds is not None
        own, before = (
            chances(spreads, count, each.n_images, difference=0.2)[each.verdict]
            for count in (each.n_seeds, each.n_seeds - 1)
        )
        assert own >= 0.8 > before or each.n_seeds == 3
    for chance in plan.chances:
        if chance.images_needed:
            assert chances(spreads, chance.n_seeds, chance.images_needed, difference=0.2)[chance.verdict] >= 0.8


def test_no_number_of_seeds_makes_up_for_too_few_images() -> None:
    found = plan_seeds(Spreads.stated(0.1, 4, 4), images=[500], seeds=[3])
    assert {each.n_seeds for each in found.needed} == {None}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"difference": -1.0}, "no verdict but undecided"),
        ({"seeds": [2]}, "3 seeds or more"),
        ({"images": [1]}, "two images"),
        ({"power": 1.0}, "between 0 and 1"),
        ({"tolerance": -1.0}, "0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ComparisonError, match=said):
        plan_seeds(Spreads.stated(0.3, 5), **wrong)  # type: ignore[arg-type]


@pytest.fixture
def pilot(run: Run) -> Path:
    for seed in range(3):
        make_record(seed=seed).save(f"dense/{seed}.json")
        make_record(kind="layer", seed=seed).save(f"layer/{seed}.json")
    return Path.cwd()


@pytest.mark.slow
def test_curves(run: Run) -> None:
    stated = ("--seed-deviation", "0.3", "--discordance", "3", "--images", "300,3000", "--seeds", "3,5")
    found = run("power", *stated, "--figures", "out")
    assert found.code == 0, found.err
    assert {path.name for path in Path("out").iterdir()} == {"seeds.pdf", "seeds.svg", "seeds.png"}


def test_command_on_a_pilot(pilot: Path, run: Run) -> None:
    found = run("power", "dense=dense", "layer=layer", "--seeds", "3,5")
    assert found.code == 0, found.err
    assert "Layer vs. dense, accuracy" in found.out
    assert "upper bound of 80 %" in " ".join(found.out.split())
    (plan,) = run("power", "dense=dense", "layer=layer", "--seeds", "3", "--json").json["plans"]
    row = run("compare", "dense=dense", "layer=layer", "--metric", "accuracy", "--json").json["rows"][0]
    assert plan["spreads"] == row["spreads"]
    assert {each["n_images"] for each in plan["needed"]} == {row["n_samples"]}
    json.dumps(plan, allow_nan=False)


def test_command_refuses_what_tells_nothing(pilot: Path, run: Run) -> None:
    check_failure(run("power", "dense=dense/0.json", "layer=layer/0.json"), 1, "takes 3 seeds of each group")
    check_failure(run("power", "dense=dense", "layer=layer", "--metric", "macs"), 1, "is a cost")
    check_failure(run("power", "--seed-deviation", "0.3"), 2, "--discordance")
    check_failure(run("power", "dense=dense", "layer=layer", "--discordance", "3"), 2, "not both")
    check_failure(run("power", "--seed-deviation", "0.3", "--discordance", "3", "--images", "1.5"), 2, "whole numbers")
    check_failure(
        run("power", "--seed-deviation", "0.3", "--discordance", "3", "--consistent", "4", "--images", "99"),
        1,
        "at least",
    )
