"""One pass over the training images, and the look at the validation images after it."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from robustprune.data import ImageData, Split, augment, default_shift
from robustprune.errors import TrainingError
from robustprune.models import evaluation_mode, model_type, naming_failures, run_model, to_unit_range
from robustprune.runtime.kernels import sound_gradients
from robustprune.runtime.process_group import SINGLE, ProcessGroup
from robustprune.runtime.randomness import BatchGenerator, seeded_generator
from robustprune.runtime.work import Progress
from robustprune.training.adversarial_training import adversarial_loss
from robustprune.training.augmented_views import augmented_views, consistency_loss
from robustprune.training.distillation import distilled_loss
from robustprune.training.distributed import SharedNetwork
from robustprune.training.precision import is_overflow, make_scaler, training_logits
from robustprune.training.recipes import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Return the optimizer of a recipe."""
    return torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )


def train_epoch(
    network: nn.Module | SharedNetwork,
    optimizer: torch.optim.Optimizer,
    data: ImageData,
    recipe: Recipe,
    *,
    epoch: int,
    seed: int,
    progress: Progress | None = None,
    scaler: GradScaler | None = None,
    teacher: nn.Module | None = None,
) -> dict[str, Any]:
    """Train for one epoch and return its entry of the history.

    Order and augmentation follow from (seed, epoch) alone, so an epoch comes out the same whether or not the run was
    interrupted before it. Of several processes each takes its rows of every batch, with the augmentation that they get
    in one. Half precision goes on with the ``scaler`` of the epochs before; the ``teacher`` is in evaluation mode.

    Raises:
        TrainingError: The loss or the gradient is no finite number.
    """
    shared = network if isinstance(network, SharedNetwork) else SharedNetwork(network)
    network, split = shared.network, data.require("train")
    steps = max(1, len(split) // recipe.batch_size)
    device, kind = next(network.parameters()).device, model_type(network)
    scaler = make_scaler(recipe.precision, device) if scaler is None else scaler
    generator = seeded_generator(seed, "epoch", epoch)
    order = torch.randperm(len(split), generator=generator)[: steps * recipe.batch_size]
    batch_size = len(order) // steps
    rows = shared.processes.rows(batch_size)
    own = order.view(steps, batch_size)[:, rows].flatten()
    draws = BatchGenerator(generator, rows, batch_size)
    shift = 0 if recipe.augmentation == "none" else default_shift(data.image_size)
    total_loss = total_correct = 0.0
    start = time.perf_counter()
    network.train()
    for step, batch in enumerate(split.batches(rows.stop - rows.start, order=own, device=device)):
        images = augment(batch.images, draws, flip=data.flips and recipe.augmentation != "none", shift=shift)
        views = augmented_views(images, recipe, draws, seed=seed, epoch=epoch, indices=batch.indices)
        views = [to_unit_range(view).to(kind).contiguous(memory_format=torch.channels_last) for view in views]
        place = f"epoch {epoch + 1}, step {step + 1}"
        rate = _set_rate(optimizer, recipe, (epoch + step / steps) / recipe.epochs)
        with sound_gradients(network) if device.type == "cpu" else nullcontext():
            loss, correct = _step(shared, optimizer, scaler, views, batch.labels, recipe, draws, place, teacher)
        total_loss += loss * batch_size
        total_correct += correct
        if progress is not None:
            progress("training", epoch * steps + step + 1, recipe.epochs * steps)
    shared.even_out()
    _check_weights(network, optimizer, place)
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch + 1,
        "learning_rate": rate,
        "train_loss": total_loss / len(order),
        "train_accuracy": total_correct / len(order),
        "seconds": seconds,
        "images_per_second": len(order) / seconds,
    }


