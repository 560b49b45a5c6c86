"""The networks of `attacks.py` and `passes.py`.

Those attacked are a ResNet20 on Fashion-MNIST, trained as usual and adversarially: once, and kept in
``$XDG_CACHE_HOME/robustprune/benchmarks``.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from robustprune.data import ImageData, InMemorySplit, load_data
from robustprune.inference import freeze
from robustprune.models import build_model
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe, train

IMAGES, EPOCHS, EPSILON = 15_000, 4, 0.1
RECIPES = {
    "normal": Recipe("quick", epochs=EPOCHS),
    "adversarial": Recipe("quick", epochs=EPOCHS, adversarial="pgd", epsilon=EPSILON, adversarial_steps=3),
}


def fashion_mnist() -> ImageData:
    return load_data("fashion-mnist", train_limit=IMAGES)


def trained(kind: str, data: ImageData) -> Ticket:
    """Return the network called "normal" or "adversarial", trained now if it was not before."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "robustprune" / "benchmarks"
    path = cache / f"resnet20-fashion-mnist-{kind}.pt"
    if not path.exists():
        ticket = Ticket.from_model(build_model("resnet20", data), data)
        train(ticket, data, recipe=RECIPES[kind], country=None)
        ticket.save(path)
    return load_ticket(path)


def untrained(name: str, shape: tuple[int, int, int]) -> nn.Module:
    """Return the frozen copy of a network with random weights for ten classes of images (C, H, W)."""
    split = InMemorySplit(torch.zeros(1, *shape, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    constants = (0.5,) * shape[0], (0.25,) * shape[0]
    return freeze(build_model(name, ImageData("empty", tuple("0123456789"), *constants, True, train=split)))
