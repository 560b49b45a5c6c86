"""What training takes: energy and CO₂, by codecarbon in offline mode, and time, by real steps of networks in turn."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from robustprune.cost import ratio_spread, time_in_turn
from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import TrainingError
from robustprune.models import architecture_of, chosen_device, copy_network
from robustprune.registry import suggest
from robustprune.runtime.devices import Device
from robustprune.runtime.randomness import isolated_generators, seeded_generator
from robustprune.training.distributed import SharedNetwork
from robustprune.training.epoch import make_optimizer, train_epoch
from robustprune.training.recipes import Recipe

_STEPS = 2  # per measurement


@dataclass
class EnergyReading:
    """What one stretch of work used.

    Attributes:
        energy_kwh: Electricity of processor, memory and accelerators in kilowatt-hours; None if unknown.
        co2_kg: Kilograms of CO₂ equivalent at the carbon intensity of the country's grid; None if unknown.
        method: How codecarbon got at the processor's power, such as "cpu_load" (estimated from its load and
            the model's nominal power), or why there is no figure.
    """

    energy_kwh: float | None = None
    co2_kg: float | None = None
    method: str = ""


class EnergyMeter:
    """Measures stretches of work one after another.

    A meter that cannot be set up never stops the work: the figures are None and ``method`` says why.

    Raises:
        TrainingError: codecarbon has no carbon intensity for that country; it would silently take a mean.
    """

    def __init__(self, country: str | None = "USA", *, whole_machine: bool = False) -> None:
        """Prepare a meter for a country (ISO 3166, three letters; None measures nothing), of this process or of all."""
        self._tracker: Any = None
        self._method, self._scope = "switched off", ", whole machine" if whole_machine else ""
        if country is None:
            return
        try:
            from codecarbon.input import DataSource

            known = list(DataSource().get_global_energy_mix_data())  # type: ignore[no-untyped-call]
            self._tracker = _tracker(country, whole_machine) if country in known else None
        except Exception as error:
            self._method = f"codecarbon failed: {type(error).__name__}: {error}"
            return
        if self._tracker is None:
            raise TrainingError(
                f"there is no carbon intensity for a country {country!r}.{suggest(country, known)} --country takes "
                "an ISO 3166 code of three letters, such as USA, BRA or FRA"
            )

    @contextmanager
    def measure(self) -> Iterator[EnergyReading]:
        """Measure what happens inside; the yielded figures are filled in at the end."""
        energy = EnergyReading(method=self._method)
        if self._tracker is None:
            yield energy
            return
        self._tracker.start_task()
        try:
            yield energy
        finally:
            data = self._tracker.stop_task()
            if data is not None:
                energy.energy_kwh, energy.co2_kg = float(data.energy_consumed), float(data.emissions)
            modes = [getattr(hardware, "_mode", None) for hardware in getattr(self._tracker, "_hardware", [])]
            energy.method = f"codecarbon {next(filter(None, modes), 'unknown')}{self._scope}"


@cache
def _tracker(country: str, whole_machine: bool) -> Any:
    """Return codecarbon's tracker; finding out about the hardware takes it over a second, so one is kept."""
    # Its log lines ignore the level it is given until it is set up.
    logging.getLogger("codecarbon").disabled = True
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code=country,
        output_methods=[],
        log_level="critical",
        allow_multiple_runs=True,
        # A neighbour on the same machine is not this network's cost; of several processes there is no such figure.
        tracking_mode="machine" if whole_machine else "process",
    )
    # The constructor swallows its own errors; a first measurement brings them out, and warms it up.
    tracker.start_task()
    tracker.stop_task()
    return tracker


def measure_training_speedup(
    model: nn.Module,
    dense: nn.Module,
    *,
    recipe: str | Recipe = "quick",
    batch_size: int | None = None,
    seconds: float = 10.0,
    device: Device = None,
) -> dict[str, Any]:
    """Train copies of two networks on noise, in turn, and compare the times; the networks are left as they were.

    A step is that of :func:`robustprune.train`: augmentation, forward pass, backward pass, checks, SGD.

    Args:
        model: A network from :func:`robustprune.build_model`, such as a ticket's.
        dense: The one to compare it with, for like images.
        recipe: Whose batch size, optimizer, smoothing and augmentation are used.
        batch_size: In place of the recipe's.
        seconds: For how long to measure; at least five pairs are.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.

    Returns:
        How many times faster ``model`` trains, as ``median`` and ``iqr`` over ``repeats`` pairs; ``batch_size``,
        ``threads`` and ``device``.

    Raises:
        ModelError: A network does not know what images it takes.
        TrainingError: No such recipe.
    """
    # So many epochs that the learning rate stays at its start: nothing is to be learnt from noise.
    chosen = Recipe.of(recipe, batch_size=batch_size, epochs=100_000)
    place = chosen_device(model, device)
    runs = [
        _epoch_of(network, _noise(network, _STEPS * chosen.batch_size), chosen, place) for network in (dense, model)
    ]
    with isolated_generators(0, place):
        dense_times, times = time_in_turn(runs, seconds, place)
    machine = {"batch_size": chosen.batch_size, "threads": torch.get_num_threads(), "device": str(place)}
    return ratio_spread(dense_times, times).to_dict() | machine


def _epoch_of(model: nn.Module, data: ImageData, recipe: Recipe, device: torch.device) -> Callable[[], object]:
    """Return a function that trains a copy of a network for one epoch more."""
    network = copy_network(model).requires_grad_(True).to(device).to(memory_format=torch.channels_last)
    optimizer, placed = make_optimizer(network, recipe), data.to(device)
    shared = SharedNetwork(network, compiled=recipe.compile)
    return lambda: train_epoch(shared, optimizer, placed, recipe, epoch=0, seed=0)


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
    device: torch.device,
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
    with isolated_generators(0, device):
        step()
        meter = EnergyMeter(country)
        start = time.perf_counter()
        with meter.measure() as energy:
            while count == 0 or time.perf_counter() - start < seconds:
                step()
                count += steps
    taken = time.perf_counter() - start
    return taken / count, None if energy.energy_kwh is None else energy.energy_kwh * 3.6e6 / taken
