"""Timing: what is called how often and in which order, and medians of known times."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from robustprune.cost import Latency, Spread, measure_latencies, ratio_spread, time_in_turn


def test_spread_by_hand() -> None:
    assert Spread.of([5, 1, 2, 4, 3]) == Spread(median=3, iqr=2, repeats=5)
    assert Spread.of([7]) == Spread(median=7, iqr=0, repeats=1)


def test_ratios_are_taken_within_a_round() -> None:
    # The machine halves its speed midway; one always takes half as long as the other.
    assert ratio_spread([1, 1, 2, 2, 2], [2, 2, 4, 4, 4]) == Spread(median=0.5, iqr=0, repeats=5)


def test_calls_take_turns() -> None:
    calls: list[str] = []
    times = time_in_turn([lambda: calls.append("a"), lambda: calls.append("b")], seconds=0)
    assert "".join(calls) == "aabb" + "abbaabbaab"
    assert [len(each) for each in times] == [5, 5]
    assert all(value >= 0 for each in times for value in each)
    assert len(time_in_turn([lambda: None], seconds=0.02)[0]) > 5


class Spy(nn.Module):
    """Notes what it is called with; a copy of it notes in the same place."""

    seen: ClassVar[list[tuple[int, bool, bool]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))

    def forward(self, images: Tensor) -> Tensor:
        folded = not any(isinstance(module, nn.BatchNorm2d) for module in self.modules())
        self.seen.append((len(images), torch.is_inference_mode_enabled(), folded))
        return self.layers(images)


def test_the_frozen_copy_is_timed_on_whole_batches() -> None:
    Spy.seen.clear()
    network = Spy().train()
    (latency,) = measure_latencies([network], batch_size=6, seconds=0, example=torch.zeros(1, 3, 8, 8))
    assert Spy.seen[-7:] == [(6, True, True)] * 7
    assert network.training
    assert (latency.batch_size, latency.device, latency.spread.repeats) == (6, "cpu", 5)
    assert latency.threads == torch.get_num_threads()


def test_saved_time_is_the_median_over_rounds() -> None:
    own, dense = (Latency(1, times, 1, "cpu") for times in ((1.0, 2.0, 30.0), (4.0, 4.0, 40.0)))
    assert own.saved_percent(dense) == pytest.approx(50)
    assert own.to_dict() == {"median": 2, "iqr": 14.5, "repeats": 3, "batch_size": 1, "threads": 1, "device": "cpu"}


def test_more_work_takes_longer() -> None:
    small, large = (nn.Sequential(nn.Flatten(), *(nn.Linear(300, 300) for _ in range(depth))) for depth in (1, 40))
    own, dense = measure_latencies([small, large], batch_size=64, seconds=0.1, example=torch.zeros(1, 3, 10, 10))
    assert own.saved_percent(dense) > 50
