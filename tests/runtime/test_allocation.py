"""Memory that is freed stays with the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ROUNDS = """
import resource, torch
from torch import nn
{before}
torch.set_num_threads(1)
network = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Conv2d(16, 16, 3, padding=1), nn.Tanh())])
images = torch.rand(64, 16, 28, 28, requires_grad=True)  # 3 MiB, as is what each layer returns
def work():
    torch.autograd.grad(network(images).sum(), images)
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
LARGE = """
import resource, torch
{before}
for _ in range(12):  # small blocks get between the large ones at first
    torch.ones(2**24)  # 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(6):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
BEFORE = {
    "keep_freed_memory": "from robustprune.runtime.allocation import keep_freed_memory; keep_freed_memory()",
    "whatever takes a network": "import robustprune.attacks",
}


def page_faults(before: str, script: str = ROUNDS, **variables: str) -> int:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", script.format(before=before)]
    run = subprocess.run(command, env=own | variables, capture_output=True, text=True, check=True)
    return int(run.stdout)


is_gnu = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory in other ways")


@pytest.mark.slow
@is_gnu
@pytest.mark.parametrize("what", BEFORE)
def test_memory_that_a_batch_frees_is_there_for_the_next(what: str) -> None:
    assert page_faults(BEFORE[what]) < 0.2 * page_faults("")


@pytest.mark.slow
@is_gnu
def test_blocks_of_more_than_32_mib_stay_too() -> None:
    assert page_faults(BEFORE["keep_freed_memory"], LARGE) < 0.2 * page_faults("", LARGE)


@pytest.mark.slow
@is_gnu
def test_who_has_set_up_the_c_library_is_left_alone() -> None:
    chosen = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    assert page_faults(BEFORE["keep_freed_memory"], LARGE, **chosen) > 0.8 * page_faults("", LARGE, **chosen)
