"""How much faster one network trains than another: real steps of both, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from robustprune.cost import ratio_spread, time_in_turn
from robustprune.data import ImageData, InMemorySplit
from robustprune.models import architecture_of, copy_network
from robustprune.runtime.randomness import isolated_generators, seeded_generator
from robustprune.training.epoch import make_optimizer, train_epoch
from robustprune.training.meter import EnergyMeter
from robustprune.training.recipes import Recipe

_STEPS = 2  # per measurement


def measure_training_speedup(
    model: nn.Module,
    dense: nn.Module,
    *,
    recipe: str | Recipe = "quick",
    batch_size: int | None = None,
    seconds: float = 10.0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train copies of two networks on noise, in turn, and compare the times; the networks are left as they were.

    A step is that of :func:`robustprune.train`: augmentation, forward pass, backward pass, checks, SGD.

    Args:
        model: A network from :func:`robustprune.build_model`, such as a ticket's.
        dense: The one to compare it with, for like images.
        recipe: Whose batch size, optimizer, smoothing and augmentation are used.
        batch_size: In place of the recipe's.
        seconds: For how long to measure; at least five pairs are.
        device: Where to train.

    Returns:
        How many times faster ``model`` trains, as ``median`` and ``iqr`` over so many ``repeats``, pairs measured one
        after the other; and the ``batch_size``, ``threads`` and ``device`` they were measured with.

    Raises:
        ModelError: A network does not know what images it takes.
        TrainingError: No such recipe.
    """
    # So many epochs that the learning rate stays at its start: nothing is to be learnt from noise.
    chosen = Recipe.of(recipe, batch_size=batch_size, epochs=100_000)
    runs = [
        _epoch_of(network, _noise(network, _STEPS * chosen.batch_size), chosen, device) for network in (dense, model)
    ]
    with isolated_generators(0):
        dense_times, times = time_in_turn(runs, seconds, device)
    machine = {"batch_size": chosen.batch_size, "threads": torch.get_num_threads(), "device": str(device)}
    return ratio_spread(dense_times, times).to_dict() | machine


def _epoch_of(model: nn.Module, data: ImageData, recipe: Recipe, device: torch.device | str) -> Callable[[], object]:
    """Return a function that trains a copy of a network for one epoch more."""
    network = copy_network(model).requires_grad_(True).to(device).to(memory_format=torch.channels_last)
    optimizer, placed = make_optimizer(network, recipe), data.to(torch.device(device))
    return lambda: train_epoch(network, optimizer, placed, recipe, epoch=0, seed=0)


def _noise(model: nn.Module, count: int) -> ImageData:
    shape = architecture_of(model)
    size = (count, shape.channels, *shape.image_size)
    images = torch.randint(256, size, dtype=torch.uint8, generator=seeded_generator("training speed"))
    return ImageData(
        name="noise",
        classes=tuple(map(str, range(shape.num_classes))),
        mean=shape.mean,
        std=shape.std,
        flips=True,
        train=InMemorySplit(images, torch.arange(count) % shape.num_classes),
    )


def measure_steps(
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    device: torch.device | str,
    country: str | None = "USA",
    seconds: float = 2.0,
) -> tuple[float, float | None]:
    """Return how long a training step takes, and what power the machine draws meanwhile.

    The network is left as it was, and trained on the first of the images. ``country`` is as for
    :func:`robustprune.train`; measured are ``seconds``, and at least two steps, after two that do not count.

    Returns:
        Seconds, and watts, None where energy cannot be measured.
    """
    split = data.require("train")
    first = torch.arange(min(_STEPS * recipe.batch_size, len(split)))
    few = replace(data, train=InMemorySplit(split.take(first).cpu(), split.labels[first].cpu()), val=None)
    unhurried = recipe.model_copy(update={"epochs": 100_000, "batch_size": min(recipe.batch_size, len(first))})
    steps, step, count = len(first) // unhurried.batch_size, _epoch_of(model, few, unhurried, device), 0
    with isolated_generators(0):
        step()
        meter = EnergyMeter(country)
        start = time.perf_counter()
        with meter.measure() as energy:
            while count == 0 or time.perf_counter() - start < seconds:
                step()
                count += steps
    taken = time.perf_counter() - start
    return taken / count, None if energy.energy_kwh is None else energy.energy_kwh * 3.6e6 / taken
