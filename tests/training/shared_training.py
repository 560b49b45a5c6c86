"""Started by torchrun in tests: trains small networks by all processes together, and writes what came of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from robustprune.data import ImageData, load_data
from robustprune.errors import DataError, RobustPruneError
from robustprune.models import build_model
from robustprune.runtime.process_group import SINGLE, ProcessGroup, join_process_group
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket
from robustprune.training import Recipe, train

SMOOTH = """
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Tanh(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.Tanh(),
        nn.Flatten(), nn.Linear(128, 10),
    ).double()

class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.unused = net(), nn.Linear(3, 3).double()

    def forward(self, images):
        return self.net(images)
"""
"""Networks without batch statistics and without kinks, which would amplify rounding, in double precision."""

# Batches of an odd number of images: the shares of two processes differ.
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "augmix": {"augmentation": "augmix", "consistency": 12.0},
    "corruptions": {"augmentation": "corruptions"},
    "pgd": {"adversarial": "pgd"},
    "trades": {"adversarial": "trades"},
}
MIXED: dict[str, dict[str, Any]] = {"bf16": {"precision": "bf16"}, "fp16": {"precision": "fp16"}}
"""In single precision."""
SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 33, "country": None, "seed": 5}


def few_images() -> ImageData:
    return load_data("digits", train_limit=201)


def train_case(code: Path, data: ImageData, name: str, processes: ProcessGroup = SINGLE) -> Ticket:
    network = build_model(f"file:{code}:net", data)
    ticket = Ticket.from_model(network.float() if name in MIXED else network, data)
    return train(ticket, data, **SETTINGS, **{**CASES, **MIXED}[name], work=Work(processes))


def train_one_step(code: Path, data: ImageData, network: str, processes: ProcessGroup = SINGLE) -> Ticket:
    """Take one step of plain gradient descent on all training images at once."""
    plain: dict[str, Any] = {
        "augmentation": "none",
        "label_smoothing": 0.0,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "learning_rate": 1.0,
    }
    recipe = Recipe("quick", epochs=1, batch_size=201, **plain)
    ticket = Ticket.from_model(build_model(f"file:{code}:{network}", data), data)
    return train(ticket, data, recipe=recipe, country=None, work=Work(processes))


def fail_in_one(processes: ProcessGroup) -> str:
    try:
        with processes.raising_everywhere():
            if processes.rank == 1:
                raise DataError("the disk of process 1 is gone")
    except RobustPruneError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def thread_names() -> list[str]:
    """Return what the threads of this process are called, those that no Python knows of included."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def main() -> None:
    folder = Path(sys.argv[1])
    code, data = folder / "smooth.py", few_images()
    torch.set_num_threads(1)
    with join_process_group(torch.device("cpu")) as processes:
        found: dict[str, Any] = {"failures": processes.gather(fail_in_one(processes))}
        for name in (*CASES, *MIXED):
            ticket = train_case(code, data, name, processes)
            found[name] = {"weights": ticket.network.state_dict(), "history": ticket.history}
            found[name]["equal"] = len(set(processes.gather(ticket.sha256))) == 1
            found[name]["training"] = ticket.training
        for network in ("net", "Idle"):
            ticket = train_one_step(code, data, network, processes)
            found[network] = {"weights": ticket.network.state_dict(), "rate": ticket.history[-1]["learning_rate"]}
    found["threads"] = [name for name in thread_names() if "gloo" in name]
    if processes.is_main:
        torch.save(found, folder / "found.pt")


if __name__ == "__main__":
    main()
