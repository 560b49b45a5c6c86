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
BEFORE = {
    "keep_freed_memory": "from robustprune.runtime.work import keep_freed_memory; keep_freed_memory()",
    "run_attack": """
from robustprune.attacks import run_attack
tiny = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
run_attack(tiny, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), "fgsm", epsilon=0.1)
""",
    "train": """
import robustprune as rp
data = rp.load_data("digits", train_limit=40)
model = rp.build_model("resnet20", data)
ticket = rp.prune_layers(model, rp.score_blocks(model, data, criterion="random"), blocks=1, data=data)
rp.train(ticket, data, epochs=1, country=None)
""",
}


def page_faults(before: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", ROUNDS.format(before=before)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory in other ways")
@pytest.mark.parametrize("what", BEFORE)
def test_memory_that_a_batch_frees_is_there_for_the_next(what: str) -> None:
    assert page_faults(BEFORE[what]) < 0.2 * page_faults("")
