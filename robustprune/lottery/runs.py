"""Networks over seeds: how the dense network is made and trained, and the records of all that come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from robustprune.data import ImageData
from robustprune.errors import ModelError, PruningError
from robustprune.records import Record
from robustprune.runtime.devices import Device, choose_device
from robustprune.runtime.files import hash_json
from robustprune.runtime.work import Work
from robustprune.sweep import run_here
from robustprune.sweep.settings import DataSettings, RunSettings
from robustprune.tickets.requests import Pruning
from robustprune.training import Recipe


def dense_run(
    data: DataSettings,
    recipe: Recipe,
    model: str,
    model_options: Mapping[str, Any] | None = None,
    device: Device = None,
    country: str | None = "USA",
) -> RunSettings:
    """Return the run of a dense network; the arguments are those of :func:`robustprune.run_lottery`.

    Raises:
        ModelError: The model is no name.
    """
    if not isinstance(model, str):
        called = getattr(model, "__name__", type(model).__name__)
        raise ModelError(
            "a lottery builds its network anew for each seed, and whoever reads its folder later has to as well: put "
            f"what builds this {called} into a Python file and name it, model='file:PATH:NAME'"
        )
    return RunSettings(
        model=model,
        model_options=dict(model_options or {}),
        data=data,
        recipe=recipe,
        pruning=Pruning("dense"),
        threads=torch.get_num_threads(),
        device=str(choose_device(device or "cpu")),
        country=country,
    )


def run_networks(
    kind: str,
    dense: RunSettings,
    networks: Sequence[Pruning],
    seeds: Sequence[int],
    data: ImageData,
    folder: str | Path,
    work: Work,
) -> list[dict[int, Record]]:
    """Train and evaluate networks that differ from a dense one in their pruning; return each one's records, by seed.

    What is done in the folder stays done. ``kind`` is what the sweep is called there, with a hash of what is asked for.

    Raises:
        PruningError: No seed is named, or no ticket beside the dense network.
    """
    seeds = list(dict.fromkeys(seeds))
    if not seeds or len(networks) < 2:
        raise PruningError(
            "no seed is named, so there is no dense network" if not seeds else "no ticket is to be found"
        )
    # Seed by seed: when it is interrupted, what is there is complete for fewer seeds.
    runs = [dense.model_copy(update={"pruning": each, "seed": seed}) for seed in seeds for each in networks]
    name = f"{kind}-{hash_json([[run.model_dump(mode='json') for run in runs], data.identity])[:8]}"
    found = [outcome.read() for outcome in run_here(name, runs, data, folder, work.progress)]
    return [dict(zip(seeds, found[place :: len(networks)], strict=True)) for place in range(len(networks))]


def describe_data(data: ImageData) -> DataSettings:
    """Return how an image set was loaded, as far as settings can say it."""
    known = {name: data.spec[name] for name in DataSettings.model_fields if data.spec.get(name) is not None}
    return DataSettings(**{"name": data.name, **known})