def _set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, progress: float) -> float:
    rate = recipe.learning_rate_at(progress)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def _step(
    shared: SharedNetwork,
    optimizer: torch.optim.Optimizer,
    scaler: GradScaler,
    views: list[Tensor],
    labels: Tensor,
    recipe: Recipe,
    draws: BatchGenerator,
    place: str,
    teacher: nn.Module | None,
) -> tuple[float, float]:
    """Take a step; return the mean loss of the whole batch, and how many of its images are classified rightly."""
    optimizer.zero_grad(set_to_none=True)
    with naming_failures(f"cannot be run in training, {place}"):
        loss, logits = _loss(shared, views, labels, recipe, draws)
        loss = distilled_loss(loss, logits, views[0], recipe, teacher)
    correct = (logits.detach().argmax(dim=1) == labels).sum()
    # Shares of a batch may differ by an image: the mean over processes is to be that over images.
    shares = 1.0 if shared.processes.is_single else len(labels) * shared.processes.count / draws.total
    with naming_failures(f"has no gradient in training, {place}"), shared.exchanging():
        scaler.scale(loss if shares == 1 else loss * shares).backward()  # type: ignore[no-untyped-call]
    scaler.unscale_(optimizer)
    gradients = [parameter.grad for parameter in shared.network.parameters() if parameter.grad is not None]
    value, right, norm = _read(loss, correct, torch.nn.utils.get_total_norm(gradients))
    if not shared.processes.is_single:
        total, right = shared.processes.sum([value * len(labels), right])
        value = total / draws.total
    for what, number in (("loss", value), ("gradient norm", norm)):
        if not math.isfinite(number) and not (what == "gradient norm" and is_overflow(scaler)):
            raise _diverged(what, number, optimizer, place)
    scaler.step(optimizer)
    scaler.update()
    return value, right


def _read(*values: Tensor) -> list[float]:
    """Return single numbers at once, so that a device is waited for only once."""
    kind = reduce(torch.promote_types, (value.dtype for value in values), torch.float32)
    found: list[float] = torch.stack([value.detach().to(values[0].device, kind) for value in values]).tolist()
    return found


def _loss(
    shared: SharedNetwork, views: list[Tensor], labels: Tensor, recipe: Recipe, draws: BatchGenerator
) -> tuple[Tensor, Tensor]:
    if recipe.adversarial != "none":
        return adversarial_loss(shared.network, views[0], labels, recipe, draws, shared.trained)
    # The first view is the one with labels; all pass together, as they share batch statistics.
    images = torch.cat(views) if len(views) > 1 else views[0]
    every = torch.split(training_logits(shared.trained, images, recipe.precision), len(labels))
    logits = every[0]
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if len(every) > 1:
        loss = loss + recipe.consistency * consistency_loss(list(every))
    return loss, logits


def _check_weights(network: nn.Module, optimizer: torch.optim.Optimizer, place: str) -> None:
    """Check what the last update, which no loss has seen, made of the weights and running statistics."""
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise _diverged(f"value of {name}", math.nan, optimizer, place)


def _diverged(what: str, value: float, optimizer: torch.optim.Optimizer, place: str) -> TrainingError:
    rate = optimizer.param_groups[0]["lr"]
    return TrainingError(
        f"training diverged: the {what} is {value} in {place}, at learning "
        f"rate {rate:.3g}. Lower the learning rate (--learning-rate), and check the images and labels; with "
        "--resume training starts again from the last finished epoch"
    )


def validate(
    network: nn.Module, split: Split, batch_size: int = 512, processes: ProcessGroup = SINGLE
) -> dict[str, float]:
    """Return mean cross-entropy and accuracy on a split, in evaluation mode; processes share the images."""
    device = next(network.parameters()).device
    order = None if processes.is_single else torch.arange(len(split))[processes.rows(len(split))]
    loss = correct = 0.0
    with evaluation_mode(network), torch.inference_mode():
        for batch in split.batches(batch_size, order=order, device=device):
            images = to_unit_range(batch.images).contiguous(memory_format=torch.channels_last)
            logits = run_model(network, images)
            loss += float(nn.functional.cross_entropy(logits, batch.labels, reduction="sum"))
            correct += float((logits.argmax(dim=1) == batch.labels).sum())
    loss, correct = processes.sum([loss, correct])
    return {"validation_loss": loss / len(split), "validation_accuracy": correct / len(split)}
