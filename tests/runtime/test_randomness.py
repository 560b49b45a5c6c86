"""Seeds that are equal everywhere and alike for no two purposes; generators that stay as they were."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustprune.runtime.randomness import (
    derive_seed,
    generator_states,
    isolated_generators,
    restore_generators,
    seeded_generator,
)

PARTS = st.lists(st.integers(0, 99) | st.text("ab1", min_size=1, max_size=3), min_size=1, max_size=4)


# As coreutils computes them: printf '1|2' | b2sum -l 64
@pytest.mark.parametrize(
    ("parts", "digest"), [((1, 2), 0x938BE2A784BB3803), ((2, 1), 0x465CC7E12890CFF0), (("1", 2), 0x938BE2A784BB3803)]
)
def test_seeds_are_those_of_a_published_hash(parts: tuple[int | str, ...], digest: int) -> None:
    assert derive_seed(*parts) == digest // 2


@given(PARTS, PARTS)
def test_other_parts_give_other_seeds(first: list[int | str], second: list[int | str]) -> None:
    alike = list(map(str, first)) == list(map(str, second))
    assert (derive_seed(*first) == derive_seed(*second)) == alike
    assert 0 <= derive_seed(*first) < 2**63


def test_a_generator_has_the_seed_of_its_parts() -> None:
    draws = [torch.rand(4, generator=seeded_generator(*parts)) for parts in ((1, "a"), (1, "a"), (2, "a"))]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def drawn() -> list[float]:
    return [float(torch.rand(())), float(np.random.rand()), random.random()]


def test_what_is_drawn_inside_the_fence_is_not_missed_outside() -> None:
    inside: list[float] = []

    def fail() -> None:
        inside.extend(drawn())
        raise RuntimeError

    states = generator_states()
    expected = drawn()
    restore_generators(states)
    with pytest.raises(RuntimeError):
        isolated_generators(3)(fail)()
    assert drawn() == expected
    with isolated_generators(3):
        assert drawn() == inside
