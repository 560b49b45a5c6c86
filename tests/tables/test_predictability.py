"""Variance components and predictions of tables made of known parts."""

from __future__ import annotations

import zlib
from itertools import product

import numpy as np
import pytest
from known_tables import make_table

from robustprune.errors import TableError
from robustprune.tables.predictability import metric_agreement, predicted_ranks, variance_shares

BLOCKS = [f"layer{stage}.{place}" for stage, place in product((1, 2, 3), (0, 1, 2))]


def noise(*what: object) -> float:
    """Return a standard normal number, the same for the same arguments."""
    return float(np.random.default_rng(zlib.crc32(repr(what).encode())).normal())


def profile_of(removed: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(name[:6] for name in removed))


@pytest.mark.parametrize("part", ["profile", "blocks", "seed", "rest"])
def test_what_varies_with_one_thing_alone_is_found(part: str) -> None:
    found = []
    for turn in range(10):

        def worth(seed: int, removed: tuple[str, ...], turn: int = turn) -> dict[str, float]:
            keys = {"profile": profile_of(removed), "blocks": removed, "seed": seed, "rest": (seed, removed)}
            return {"accuracy": noise(turn, part, keys[part])}

        shares = variance_shares(make_table(worth, seeds=6), "accuracy")
        assert shares.profile + (shares.blocks or 0) + shares.seed + shares.rest == pytest.approx(1)
        found.append(getattr(shares, part))
    assert np.mean(found) > 0.85


def test_components_hold_the_true_ones_on_average() -> None:
    # The deviation of a seed's effect is twice that of what is left; profiles and blocks have none.
    found = [
        variance_shares(
            make_table(
                lambda seed, removed, t=turn: {"accuracy": 2 * noise(t, seed) + noise(t, seed, removed)}, seeds=8
            ),
            "accuracy",
        )
        for turn in range(12)
    ]
    assert np.mean([each.seed for each in found]) == pytest.approx(0.8, abs=0.12)
    assert np.mean([each.rest for each in found]) == pytest.approx(0.2, abs=0.1)
    assert np.mean([each.profile + (each.blocks or 0) for each in found]) < 0.03


def test_agreement_of_measures() -> None:
    table = make_table(
        lambda seed, removed: {"accuracy": (value := noise(seed, removed)), "nll": -value, "ece": value, "pgd": 1.0}
    )
    assert metric_agreement(table, "accuracy", "nll").mean == pytest.approx(1)  # less is better
    assert metric_agreement(table, "accuracy", "ece").mean == pytest.approx(-1)
    with pytest.raises(TableError, match="the same for all tickets"):
        metric_agreement(table, "accuracy", "pgd")


def test_criteria_together_predict_what_each_knows_a_part_of() -> None:
    cost = {name: abs(noise(name)) for name in BLOCKS}
    table = make_table(lambda seed, removed: {"accuracy": -sum(cost[name] for name in removed)}, seeds=5)
    half = {"a": lambda name: "layer3" not in name, "b": lambda name: "layer3" in name}
    scores = {
        criterion: {seed: [{name: cost[name] if knows(name) else 0.0 for name in BLOCKS}] for seed in table.seeds}
        for criterion, knows in half.items()
    }
    alone = [predicted_ranks(table, "accuracy", {name: own}).mean for name, own in scores.items()]
    assert predicted_ranks(table, "accuracy", scores).mean > max(alone) + 0.1, alone
    with pytest.raises(TableError, match="takes four"):
        predicted_ranks(make_table(lambda seed, removed: {"accuracy": 1.0}, seeds=3), "accuracy", scores)


def test_of_nothing_nothing_is_predicted() -> None:
    """Of twenty sets of nonsense about as many intervals hold 0 as 95 % says."""
    table = make_table(lambda seed, removed: {"accuracy": noise(seed, removed)}, seeds=20)
    held = 0
    for number in range(20):
        nonsense = {
            str(criterion): {
                seed: [{name: noise(number, criterion, seed, name) for name in BLOCKS}] for seed in table.seeds
            }
            for criterion in range(3)
        }
        tau = predicted_ranks(table, "accuracy", nonsense)
        held += tau.ends[0] <= 0 <= tau.ends[1]
    assert held >= 17
