"""A training run: its identity, where it stands, and what a ticket keeps of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import TrainingError
from robustprune.models.networks import set_weights
from robustprune.pruning import apply_masks, hash_masks
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.files import hash_json
from robustprune.runtime.processes import ALONE, Processes
from robustprune.runtime.randomness import derive_seed, isolated_generators
from robustprune.tickets.ticket import Ticket
from robustprune.training.adversarial import watch_robustness
from robustprune.training.checkpoint import Checkpoint, load_checkpoint
from robustprune.training.distributed import SharedNetwork, describe_processes
from robustprune.training.energy import EnergyMeter
from robustprune.training.epoch import StepProgress, make_optimizer, train_epoch, validate
from robustprune.training.recipes import Recipe


def run_settings(
    ticket: Ticket,
    data: ImageData,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    start_epoch: int = 0,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Return everything that decides how a run comes out, apart from the machine."""
    return {
        "recipe": recipe.model_dump(),
        "seed": seed,
        "start_epoch": start_epoch,
        "data": hash_json(data.identity),
        "network": ticket.sha256,
        "removed": sorted(ticket.plan.removed),
        **({"masks": hash_masks(ticket.masks)} if ticket.masks else {}),
        # Sums come out differently with other threads, devices and releases of torch.
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        **describe_processes(ticket.network, processes, device),
    }


class TrainingRun:
    """A training run between its first epoch and its last."""

    def __init__(
        self,
        ticket: Ticket,
        data: ImageData,
        recipe: Recipe,
        seed: int,
        device: torch.device,
        checkpoint: Path | None,
        start_epoch: int,
        processes: Processes,
    ) -> None:
        """Begin with the ticket's present weights; for the arguments see :func:`robustprune.training.train`."""
        self.data, self.recipe, self.seed, self.checkpoint = data.to(device), recipe, seed, checkpoint
        self.start_epoch, self.processes, self.device = start_epoch, processes, device
        self.settings = run_settings(ticket, data, recipe, seed, device, start_epoch, processes)
        self.described = describe_processes(ticket.network, processes, device)
        self.network: nn.Module = ticket.network.to(device).to(memory_format=torch.channels_last)
        example = None if processes.is_alone else self.data.require("train").take(torch.arange(2)).to(device)
        self.shared = SharedNetwork(self.network, processes, example)
        self.optimizer = make_optimizer(self.network, recipe)
        if ticket.masks:
            masks = {name: mask.to(device) for name, mask in ticket.masks.items()}
            self.optimizer.register_step_post_hook(lambda *_: apply_masks(self.network, masks))
        self.history: list[dict[str, Any]] = []
        self.energy_method = ""

    def restore(self) -> None:
        """Go back to the checkpoint, if there is one."""
        if self.checkpoint is None:
            raise TrainingError("nothing to resume from: training was not told where its checkpoint is")
        checkpoint = self.checkpoint
        found = self.processes.from_main(lambda: load_checkpoint(checkpoint, self.settings))
        if found is not None:
            self.history = found.history
            self.energy_method = found.energy_method
            set_weights(self.network, found.weights)
            self.optimizer.load_state_dict(found.optimizer)

    def train_epoch(self, epoch: int, meter: EnergyMeter, on_step: Callable[[StepProgress], None] | None) -> None:
        """Train and validate one epoch."""
        # Foreign networks may draw from the process-wide generator (dropout); it restarts with each epoch.
        own = (self.processes.rank,) if self.processes.rank > 0 else ()
        with isolated_generators(derive_seed(self.seed, "network", epoch, *own)), meter.measure() as energy:
            entry = train_epoch(
                self.shared,
                self.optimizer,
                self.data,
                self.recipe,
                epoch=epoch,
                seed=self.seed,
                on_step=on_step,
            )
        if self.data.val is not None:
            entry |= validate(self.network, self.data.val, processes=self.processes)
            if not math.isfinite(entry["validation_loss"]):
                raise TrainingError(
                    f"training diverged: after epoch {epoch + 1} the validation loss is {entry['validation_loss']}. "
                    "Lower the learning rate (--learning-rate)"
                )
        if self.recipe.adversarial != "none":
            watched = self.data.require("train") if self.data.val is None else self.data.val
            entry |= watch_robustness(self.network, watched, self.recipe, self.history, self.seed, self.processes)
        entry |= {"energy_kwh": energy.energy_kwh, "co2_kg": energy.co2_kg}
        # Times and energy are the main process's.
        entry, self.energy_method = self.processes.from_main(lambda: (entry, energy.method))
        self.history.append(entry)

    def keep(self, ticket: Ticket, country: str, path: Path) -> None:
        """Write the ticket as it is now."""
        self.processes.from_main(lambda: self.result(ticket, country).save(path))

    def save_checkpoint(self) -> None:
        """Write down where the run stands, if it was told where to."""
        self.processes.from_main(self._write_checkpoint)

    def _write_checkpoint(self) -> None:
        if self.checkpoint is not None:
            state = Checkpoint(
                self.settings,
                self.history,
                self.network.state_dict(),
                self.optimizer.state_dict(),
                self.energy_method,
            )
            state.save(self.checkpoint)

    def result(self, ticket: Ticket, country: str) -> Ticket:
        """Return the ticket as training has made it so far."""
        return replace(
            ticket,
            history=list(self.history),
            data=dict(self.data.spec),
            training=self._summary(country),
            earlier_training=[*ticket.earlier_training, *([ticket.training] if ticket.training else [])],
            provenance=describe_environment(),
        )

    def _summary(self, country: str) -> dict[str, Any]:
        """Return what the ticket keeps of the training as a whole."""
        seconds = sum(entry["seconds"] for entry in self.history)
        images = sum(entry["seconds"] * entry["images_per_second"] for entry in self.history)
        return {
            "run": hash_json(self.settings),
            "recipe": self.recipe.model_dump(),
            "seed": self.seed,
            "data": self.data.provenance,
            "start_epoch": self.start_epoch,
            "epochs": len(self.history),
            "seconds": seconds,
            "images_per_second": images / seconds,
            "energy_kwh": _total(self.history, "energy_kwh"),
            "co2_kg": _total(self.history, "co2_kg"),
            "country": country,
            "energy_method": self.energy_method,
            "threads": torch.get_num_threads(),
            "device": self.device.type,
            **self.described,
        }


def _total(history: list[dict[str, Any]], name: str) -> float | None:
    values = [entry[name] for entry in history]
    return None if any(value is None for value in values) else float(sum(values))
