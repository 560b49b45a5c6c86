"""Which single weights stay: global masks over all convolution and linear weights.

Every weight layer counts, the first convolution and the last linear layer too, as in the global pruning of SNIP,
GraSP and SynFlow; biases and normalization do not. A mask makes weights zero. It makes nothing smaller or faster.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning
from robustprune.models import copy_network, to_evaluation
from robustprune.pruning.blocks import weight_layers
from robustprune.pruning.calls import probe_images, tensors, undisturbed
from robustprune.pruning.scoring import score_weights
from robustprune.pruning.surgery import has_no_number, network_output
from robustprune.runtime.arrays import Array
from robustprune.runtime.devices import Device
from robustprune.runtime.files import hash_arrays
from robustprune.runtime.kernels import sound_gradients
from robustprune.runtime.work import Work

Masks = dict[str, Tensor]
"""Parameter name → which of its weights are kept: bool in its shape, on the CPU."""


def find_masks(
    model: nn.Module,
    data: ImageData,
    criterion: str,
    *,
    sparsity: float,
    rounds: int = 1,
    seed: int = 0,
    masks: Mapping[str, Tensor] | None = None,
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> Masks:
    """Return masks that keep the share 1 − sparsity of all weights, those of the highest score.

    In more than one round, the density falls exponentially and the masked network is scored anew each time:
    (1 − sparsity)^(k/n) is left after round k of n (Tanaka et al. 2020, arXiv:2006.05467, algorithm 1). What ``masks``
    took out before stays out, and counts. Other arguments are those of :func:`robustprune.prune_weights`.

    Raises:
        PruningError: A sparsity or number of rounds that cannot be, a criterion without scores for weights, or a
            weight that the network does not compute with.
    """
    weights = maskable_weights(model)
    check_weights_run(model, weights, torch.full((2, data.channels, *data.image_size), 0.5))
    network = copy_network(model)
    found = dict(masks or {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights.items()})
    schedule = _schedule(count_kept(found), sum(weight.numel() for weight in weights.values()), sparsity, rounds)
    for done, kept in enumerate(schedule):
        apply_masks(network, found)
        told = _of_round(work, done, rounds)
        scores = score_weights(network, data, criterion, seed=seed, device=device, work=told, **options)
        if any(name not in scores or scores[name].shape != weight.shape for name, weight in weights.items()):
            raise PruningError(f"criterion {criterion} does not score every convolution and linear weight in its shape")
        found = keep_highest({name: scores[name] for name in weights}, kept, within=found)
    _warn_of_collapse(found, sparsity)
    return found


def _of_round(work: Work, done: int, rounds: int) -> Work:
    """Return work that tells how far a round has come as a share of all rounds, of which some are done."""
    told = work.progress
    if told is None:
        return work
    return replace(work, progress=lambda label, part, total: told(label, done + part / max(total, 1), rounds))


def keep_highest(scores: Mapping[str, Tensor], kept: int, *, within: Mapping[str, Tensor] | None = None) -> Masks:
    """Return masks of the ``kept`` highest scores over all parameters; of equal ones, the earlier stay.

    Outside of masks ``within`` nothing is kept, whatever its score.
    """
    flat = torch.cat([value.double().flatten() for value in scores.values()])
    if within is not None:
        flat.masked_fill_(~torch.cat([within[name].flatten() for name in scores]), -torch.inf)
    threshold = flat.kthvalue(len(flat) - kept + 1).values
    chosen = flat > threshold
    equal = (flat == threshold).nonzero().flatten()
    chosen[equal[: kept - int(chosen.sum())]] = True
    parts = torch.split(chosen, [value.numel() for value in scores.values()])
    return {name: part.view(value.shape).clone() for (name, value), part in zip(scores.items(), parts, strict=True)}


def apply_masks(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the weights outside the masks to zero, in place."""
    with torch.no_grad():
        for name, mask in masks.items():
            weight = network.get_parameter(name)
            weight.masked_fill_(~mask.to(weight.device), 0)


