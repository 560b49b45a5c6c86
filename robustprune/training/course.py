"""A training run: what it is asked, where it stands, its checkpoint, and what a ticket keeps of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import DamagedFileError, TrainingError
from robustprune.inference import freeze
from robustprune.models.networks import set_weights
from robustprune.pruning import apply_masks, hash_masks
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.file_kinds import CHECKPOINT
from robustprune.runtime.files import hash_json, read_sealed, write_sealed
from robustprune.runtime.process_group import SINGLE, ProcessGroup
from robustprune.runtime.randomness import derive_seed, isolated_generators
from robustprune.runtime.work import Progress
from robustprune.tickets.ticket import Ticket
from robustprune.training.adversarial_training import watch_robustness
from robustprune.training.distributed import SharedNetwork, describe_processes
from robustprune.training.epoch import make_optimizer, train_epoch, validate
from robustprune.training.meter import EnergyMeter
from robustprune.training.precision import describe_precision, make_scaler
from robustprune.training.recipes import Recipe

FORMAT = "robustprune-checkpoint"
_KEPT = ("processes", "batch_statistics", "teacher")
"""What of its identity a training leaves on the ticket, where it has it."""


@dataclass(frozen=True)
class Course:
    """What a training goes through, and where; see :func:`robustprune.training.train`."""

    recipe: Recipe
    seed: int
    device: torch.device
    start_epoch: int
    stop_epoch: int
    country: str | None
    teacher: Ticket | None = None

    @classmethod
    def of(
        cls,
        recipe: str | Recipe = "quick",
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        start_epoch: int = 0,
        stop_epoch: int | None = None,
        country: str | None = "USA",
        teacher: Ticket | None = None,
        **overrides: Any,
    ) -> Self:
        """Return a course from the arguments of :func:`robustprune.training.train`.

        Raises:
            TrainingError: A recipe that cannot be, or epochs that are no part of it.
        """
        chosen = Recipe.of(recipe, **overrides)
        last = chosen.epochs if stop_epoch is None else stop_epoch
        if not 0 <= start_epoch < last <= chosen.epochs:
            raise TrainingError(f"epochs {start_epoch} to {last} are no part of a training of {chosen.epochs} epochs")
        if (teacher is None) != (chosen.distill == 0):
            raise TrainingError(
                "a recipe with distillation needs a teacher to learn from (--distill FILE)"
                if teacher is None
                else "a teacher is learnt from with a weight above 0 (--distill-weight)"
            )
        return cls(chosen, seed, torch.device(device), start_epoch, last, country, teacher)

    def identity(self, ticket: Ticket, data: ImageData, processes: ProcessGroup = SINGLE) -> dict[str, Any]:
        """Return everything that decides how a run comes out, apart from the machine."""
        return {
            "recipe": self.recipe.model_dump(),
            "seed": self.seed,
            "start_epoch": self.start_epoch,
            "data": hash_json(data.identity),
            "network": ticket.sha256,
            "removed": sorted(ticket.plan.removed),
            **({"masks": hash_masks(ticket.masks)} if ticket.masks else {}),
            **({"teacher": self.teacher.sha256} if self.teacher else {}),
            # Sums come out differently with other threads, devices and releases of torch.
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            **describe_processes(ticket.network, processes, self.device),
        }


class TrainingRun:
    """A training run between its first epoch and its last.

    Attributes:
        network: On its device.
        history: An entry for each epoch that is done.
    """

    def __init__(self, ticket: Ticket, data: ImageData, course: Course, processes: ProcessGroup = SINGLE) -> None:
        """Begin with the ticket's present weights."""
        self.ticket, self.course, self.data, self.processes = ticket, course, data.to(course.device), processes
        self.identity = course.identity(ticket, data, processes)
        self.network: nn.Module = ticket.network.to(course.device).to(memory_format=torch.channels_last)
        shown = self.data.require("train").take(torch.arange(2))
        self.teacher: nn.Module | None = None
        if course.teacher is not None:
            self.teacher = freeze(course.teacher.model(), shown, device=course.device)
        example = None if processes.is_single else shown.to(course.device)
        self.shared = SharedNetwork(self.network, processes, example, compiled=course.recipe.compile)
        self.optimizer = make_optimizer(self.network, course.recipe)
        self.scaler = make_scaler(course.recipe.precision, course.device)
        if ticket.masks:
            masks = {name: mask.to(course.device) for name, mask in ticket.masks.items()}
            self.optimizer.register_step_post_hook(lambda *_: apply_masks(self.network, masks))
        self.history: list[dict[str, Any]] = []
        self.energy_method = ""

    def train_epoch(self, epoch: int, meter: EnergyMeter, progress: Progress | None) -> None:
        """Train and validate one epoch."""
        recipe, seed, device = self.course.recipe, self.course.seed, self.course.device
        # Networks of a user's own may draw from the process-wide generator (dropout); it restarts with each epoch.
        own = (self.processes.rank,) if self.processes.rank > 0 else ()
        with isolated_generators(derive_seed(seed, "network", epoch, *own), device), meter.measure() as energy:
            entry = train_epoch(
                self.shared,
                self.optimizer,
                self.data,
                recipe,
                epoch=epoch,
                seed=seed,
                progress=progress,
                scaler=self.scaler,
                teacher=self.teacher,
            )
        if self.data.val is not None:
            entry |= validate(self.network, self.data.val, processes=self.processes)
            if not math.isfinite(entry["validation_loss"]):
                raise TrainingError(
                    f"training diverged: after epoch {epoch + 1} the validation loss is {entry['validation_loss']}. "
                    "Lower the learning rate (--learning-rate)"
                )
        if recipe.adversarial != "none":
            watched = self.data.require("train") if self.data.val is None else self.data.val
            entry |= watch_robustness(self.network, watched, recipe, self.history, seed, self.processes)
        entry |= {"energy_kwh": energy.energy_kwh, "co2_kg": energy.co2_kg}
        # Times and energy are the main process's.
        entry, self.energy_method = self.processes.from_main(lambda: (entry, energy.method))
        self.history.append(entry)

    def save_checkpoint(self, path: Path) -> None:
        """Write down where the run stands, atomically, so that a killed one loses at most an epoch.

        Raises:
            TrainingError: The file cannot be written, or one of another kind is there.
        """
        content = {
            "format": FORMAT,
            "settings": self.identity,
            "history": self.history,
            "weights": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "energy_method": self.energy_method,
            "scaler": self.scaler.state_dict(),
        }
        try:
            self.processes.from_main(lambda: write_sealed(path, content, CHECKPOINT))
        except OSError as error:
            raise TrainingError(f"the checkpoint {path} cannot be written: {error.strerror}") from error

    def restore(self, path: Path) -> None:
        """Go back to the checkpoint, if there is one.

        Raises:
            TrainingError: The file is damaged, or belongs to another run; the message says what differs.
        """
        found = self.processes.from_main(lambda: _read_checkpoint(path, self.identity) if path.exists() else None)
        if found is not None:
            self.history, self.energy_method = found["history"], found["energy_method"]
            set_weights(self.network, found["weights"])
            self.optimizer.load_state_dict(found["optimizer"])
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(found["scaler"])

    def result(self) -> Ticket:
        """Return the ticket as training has made it so far."""
        before = self.ticket
        return replace(
            before,
            history=list(self.history),
            data=dict(self.data.spec),
            training=self._summary(),
            earlier_training=[*before.earlier_training, *([before.training] if before.training else [])],
            provenance=describe_environment(),
            path=None,  # the file it came from holds other weights
        )

    def _summary(self) -> dict[str, Any]:
        """Return what the ticket keeps of the training as a whole."""
        seconds = sum(entry["seconds"] for entry in self.history)
        images = sum(entry["seconds"] * entry["images_per_second"] for entry in self.history)
        return {
            "run": hash_json(self.identity),
            "recipe": self.course.recipe.model_dump(),
            "seed": self.course.seed,
            "data": self.data.provenance,
            "start_epoch": self.course.start_epoch,
            "epochs": len(self.history),
            "seconds": seconds,
            "images_per_second": images / seconds,
            "energy_kwh": _total(self.history, "energy_kwh"),
            "co2_kg": _total(self.history, "co2_kg"),
            "country": self.course.country,
            "energy_method": self.energy_method,
            "threads": torch.get_num_threads(),
            "device": self.course.device.type,
            "precision": describe_precision(self.network, self.course.recipe.precision),
            **{name: self.identity[name] for name in _KEPT if name in self.identity},
        }


def _read_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    try:
        content = read_sealed(path, FORMAT)
    except DamagedFileError as error:
        raise TrainingError(f"training cannot be resumed: {error}; delete the file to start anew") from error
    was = content["settings"]
    differing = [
        f"{name} was {was.get(name)!r}, is {identity.get(name)!r}"
        for name in sorted({*identity, *was})
        if identity.get(name) != was.get(name)
    ]
    if differing:
        raise TrainingError(
            f"training cannot be resumed from {path}, which belongs to another run: {'; '.join(differing)}. "
            "Give the same options as before, or delete the file to start anew"
        )
    return content


def _total(history: list[dict[str, Any]], name: str) -> float | None:
    values = [entry[name] for entry in history]
    return None if any(value is None for value in values) else float(sum(values))
