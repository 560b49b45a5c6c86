"""A stage to be done: its inputs, and what the stages before it left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from robustprune.data import ImageData, load_data
from robustprune.errors import SweepError
from robustprune.models import build_model
from robustprune.models.user_file import own_code
from robustprune.runtime.files import hash_json
from robustprune.runtime.work import Work, choose_device
from robustprune.sweep.graph import Stage
from robustprune.sweep.store import Store
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Recipe

Tell = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, from 0 to 1."""


@dataclass(frozen=True)
class Job:
    """A stage to be done.

    Attributes:
        stage: What.
        store: Where what it needs lies.
        work: The folder to leave the outcome in.
        tell: Called as work proceeds.
    """

    stage: Stage
    store: Store
    work: Path
    tell: Tell

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What decides the outcome."""
        return self.stage.inputs

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return choose_device(self.stage.hints["device"])

    def data(self) -> ImageData:
        """Return the image set, which has to be the one that was planned with."""
        settings = self.stage.hints["data"]
        data = _load(json.dumps(settings))
        if self.inputs.get("data") not in (None, hash_json(data.identity)):
            raise SweepError(f"the images of {data.name} are not those that the sweep was planned with; start it again")
        return data

    def needed(self, role: str, name: str = "ticket.pt") -> Path:
        """Return a file that a stage left which this one needs."""
        return self.store.stage(self.stage.needs[role]) / name

    def ticket(self, role: str, name: str = "ticket.pt") -> Ticket:
        """Return a ticket that a stage left which this one needs."""
        return load_ticket(self.needed(role, name), model_code=own_code(self.stage.hints["model"]))

    def fresh(self) -> Ticket:
        """Return the dense network with its initial weights."""
        hints, data = self.stage.hints, self.data()
        network = build_model(hints["model"], data, seed=self._seed, **hints["model_options"])
        return Ticket.from_model(network, data)

    def base(self) -> Ticket:
        """Return what is scored and cut: the trained network, or the initial one; on the device."""
        ticket = self.ticket("dense") if "dense" in self.stage.needs else self.fresh()
        ticket.network.to(self.device)
        return ticket

    @property
    def _seed(self) -> int:
        return int(self.inputs["seed"])

    def training(self) -> dict[str, Any]:
        """Return what training takes beyond the ticket and the images."""
        return {
            "recipe": Recipe.of(self.inputs["recipe"]),
            "seed": self._seed,
            "device": self.device,
            "country": self.stage.hints["country"] if self.stage.hints["measure_energy"] else None,
            "work": Work(progress=self.progress, folder=self.work),
        }

    def progress(self, label: str, done: float, total: float) -> None:
        """Tell how far work is."""
        self.tell(label, done / max(total, 1))


@lru_cache(maxsize=2)  # a worker does many stages on the same images
def _load(settings: str) -> ImageData:
    return load_data(**json.loads(settings))