def check_masks(network: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Check that masks are those of a network and that its weights keep to them."""
    weights = maskable_weights(network)
    if masks.keys() != weights.keys():
        strange = sorted(map(str, masks.keys() ^ weights.keys()))
        raise PruningError(f"they are not one for each convolution and linear weight: {', '.join(strange[:3])}")
    for name, weight in weights.items():
        mask = masks[name]
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != weight.shape:
            raise PruningError(f"that of {name} is no tensor of true and false of shape {tuple(weight.shape)}")
        outside = int(weight.detach()[~mask.to(weight.device)].count_nonzero())
        if outside:
            raise PruningError(f"{outside} weights of {name} outside its mask are not zero")


def count_kept(masks: Mapping[str, Tensor]) -> int:
    """Return how many weights masks keep."""
    return sum(int(mask.sum()) for mask in masks.values())


def hash_masks(masks: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the names, shapes and values of masks."""
    return hash_arrays({name: mask.numpy() for name, mask in masks.items()})


def maskable_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the convolution and linear weights of a network by name; one that two layers share only once."""
    names = [name for name, _ in weight_layers(network)]
    parameters = dict(network.named_parameters(remove_duplicate=False))
    computed = [name for name in names if name not in parameters]
    if computed or not names:
        what = f"{computed[0]} is computed from other parameters" if computed else "it has no such weights"
        raise PruningError(f"the network's convolution and linear weights cannot be masked: {what}")
    first: dict[nn.Parameter, str] = {}
    for name in names:
        first.setdefault(parameters[name], name)
    return {name: weight for weight, name in first.items()}


def check_weights_run(network: nn.Module, names: Iterable[str], example: Array | None = None) -> None:
    """Check that a network computes with each of its parameters of these names, in evaluation or in training.

    What is masked where it does not, as where a second copy runs, or what was computed from it once, has no effect.

    Raises:
        PruningError: It does not, or calls what is not registered as a part of it.
    """
    with torch.inference_mode(False), undisturbed(network):
        probe = to_evaluation(copy_network(network))
        network_output(probe, example)
        parameters = dict(probe.named_parameters(remove_duplicate=False))
        # Not by get_parameter(), to which a script returns none.
        idle: dict[str, Tensor] = {name: parameters[name] for name in names if parameters[name].is_floating_point()}
        for parameter in probe.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        for training in (False, True):
            probe.train(training)
            # Gradients tell most of them at once; recomputation and custom functions can hide some.
            slopes = _slopes(probe, list(idle.values()), example)
            idle = {
                name: weight
                for (name, weight), slope in zip(idle.items(), slopes, strict=True)
                if slope is None and not _numbers_reach(probe, weight, example)
            }
    if idle:
        raise PruningError(
            f"the network does not compute with the weights {next(iter(idle))} (does it run a second copy of them, or "
            "what was once computed from them, or nothing of that layer?), so nothing that is done to them has an "
            "effect; compute with the registered parameter in every forward pass, or take that layer out"
        )


def _slopes(network: nn.Module, weights: list[Tensor], example: Array | None) -> Sequence[Tensor | None]:
    """Return the gradients of a network's output by some of its weights, None where there is none."""
    try:
        with torch.enable_grad(), sound_gradients(network):
            outputs = [output.sum() for output in network_output(network, example) if output.requires_grad]
            return torch.autograd.grad(outputs, weights, allow_unused=True)
    except (PruningError, RuntimeError, ValueError):  # nothing has a gradient, or nothing is left to look at
        return [None] * len(weights)


def _numbers_reach(network: nn.Module, weight: Tensor, example: Array | None) -> bool:
    """Return whether an output is no number where a parameter is none."""
    value = weight.detach().clone()
    weight.fill_(torch.nan)
    try:
        return any(map(has_no_number, tensors(network(probe_images(network, example)))))
    except Exception:
        return False
    finally:
        weight.copy_(value)


def _schedule(present: int, total: int, sparsity: float, rounds: int) -> list[int]:
    """Return how many weights are left after each round."""
    if not 0 < sparsity < 1:
        raise PruningError(
            f"sparsity {sparsity} is no share of weights to remove; give one between 0 and 1, such as 0.9"
        )
    if rounds < 1:
        raise PruningError(f"weights cannot be masked in {rounds} rounds; give at least 1")
    final = round((1 - sparsity) * total)
    if not 0 < final < present:
        raise PruningError(
            f"sparsity {sparsity} leaves {final:,} of {total:,} weights, and {present:,} are there now; at least one "
            "has to go and one to stay"
        )
    share = (1 - sparsity) * total / present
    return [round(present * share ** (done / rounds)) for done in range(1, rounds)] + [final]


def _warn_of_collapse(masks: Masks, sparsity: float) -> None:
    empty = [name.removesuffix(".weight") for name, mask in masks.items() if not mask.any()]
    if empty:
        warnings.warn(
            f"sparsity {sparsity} leaves no weight in {', '.join(empty)} (layer collapse): nothing passes but by "
            "shortcuts around it; use a lower sparsity, or synflow, which scores layer by layer anew",
            PruningWarning,
            stacklevel=3,
        )
