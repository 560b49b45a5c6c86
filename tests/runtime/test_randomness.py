"""Seeds that are equal everywhere and alike for no two purposes; generators that stay as they were."""

from __future__ import annotations

import random
from contextlib import nullcontext

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


class Cards:
    """The module of a kind of device with several cards, which remembers which of them were touched."""

    def __init__(self) -> None:
        self.touched: list[torch.device] = []
        self.states = {0: torch.zeros(4), 1: torch.ones(4)}

    def get_rng_state(self, device: torch.device) -> torch.Tensor:
        self.touched.append(device)
        return self.states[device.index].clone()

    def set_rng_state(self, state: torch.Tensor, device: torch.device) -> None:
        self.touched.append(device)
        self.states[device.index] = state

    def manual_seed(self, seed: int) -> None:
        self.states[1].fill_(seed)

    def manual_seed_all(self, seed: int) -> None:
        pytest.fail("every card was seeded")


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    found = Cards()
    for kind in (torch.cuda, torch.xpu):
        for name in ("manual_seed_all", "get_rng_state", "set_rng_state", "get_rng_state_all", "device_count"):
            monkeypatch.setattr(kind, name, lambda *_, **__: pytest.fail("a card was touched"))
    monkeypatch.setattr(torch, "get_device_module", lambda _device: found)
    monkeypatch.setattr(torch.accelerator, "device_index", lambda index: nullcontext(index))
    return found


def test_work_on_the_processor_touches_no_card(cards: Cards) -> None:
    for device in (None, torch.device("cpu")):
        with isolated_generators(3, device):
            torch.rand(1)
        restore_generators(generator_states(device), device)
    assert cards.touched == []


def test_work_on_a_card_touches_that_card_alone(cards: Cards) -> None:
    device = torch.device("cuda:1")
    with isolated_generators(3, device):
        assert torch.equal(cards.states[1], torch.full((4,), 3.0))
    assert set(cards.touched) == {device}
    assert torch.equal(cards.states[1], torch.ones(4))
    states = generator_states(device)
    cards.states[1] = torch.zeros(4)
    restore_generators(states, device)
    assert torch.equal(cards.states[1], torch.ones(4))
    # Elsewhere there is nothing to go back to.
    restore_generators(states, torch.device("xpu:0"))
    assert set(cards.touched) == {device}
