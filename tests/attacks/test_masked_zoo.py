"""The checks tell masked networks from sound ones: a part of benchmarks/masked.py, which has them all."""

import pytest
from masked_zoo import LUMINANCE, SIDE, Exhibit, Zoo, codec, cosines

from robustprune.attacks import run_attack
from robustprune.data import load_data

EXPECTED = {
    "JPEG inputs": {"zero gradient", "graph"},
    "gradient shattering": {"stability"},
    "stochastic activation": {"randomness"},
    "temperature": {"zero gradient"},
    "quantized inputs": {"zero gradient"},
    "batch-coupled": {"batch coupling"},
    "train mode": {"mode"},
    "healthy": set(),
}


@pytest.fixture(scope="module")
def zoo():
    return Zoo(load_data("digits"), epochs=3)


def test_each_kind_is_flagged_by_the_check_made_for_it(zoo):
    test = zoo.data.test
    seen = set()
    for each in [*zoo.wrapped(), Exhibit("healthy", "convolutions", zoo.plain)]:
        result = run_attack(each.network, test.images[:40], test.labels[:40], "pgd", epsilon=0.1)
        doubts = {check.name for check in result.checks if check.verdict in ("WARN", "FAIL")}
        assert bool(doubts & EXPECTED[each.kind]) == bool(EXPECTED[each.kind]), (each.kind, each.variant, doubts)
        assert each.kind != "healthy" or not doubts
        seen.add(each.kind)
    assert seen == set(EXPECTED)


def test_rounded_cosines_are_those_of_a_codec(zoo):
    assert len(LUMINANCE) == SIDE
    images = zoo.data.test.images[:20].float() / 255
    gap = (cosines(images) - codec(images)).abs()
    assert float(gap.quantile(0.95)) <= 3 / 255  # a codec rounds pixels, computes in integers, and breaks ties
