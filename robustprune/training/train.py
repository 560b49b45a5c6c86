"""Training a ticket: epochs, validation, checkpoints, time and energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from robustprune.data import ImageData
from robustprune.errors import TicketError, TrainingError
from robustprune.models import to_evaluation
from robustprune.models.trial import check_training
from robustprune.models.user_file import own_code
from robustprune.runtime.files import hash_json
from robustprune.runtime.processes import ALONE, Processes
from robustprune.runtime.work import keep_freed_memory
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training.distributed import check_batch
from robustprune.training.energy import EnergyMeter
from robustprune.training.epoch import StepProgress
from robustprune.training.recipes import Recipe, make_recipe
from robustprune.training.run import TrainingRun, run_settings

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
    epsilon: float | str | Fraction | None = None,
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
        epsilon: Likewise: the L∞ budget of adversarial training, on the [0, 1] scale, as a number or ``"8/255"``.
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
        ModelError: The network returns no logits in training mode, or fails.
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
    _check_network(ticket)
    last = recipe.epochs if stop_epoch is None else stop_epoch
    if not 0 <= start_epoch < last <= recipe.epochs:
        raise TrainingError(f"epochs {start_epoch} to {last} are no part of a training of {recipe.epochs} epochs")
    check_batch(min(recipe.batch_size, len(data.require("train"))), processes)
    place = torch.device(device)
    run = TrainingRun(
        ticket, data, recipe, seed, place, Path(checkpoint) if checkpoint else None, start_epoch, processes
    )
    keep_freed_memory()
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
        ticket.network = to_evaluation(run.network.to("cpu").to(memory_format=torch.contiguous_format))
    vars(ticket).update(vars(run.result(ticket, country)))
    return ticket


def _check_network(ticket: Ticket) -> None:
    if not any(parameter.requires_grad for parameter in ticket.network.parameters()):
        raise TrainingError(
            f"{ticket.architecture.name} has no weights that can be trained: they are frozen, or constants of a script"
        )
    check_training(ticket.network, ticket.architecture)


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


def _finished(out: Path, run: str, epochs: int, ticket: Ticket) -> Ticket | None:
    """Return the ticket at ``out`` if it is what this very run ended in, after so many epochs."""
    if not out.exists():
        return None
    try:
        found = load_ticket(out, model_code=own_code(ticket.architecture.name))
    except TicketError:
        return None
    return found if (found.training.get("run"), len(found.history)) == (run, epochs) else None
