"""How many processes work on a sweep side by side, and which card each of them sees, by lists of cards."""

from __future__ import annotations

import os
from multiprocessing import Pipe
from types import SimpleNamespace
from typing import Any

import pytest

from robustprune.errors import SweepError
from robustprune.runtime import devices
from robustprune.sweep import sweeping
from robustprune.sweep.engines import local
from robustprune.sweep.engines.local import LocalEngine
from robustprune.sweep.graph import Stage, SweepPlan


def plan_on(*names: str, threads: int = 1) -> SweepPlan:
    plan = SweepPlan()
    for name in names:
        plan.add(Stage("dense", {"threads": threads, "on": name}, {}, {"device": name}, name))
    return plan


@pytest.fixture
def five_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "processors", lambda: 5)


@pytest.mark.usefixtures("five_processors")
def test_there_are_as_many_as_processors_for_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_on("cpu", threads=2)
    assert sweeping.choose_workers(plan, None) == 2
    assert sweeping.choose_workers(plan, 7) == 7
    monkeypatch.setattr(sweeping, "processors", lambda: 1)
    with pytest.raises(SweepError, match="2 threads"):
        sweeping.choose_workers(plan, None)


@pytest.mark.usefixtures("five_processors")
@pytest.mark.parametrize(
    ("here", "wanted", "chosen", "workers", "seen"),
    [
        (["cuda:0", "cuda:1"], ["auto"], {}, 2, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]),
        (["cuda:0", "cuda:1"], ["cuda", "cpu"], {"CUDA_VISIBLE_DEVICES": "5,3"}, 2, ["5", "3"]),
        (["xpu:0", "xpu:1"], ["xpu"], {}, 2, [{"ZE_AFFINITY_MASK": "0"}, {"ZE_AFFINITY_MASK": "1"}]),
        # By its number a card is known only among the others; one worker for each card that is named.
        (["cuda:0", "cuda:1"], ["cuda:1"], {}, 1, []),
        (["cuda:0", "cuda:1", "cuda:2"], ["cuda:1", "cuda:2"], {}, 2, []),
        # Nothing hides Apple's, of which there is one.
        (["mps:0"], ["auto"], {}, 1, [{}]),
        (["cuda:0", "cuda:1"], ["cpu"], {}, 5, []),
        ([], ["auto"], {"CUDA_VISIBLE_DEVICES": "0"}, 5, []),
    ],
)
def test_no_two_workers_share_a_card(
    monkeypatch: pytest.MonkeyPatch,
    here: list[str],
    wanted: list[str],
    chosen: dict[str, str],
    workers: int,
    seen: list[Any],
) -> None:
    monkeypatch.setattr(devices, "devices_here", lambda: [*here, "cpu"])
    for variable in ("CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in chosen.items():
        monkeypatch.setenv(variable, value)
    plan = plan_on(*wanted)
    assert sweeping.choose_workers(plan, None) == workers
    expected = [each if isinstance(each, dict) else {"CUDA_VISIBLE_DEVICES": each} for each in seen]
    assert sweeping._cards(plan) == expected


def test_a_worker_starts_in_the_environment_of_its_card(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str | None] = []

    def process(**_: object) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: started.append(os.environ.get("ZE_AFFINITY_MASK")))

    context = SimpleNamespace(Process=process, Pipe=Pipe)
    monkeypatch.delenv("ZE_AFFINITY_MASK", raising=False)
    monkeypatch.setattr(local, "get_context", lambda _: context)
    engine = LocalEngine(3, cards=[{"ZE_AFFINITY_MASK": "4"}, {"ZE_AFFINITY_MASK": "7"}])
    for place in range(3):
        engine._start(place)
    assert started == ["4", "7", "4"]
    assert "ZE_AFFINITY_MASK" not in os.environ
