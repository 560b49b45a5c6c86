"""Seeds derived from what they are for, and a fence around the process-wide random generators."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part, equal on every platform.

    Hashing keeps streams apart that plain arithmetic would make collide: (seed 1, epoch 2) and
    (seed 2, epoch 1) share nothing.
    """
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seeded_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator seeded by :func:`derive_seed` of the parts."""
    return torch.Generator(device=device).manual_seed(derive_seed(*parts))


@dataclass(frozen=True)
class BatchGenerator:
    """Random numbers for each image of a batch; for some of its images, those they get within the whole batch."""

    generator: torch.Generator  # it moves on as for the whole batch
    rows: slice | None = None  # which images of a larger batch are here; None for all of them
    total: int = 0  # how many that batch has

    def rand(self, *shape: int, along: int = 0) -> Tensor:
        """Return numbers from [0, 1); ``shape`` is that for the images here, which dimension ``along`` counts."""
        return self._own(torch.rand, shape, along)

    def randn(self, *shape: int) -> Tensor:
        """Return normally distributed numbers; the first dimension counts the images."""
        return self._own(torch.randn, shape)

    def randint(self, high: int, *shape: int) -> Tensor:
        """Return integers from 0 to ``high`` − 1; the first dimension counts the images."""
        return self._own(partial(torch.randint, high), shape)

    def _own(self, draw: Callable[..., Tensor], shape: tuple[int, ...], along: int = 0) -> Tensor:
        whole = shape if self.rows is None else (*shape[:along], self.total, *shape[along + 1 :])
        drawn = draw(whole, generator=self.generator, device=self.generator.device)
        return drawn if self.rows is None else drawn[(slice(None),) * along + (self.rows,)]


def as_batch_generator(source: torch.Generator | BatchGenerator) -> BatchGenerator:
    """Return what draws for whole batches from a generator, or what was given."""
    return source if isinstance(source, BatchGenerator) else BatchGenerator(source)


@contextmanager
def isolated_generators(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Give back the process-wide generators (torch, numpy, random) as they were, whatever happens inside.

    Inside they start at the seed, or where they are. Of torch's they are the processor's and that of the device that is
    computed on: others are not touched, as to ask a card for its generator takes hold of the card.
    """
    states = _states_of_torch(device)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        if seed is not None:
            _seed_torch(seed, device)
            np.random.seed(seed % 2**32)
            random.seed(seed)
        yield
    finally:
        _restore_torch(states, device)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def generator_states(device: torch.device | None = None) -> dict[str, Any]:
    """Return where the process-wide generators stand, torch's on the processor and a device, as plain values."""
    name, keys, *rest = np.random.get_state()
    return {
        "torch": _states_of_torch(device),
        "numpy": (str(name), torch.tensor(np.asarray(keys).astype(np.int64)), *(value for value in rest)),
        "python": random.getstate(),
    }


def restore_generators(states: dict[str, Any], device: torch.device | None = None) -> None:
    """Go back to the `generator_states` of a device; what was drawn on another kind of device is not drawn on this."""
    _restore_torch(states["torch"], device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(states["python"])


def _states_of_torch(device: torch.device | None) -> dict[str, Tensor]:
    """Return the states of torch's generators, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device is not None and device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state(device)
    return states


def _restore_torch(states: dict[str, Tensor], device: torch.device | None) -> None:
    torch.set_rng_state(states["cpu"])
    if device is not None and device.type != "cpu" and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type], device)


def _seed_torch(seed: int, device: torch.device | None) -> None:
    # Not by torch.manual_seed, which seeds every card: those that were started, and those that will be.
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type != "cpu":
        with torch.accelerator.device_index(device.index):
            torch.get_device_module(device).manual_seed(seed)
