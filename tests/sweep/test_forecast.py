"""What an estimate counts, on a network whose speed is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import Run, check_failure

from robustprune.data import ImageData
from robustprune.sweep.forecast import Forecast
from robustprune.sweep.graph import Stage

NOTHING: dict[str, Any] = {"split": "test", "limit": 50, "attacks": {}, "corruptions": {}, "shift": {}, "ood": {}}


def images(data: ImageData, **asked: Any) -> float:
    """Return through how many images an evaluation goes, at one second for each."""
    forecast = Forecast.__new__(Forecast)  # nothing is measured
    forecast.data, forecast.image_seconds = data, 3.0
    stage = Stage("evaluate", {"evaluate": {**NOTHING, **asked}})
    assert forecast.bytes_on_disk(stage) > 0
    return forecast.seconds(stage)


@pytest.mark.parametrize(
    ("names", "corruptions"), [([], 15), (["all"], 15), (["all", "extras"], 19), (["fog", "snow"], 2)]
)
def test_published_corruptions_count_at_every_severity(
    few_digits: ImageData, names: list[str], corruptions: int
) -> None:
    published = images(few_digits, corruptions={"content": "hash", "names": names})
    assert published == 50 * (1 + 5 * corruptions)
    made = images(few_digits, corruptions={"options": {str(number): {} for number in range(corruptions)}})
    assert made == published


def test_a_gradient_counts_as_three_images(few_digits: ImageData) -> None:
    attacks = {"options": {"pgd": {"steps": 10}, "square": {"queries": 300}}, "epsilons": [0.1, 0.2], "restarts": 2}
    assert images(few_digits, attacks=attacks) == 50 * (1 + (3 * 10 + 300) * 2 * 2)
    assert images(few_digits, shift={"mine": "hash"}) == 50 * 2
    assert images(few_digits, certify={"n": 90, "n0": 9, "limit": None}) == 50 * 100
    assert images(few_digits, certify={"n": 90, "n0": 10, "limit": 10}) == 50 + 10 * 100
    assert images(few_digits, certify={"n": 90, "n0": 9, "limit": 1000}) == 50 * 100


def test_dry_run_for_a_cluster_has_to_be_told_how_large_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("pruning: {criterion: snip, blocks: 1}")
    check_failure(run("sweep", "a.yaml", "--out", "out", "--dry-run", "--engine", "ray"), 2, "--workers")
