"""Training a ticket: epochs, validation, checkpoints, time and energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustprune.data import ImageData
from robustprune.errors import TicketError, TrainingError
from robustprune.files import hash_json
from robustprune.models.user_file import own_code
from robustprune.processes import ALONE, Processes
from robustprune.provenance import describe_environment
from robustprune.pruning import apply_masks, hash_masks
from robustprune.randomness import derive_seed, isolated_generators
from robustprune.ticket import Ticket, load_ticket
from robustprune.training.adversarial import watch_robustness
from robustprune.training.checkpoint import Checkpoint, load_checkpoint
from robustprune.training.distributed import SharedNetwork, check_batch, describe_processes
from robustprune.training.energy import EnergyMeter
from robustprune.training.epoch import StepProgress, make_optimizer, train_epoch, validate
from robustprune.training.recipes import Recipe, make_recipe

_OVERRIDES = ("epochs", "batch_size", "learning_rate", "defence", "consistency", "adversarial", "epsilon")

EpochCallback = Callable[[dict[str, Any], int], None]
"""Called after each epoch with its entry of the history and the number of epochs."""


def train(
    ticket: Ticket,
    data: ImageData,
    *,
    recipe: str | Recipe = "quick",
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    defence: str | None = None,
    consistency: float | None = None,
    adversarial: str | None = None,
    epsilon: float | None = None,
    seed: int = 0,
    start_epoch: int = 0,
    stop_epoch: int | None = None,
    keep: Mapping[int, Path] | None = None,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    country: str = "USA",
    measure_energy: bool = True,
    processes: Processes = ALONE,
    on_step: Callable[[StepProgress], None] | None = None,
    on_epoch: EpochCallback | None = None,
) -> Ticket:
    """Train a ticket in place, from its present weights, and return it.

    The weights of the last epoch are kept; the validation split is only looked at, the test split not at all.
    With equal seed, thread count and machine the outcome is bit-identical, interrupted or not.

    Args:
        ticket: Dense or pruned; its history is replaced, and a training record it has moves to its
            ``earlier_training``.
        data: The image set; its training split must fit the network.
        recipe: ``quick``, ``paper``, or a recipe of one's own.
        epochs: In place of the recipe's.
        batch_size: In place of the recipe's.
        learning_rate: In place of the recipe's.
        defence: Likewise: ``augmix``, ``corruptions`` or ``none``.
        consistency: Likewise: the weight of AugMix's loss.
        adversarial: Likewise: ``pgd``, ``fgsm``, ``trades`` or ``none``.
        epsilon: Likewise: the L∞ budget of adversarial training, on the [0, 1] scale.
        seed: Decides order and augmentation.
        start_epoch: Epochs that count as done: a ticket rewound to epoch i trains for n − i epochs, with the
            learning rates, orders and augmentations that epochs i to n of a run from 0 have. Momentum starts anew.
        stop_epoch: Stop after this epoch although the schedule goes on to the recipe's last.
        keep: Epochs done → file to write the ticket to as it is then.
        device: Where to train; the ticket is on the CPU again afterwards.
        checkpoint: A file to keep the state in after every epoch.
        resume: Continue from the checkpoint if there is one.
        country: ISO 3166 code of the grid whose carbon intensity counts, three letters.
        measure_energy: Whether to run codecarbon.
        processes: Those that train the network together, each calling this alike; the main one writes files, measures
            the energy of its whole machine, and makes the calls below.
        on_step: Called after every step.
        on_epoch: Called after every epoch.

    Raises:
        TicketError: The network was built for other images or classes, or has weights outside its masks.
        TrainingError: The run cannot be resumed, or it diverges, or no epoch is left to train.
        DataError: The data set has no training images.
    """
    recipe = make_recipe(
        recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        defence=defence,
        consistency=consistency,
        adversarial=adversarial,
        epsilon=epsilon,
    )
    ticket.check_fits(data)
    ticket.check_masks()
    last = recipe.epochs if stop_epoch is None else stop_epoch
    if not 0 <= start_epoch < last <= recipe.epochs:
        raise TrainingError(f"epochs {start_epoch} to {last} are no part of a training of {recipe.epochs} epochs")
    check_batch(min(recipe.batch_size, len(data.require("train"))), processes)
    place = torch.device(device)
    run = _Run(ticket, data, recipe, seed, place, Path(checkpoint) if checkpoint else None, start_epoch, processes)
    if resume:
        run.restore()
    with processes.agreement():
        measured = measure_energy and processes.is_main
        meter = EnergyMeter(country, enabled=measured, whole_machine=not processes.is_alone)
    try:
        for epoch in range(start_epoch + len(run.history), last):
            run.train_epoch(epoch, meter, on_step if processes.is_main else None)
            # Before the checkpoint: a run killed in between comes back to this epoch and keeps it then.
            if keep and epoch + 1 in keep:
                run.keep(ticket, country, keep[epoch + 1])
            run.save_checkpoint()
            if on_epoch is not None and processes.is_main:
                on_epoch(run.history[-1], recipe.epochs)
    finally:
        run.shared.undo()
        ticket.network = run.network.to("cpu").to(memory_format=torch.contiguous_format).eval()
    vars(ticket).update(vars(run.result(ticket, country)))
    return ticket


def train_to_file(
    ticket: Ticket,
    data: ImageData,
    out: str | Path,
    *,
    recipe: str | Recipe = "quick",
    seed: int = 0,
    resume: bool = False,
    processes: Processes = ALONE,
    **options: Any,
) -> Ticket:
    """Train a ticket and write it to ``out``; an interrupted run is picked up from ``out`` + ``.checkpoint``.

    The checkpoint goes once the ticket is written. With ``resume``, a run that had already finished is read
    back instead of trained again.

    Args:
        ticket: As for :func:`train`.
        data: As for :func:`train`.
        out: The file of the trained ticket.
        recipe: As for :func:`train`.
        seed: As for :func:`train`.
        resume: Continue an interrupted run.
        processes: As for :func:`train`; the main one looks at files and writes them.
        options: The other arguments of :func:`train`.

    Raises:
        TrainingError: As for :func:`train`; or an interrupted run lies there that would be lost.
        TicketError: The file cannot be written.
    """
    out = Path(out)
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    overrides = {name: options.pop(name, None) for name in _OVERRIDES}
    recipe = make_recipe(recipe, **overrides)
    is_interrupted = processes.from_main(checkpoint.exists)
    if is_interrupted and not resume:
        raise TrainingError(
            f"{checkpoint} holds an interrupted run; add --resume to continue it, or delete the file to start anew"
        )
    if resume and not is_interrupted:
        device, start = torch.device(options.get("device", "cpu")), options.get("start_epoch", 0)
        settings = run_settings(ticket, data, recipe, seed, device, start, processes)
        epochs = (options.get("stop_epoch") or recipe.epochs) - start
        if processes.from_main(lambda: _finished(out, hash_json(settings), epochs, ticket) is not None):
            return load_ticket(out, model_code=own_code(ticket.architecture.name))
    train(ticket, data, recipe=recipe, seed=seed, checkpoint=checkpoint, resume=resume, processes=processes, **options)
    processes.from_main(lambda: _conclude(ticket, out, checkpoint))
    return ticket


def _conclude(ticket: Ticket, out: Path, checkpoint: Path) -> None:
    ticket.save(out)
    checkpoint.unlink(missing_ok=True)  # another run may have done the same training, to the same end


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


def _finished(out: Path, run: str, epochs: int, ticket: Ticket) -> Ticket | None:
    """Return the ticket at ``out`` if it is what this very run ended in, after so many epochs."""
    if not out.exists():
        return None
    try:
        found = load_ticket(out, model_code=own_code(ticket.architecture.name))
    except TicketError:
        return None
    return found if (found.training.get("run"), len(found.history)) == (run, epochs) else None


class _Run:
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
        self.data, self.recipe, self.seed, self.checkpoint = data.to(device), recipe, seed, checkpoint
        self.start_epoch, self.processes = start_epoch, processes
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
            self.network.load_state_dict(found.weights)
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
            **self.described,
        }


def _total(history: list[dict[str, Any]], name: str) -> float | None:
    values = [entry[name] for entry in history]
    return None if any(value is None for value in values) else float(sum(values))
