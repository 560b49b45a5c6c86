"""Adversarial training: each step on images that an attack has made worse for the network as it is now.

``pgd`` is Madry et al. 2018 (arXiv:1706.06083), ``fgsm`` the single step from a random start of Wong, Rice & Kolter
2020 (arXiv:2001.03994), ``trades`` Zhang et al. 2019 (arXiv:1901.08573), all in L∞. Images are attacked with batch
normalization in evaluation mode, so that running statistics are those of the steps alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from robustprune.attacks import run_attack
from robustprune.data import Split
from robustprune.errors import TrainingWarning
from robustprune.models import evaluation_mode, logits_of
from robustprune.runtime.process_group import SINGLE, ProcessGroup
from robustprune.runtime.randomness import BatchGenerator, as_batch_generator
from robustprune.runtime.work import Work
from robustprune.training.precision import training_logits
from robustprune.training.recipes import Recipe

# Figures of the papers: the way of all steps together and the single step as shares of ε, and TRADES' start.
WAY = 2.5
FGSM_STEP = 1.25
TRADES_START = 0.001
WATCHED = 256
"""Images on which the network is attacked after each epoch."""


def adversarial_loss(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    generator: Generator | BatchGenerator,
    trained: nn.Module | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of a step, with its graph, and the logits (n, K) that its accuracy is counted on.

    The network is in training mode, images (n, C, H, W) are in [0, 1]; random starts are drawn from a generator on the
    CPU. ``trained`` is what the loss is computed through, if not the network: a wrapper that looks after its gradients.
    """
    trained, draws = network if trained is None else trained, as_batch_generator(generator)
    if recipe.adversarial == "trades":
        return _trades(network, trained, images, labels, recipe, draws)
    steps = 1 if recipe.adversarial == "fgsm" else recipe.adversarial_steps
    way = FGSM_STEP if recipe.adversarial == "fgsm" else WAY
    start = images + recipe.epsilon * (2 * draws.rand(*images.shape) - 1).to(images.device, non_blocking=True)
    attacked = _climb(
        network, images, start, lambda logits: F.cross_entropy(logits, labels, reduction="sum"), recipe, way, steps
    )
    logits = training_logits(trained, attacked, recipe.precision)
    return F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing), logits


def _trades(
    network: nn.Module, trained: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, draws: BatchGenerator
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy on the images plus β times KL(images ‖ attacked images), equation 5 there."""
    with evaluation_mode(network), torch.no_grad():
        clean = F.log_softmax(logits_of(network, images), dim=1)
    start = images + TRADES_START * draws.randn(*images.shape).to(images.device, non_blocking=True)
    attacked = _climb(
        network, images, start, lambda logits: _divergence(logits, clean), recipe, WAY, recipe.adversarial_steps
    )
    # In one pass, so that batch statistics are of both.
    logits, worse = training_logits(trained, torch.cat([images, attacked]), recipe.precision).chunk(2)
    smoothing = recipe.label_smoothing
    divergence = _divergence(worse, F.log_softmax(logits, dim=1)) / len(images)
    return F.cross_entropy(logits, labels, label_smoothing=smoothing) + recipe.trades_beta * divergence, worse


def _divergence(logits: Tensor, clean: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(logits, dim=1), clean, reduction="sum", log_target=True)


def _climb(
    network: nn.Module,
    images: Tensor,
    start: Tensor,
    loss: Callable[[Tensor], Tensor],
    recipe: Recipe,
    way: float,
    steps: int,
) -> Tensor:
    """Return images moved up the loss by signed steps of ``way``·ε together, within the ε-ball and the box."""
    low, high = (images - recipe.epsilon).clamp(min=0), (images + recipe.epsilon).clamp(max=1)
    points = start.clamp(low, high)
    with evaluation_mode(network):
        for _ in range(steps):
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(logits_of(network, points)), points)
            points = (points.detach() + way / steps * recipe.epsilon * gradient.sign()).clamp(low, high)
    return points.detach().contiguous(memory_format=torch.channels_last)


def watch_robustness(
    network: nn.Module,
    split: Split,
    recipe: Recipe,
    history: list[dict[str, Any]],
    seed: int,
    processes: ProcessGroup = SINGLE,
) -> dict[str, Any]:
    """Return accuracy under one step and under ten, and whether the network has learnt to fool the one step only.

    Catastrophic overfitting (Wong et al. 2020, section 5.4): from one epoch to the next a network trained on
    single steps withstands these alone. It is called when accuracy under PGD falls below half of its best while
    accuracy under FGSM stays above twice that; a warning says so once.

    The first images of a split are attacked; ``history`` is that of the epochs before.
    """
    part = split.take(torch.arange(min(WATCHED, len(split))))
    labels = split.labels[: len(part)]
    shared: dict[str, Any] = {"epsilon": recipe.epsilon, "seed": seed, "work": Work(processes)}
    single = run_attack(network, part, labels, "fgsm", **shared).robust_accuracy
    iterated = run_attack(network, part, labels, "pgd", steps=10, **shared).robust_accuracy
    best = max([entry["pgd_accuracy"] for entry in history if "pgd_accuracy" in entry], default=0.0)
    is_overfitted = best > 0.1 and iterated < best / 2 and single > 2 * iterated
    if is_overfitted and not any(entry.get("catastrophic_overfitting") for entry in history):
        warnings.warn(
            f"catastrophic overfitting in epoch {len(history) + 1}: accuracy under PGD fell from {best:.1%} to "
            f"{iterated:.1%}, under FGSM it is {single:.1%}. Train with --adversarial pgd, or with a smaller --eps",
            TrainingWarning,
            stacklevel=2,
        )
    return {"fgsm_accuracy": single, "pgd_accuracy": iterated, "catastrophic_overfitting": is_overfitted}
