"""Training a ticket: epochs, validation, checkpoints, time and energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustprune.data import AnyData, ImageData, as_data
from robustprune.errors import TicketError, TrainingError
from robustprune.models import chosen_device, copy_network, model_device, to_evaluation
from robustprune.models.trial import check_training
from robustprune.models.user_file import own_code
from robustprune.runtime.devices import Device
from robustprune.runtime.files import hash_json
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training.course import Course, TrainingRun
from robustprune.training.distributed import check_batch
from robustprune.training.meter import EnergyMeter
from robustprune.training.precision import check_precision
from robustprune.training.recipes import Recipe

EpochCallback = Callable[[dict[str, Any], int], None]
"""Called after each epoch with its entry of the history and the number of epochs."""
CHECKPOINT_NAME = "training.checkpoint"


def train(
    ticket: Ticket | nn.Module,
    data: AnyData,
    recipe: str | Recipe = "quick",
    *,
    seed: int = 0,
    device: Device = None,
    start_epoch: int = 0,
    stop_epoch: int | None = None,
    country: str | None = "USA",
    work: Work = Work(),
    **overrides: Any,
) -> Ticket:
    """Train a ticket in place, from its present weights, and return it; of a network, a copy.

    The weights of the last epoch are kept; the validation split is only looked at, the test split not at all.
    With equal seed, thread count and machine the outcome is bit-identical, interrupted or not.

    Args:
        ticket: Dense or pruned; its history is replaced, and a training record it has moves to its
            ``earlier_training``. Or any network from images in [0, 1] to logits, which is left as it is: the ticket
            that is returned holds a trained copy.
        data: The image set, or training images as for :func:`robustprune.as_data`; they must fit the network.
        recipe: ``quick``, ``paper``, or a recipe of one's own.
        seed: Decides order and augmentation.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. A ticket is back where it was afterwards.
        start_epoch: Epochs that count as done: a ticket rewound to epoch i trains for n − i epochs, with the
            learning rates, orders and augmentations that epochs i to n of a run from 0 have. Momentum starts anew.
        stop_epoch: Stop after this epoch although the schedule goes on to the recipe's last.
        country: ISO 3166 code of the grid whose carbon intensity counts, three letters; None measures no energy.
        work: Its processes train the network together, each calling this alike; the main one writes files, measures
            the energy of its whole machine, and tells of progress, after every step. Its folder keeps the state after
            every epoch, in ``training.checkpoint``: an equal call goes on from there.
        overrides: Fields of :class:`Recipe` in place of the recipe's, such as ``epochs=8`` or ``epsilon="8/255"``; and
            ``teacher``, a ticket or network of the same classes, to learn from by its logits besides the labels with
            the weight ``distill``, see :mod:`robustprune.training.distillation`.

    Raises:
        TicketError: The network was built for other images or classes, or has weights outside its masks.
        TrainingError: The run cannot be resumed, or it diverges, or no epoch is left to train; or the teacher was built
            for other images or classes.
        DataError: The data set has no training images.
        ModelError: The network returns no logits in training mode, or fails.
    """
    data = as_data(data, "train")
    own = ticket if isinstance(ticket, Ticket) else _ticket_of_copy(ticket, data)
    if isinstance(teacher := overrides.get("teacher"), nn.Module):
        overrides["teacher"] = Ticket.from_model(teacher, data)
    elif not isinstance(teacher, Ticket | None):
        raise TrainingError(f"a teacher is a ticket or a network, not {teacher!r}; load_ticket reads one from a file")
    course = Course.of(
        recipe,
        seed=seed,
        device=chosen_device(own.network, device),
        start_epoch=start_epoch,
        stop_epoch=stop_epoch,
        country=country,
        **overrides,
    )
    return _train(own, data, course, work, work.folder / CHECKPOINT_NAME if work.folder else None)


def _ticket_of_copy(model: nn.Module, data: ImageData) -> Ticket:
    ticket = Ticket.from_model(model, data)
    if ticket.architecture.is_module and ticket.network is not model:
        return ticket  # of a copy already
    return replace(ticket, network=copy_network(ticket.network))


def train_to_file(
    ticket: Ticket,
    data: ImageData,
    out: str | Path,
    recipe: str | Recipe = "quick",
    *,
    keep: Mapping[int, Path] | None = None,
    resume: bool = False,
    on_epoch: EpochCallback | None = None,
    work: Work = Work(),
    **settings: Any,
) -> Ticket:
    """Train a ticket and write it to ``out``; an interrupted run is picked up from ``out`` + ``.checkpoint``.

    The checkpoint goes once the ticket is written. With ``resume``, a run that had already finished is read
    back instead of trained again.

    Args:
        ticket: With ``data``, ``recipe`` and the other ``settings`` as for :func:`train`.
        data: The image set.
        out: The file of the trained ticket.
        recipe: Or its name.
        keep: Epochs done → file to write the ticket to as it is then.
        resume: Continue an interrupted run.
        on_epoch: Called after every epoch, in the main process.
        work: Its folder is not used; the main one of its processes looks at files and writes them.
        settings: Further ones.

    Raises:
        TrainingError: As for :func:`train`; or an interrupted run lies there that would be lost.
        TicketError: The file cannot be written.
    """
    out, course, processes = Path(out), Course.of(recipe, **settings), work.processes
    checkpoint = out.with_name(f"{out.name}.checkpoint")
    is_interrupted = processes.from_main(checkpoint.exists)
    if is_interrupted and not resume:
        raise TrainingError(
            f"{checkpoint} holds an interrupted run; add --resume to continue it, or delete the file to start anew"
        )
    if resume and not is_interrupted:
        run = hash_json(course.identity(ticket, data, processes))
        epochs = course.stop_epoch - course.start_epoch
        if processes.from_main(lambda: _is_finished(out, run, epochs, ticket)):
            return _read_again(out, ticket)
    _train(ticket, data, course, work, checkpoint, keep=keep, on_epoch=on_epoch)
    processes.from_main(lambda: _conclude(ticket, out, checkpoint))
    ticket.path = str(out)
    return ticket


def _train(
    ticket: Ticket,
    data: ImageData,
    course: Course,
    work: Work,
    checkpoint: Path | None,
    *,
    keep: Mapping[int, Path] | None = None,
    on_epoch: EpochCallback | None = None,
) -> Ticket:
    ticket.check_fits(data)
    ticket.check_masks()
    if not any(parameter.requires_grad for parameter in ticket.network.parameters()):
        raise TrainingError(
            f"{ticket.architecture.called} has no weights that can be trained: they are frozen, or constants of a "
            "script"
        )
    check_training(ticket.network, ticket.architecture)
    if course.teacher is not None:
        _check_teacher(course.teacher, data)
    processes, recipe, home = work.processes, course.recipe, model_device(ticket.network)
    check_precision(ticket.network, recipe.precision, course.device)
    check_batch(min(recipe.batch_size, len(data.require("train"))), processes)
    run = TrainingRun(ticket, data, course, processes)
    if checkpoint is not None:
        run.restore(checkpoint)
    with processes.raising_everywhere():
        meter = EnergyMeter(course.country if processes.is_main else None, whole_machine=not processes.is_single)
    try:
        for epoch in range(course.start_epoch + len(run.history), course.stop_epoch):
            run.train_epoch(epoch, meter, work.progress if processes.is_main else None)
            # Before the checkpoint: a run killed in between comes back to this epoch and keeps it then.
            if keep and epoch + 1 in keep:
                kept = run.result()
                processes.from_main(partial(kept.save, keep[epoch + 1]))
            if checkpoint is not None:
                run.save_checkpoint(checkpoint)
            if on_epoch is not None and processes.is_main:
                on_epoch(run.history[-1], recipe.epochs)
    finally:
        run.shared.undo()
        ticket.network = to_evaluation(run.network.to(home).to(memory_format=torch.contiguous_format))
    vars(ticket).update(vars(run.result()))
    return ticket


def _check_teacher(teacher: Ticket, data: ImageData) -> None:
    """Refuse a teacher of other images: many a network would take them all the same, and say what means nothing."""
    try:
        teacher.check_fits(data)
    except TicketError as error:
        raise TrainingError(f"the teacher cannot be learnt from: {error}") from error


def _conclude(ticket: Ticket, out: Path, checkpoint: Path) -> None:
    ticket.save(out)
    checkpoint.unlink(missing_ok=True)  # another run may have done the same training, to the same end


def _read_again(out: Path, ticket: Ticket) -> Ticket:
    own = ticket.architecture
    found = load_ticket(out, into=ticket.network if own.is_module else None, model_code=own_code(own.name))
    return replace(found, dense_blocks=ticket.dense_blocks)


def _is_finished(out: Path, run: str, epochs: int, ticket: Ticket) -> bool:
    """Return whether the file is what this very run ended in, after so many epochs."""
    try:
        found = _read_again(out, ticket)
    except TicketError:  # also where there is none
        return False
    return (found.training.get("run"), len(found.history)) == (run, epochs)
