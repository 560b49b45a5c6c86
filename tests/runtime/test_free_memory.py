"""How much memory is free, by files as Linux writes them, and what autograd saves, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from robustprune.runtime.free_memory import available_memory, saved_bytes

CPU = torch.device("cpu")


def written(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        ("", {}, 8_000_000 * 1024),
        # A container's limit, of which 1 GB is used, half of that by files that can be dropped.
        (
            "0::/box\n",
            {
                "sys__fs__cgroup__box__memory_DOT_max": "4000000000\n",
                "sys__fs__cgroup__box__memory_DOT_current": "1000000000\n",
                "sys__fs__cgroup__box__memory_DOT_stat": "anon 500000000\ninactive_file 500000000\n",
            },
            3_500_000_000,
        ),
        # The group around it is tighter.
        (
            "0::/outer/box\n",
            {
                "sys__fs__cgroup__outer__box__memory_DOT_max": "max\n",
                "sys__fs__cgroup__outer__box__memory_DOT_current": "10\n",
                "sys__fs__cgroup__outer__memory_DOT_max": "2000000000\n",
                "sys__fs__cgroup__outer__memory_DOT_current": "500000000\n",
            },
            1_500_000_000,
        ),
        # The first version of control groups, which writes a huge number for no limit.
        (
            "4:memory:/box\n3:cpu:/\n",
            {
                "sys__fs__cgroup__memory__box__memory_DOT_limit_in_bytes": "3000000000\n",
                "sys__fs__cgroup__memory__box__memory_DOT_usage_in_bytes": "1000000000\n",
                "sys__fs__cgroup__memory__memory_DOT_limit_in_bytes": "9223372036854771712\n",
                "sys__fs__cgroup__memory__memory_DOT_usage_in_bytes": "1000000000\n",
            },
            2_000_000_000,
        ),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, groups: str, files: dict[str, str], free: int) -> None:
    meminfo = "MemTotal: 9000000 kB\nMemFree: 10 kB\nMemAvailable: 8000000 kB\n"
    root = written(tmp_path, proc__meminfo=meminfo, proc__self__cgroup=groups, **files)
    assert available_memory(CPU, root) == free


def test_what_is_not_known_is_no_number(tmp_path: Path) -> None:
    assert available_memory(CPU, tmp_path) is None
    assert available_memory(torch.device("meta")) is None


def test_saved_is_what_the_backward_pass_needs() -> None:
    layers, images = nn.Sequential(nn.Linear(10, 20), nn.Tanh(), nn.Linear(20, 5)), torch.rand(4, 10)
    # The inputs of both layers; the derivative of tanh needs its output, which is the second one's input.
    assert saved_bytes(lambda: layers(images), layers.parameters()) == 4 * 4 * (10 + 20)
