"""Real removal: a block's module leaves the network, and the names of all others stay.

A parent can reach its parts by more than their registered names: by a list, a closure, a bound method. What was taken
out, or cut, may then run as before. So nothing counts as removed before the network has run without it, and what it
called was seen: what is counted, trained and saved is what computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import PruningError, in_one_line
from robustprune.models import copy_network, evaluation_mode
from robustprune.pruning.calls import (
    addresses,
    foreign_calls,
    leaves,
    mapped,
    probe_images,
    running_instead,
    tensors,
    undisturbed,
)
from robustprune.pruning.residue import RemovedBlock, Residue
from robustprune.runtime.arrays import Array
from robustprune.runtime.kernels import sound_gradients


def remove_blocks(model: nn.Module, removed: Mapping[str, Residue], *, example: Array | None = None) -> nn.Module:
    """Return a copy of the model without the named blocks; kept weights and buffers are carried over.

    The copy has run without them, in evaluation and in training mode, and called nothing but what is in it.

    Args:
        model: Left as it is.
        removed: Block name → what is to remain of it.
        example: Images (N, C, H, W) to run a network on that does not know its own image shape.

    Raises:
        PruningError: A name that is no submodule of the model, or a block without which the network does not run, or
            that it still calls.
    """
    pruned = copy_network(model)
    gone: dict[nn.Module, nn.Module] = {}
    for name, residue in removed.items():
        try:
            gone[pruned.get_submodule(name)] = RemovedBlock(residue)
        except AttributeError as error:
            raise PruningError(f"the network has no block {name!r} to remove") from error
    _replace(pruned, gone)
    try:
        _check_removal(model, pruned, removed, list(gone), example)
    except PruningError as error:
        names = ", ".join(removed)
        which = f"block {names} cannot go" if len(removed) == 1 else f"blocks {names} cannot go together"
        raise PruningError(f"{which}: {error}") from error
    return pruned


def _replace(network: nn.Module, others: Mapping[nn.Module, nn.Module]) -> None:
    """Put others in the places of modules: under all registered names, and in lists and dicts that parents keep."""

    def other(value: Any) -> Any:
        return others[value].train(value.training) if isinstance(value, nn.Module) and value in others else value

    for module in list(network.modules()):
        for name, value in list(vars(module).items()):
            if any(isinstance(leaf, nn.Module) and leaf in others for _, leaf in leaves(value)):
                vars(module)[name] = mapped(other, value)


def _check_removal(
    model: nn.Module,
    pruned: nn.Module,
    removed: Mapping[str, Residue],
    gone: Sequence[nn.Module],
    example: Array | None,
) -> None:
    """Check that a network runs without blocks, in evaluation and in training, just as if they were bypassed.

    The weights of ``gone``, which were taken out of ``pruned``, are overwritten.
    """
    with undisturbed(model):
        bypassed = {model.get_submodule(name): RemovedBlock(residue).forward for name, residue in removed.items()}
        try:
            with evaluation_mode(model), running_instead(bypassed):
                expected = tensors(model(probe_images(model, example)))
        except Exception as error:
            raise PruningError(_does_not_run(error)) from error
        parts = [tensor for module in gone for tensor in (*module.parameters(), *module.buffers())]
        overwrite(parts, kept=[*pruned.parameters(), *pruned.buffers()])
        found = check_runs(model, pruned, gone, example)
    if len(found) != len(expected) or not all(map(_alike, found, expected)):
        raise PruningError(
            "the network computes something else than with the shortcut alone, so another part of it uses what "
            "was taken out"
        )


def _alike(found: Tensor, expected: Tensor) -> bool:
    # The same operations on the same numbers; a graphics card may add them up in another order.
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def overwrite(parts: Iterable[Tensor], kept: Iterable[Tensor]) -> None:
    """Make no numbers of tensors that are not kept, so that no use of them passes unseen."""
    staying = addresses(kept)
    with torch.no_grad():
        for tensor in parts:
            if tensor.is_floating_point() and not addresses([tensor]) & staying:
                tensor.fill_(torch.nan)


def check_runs(
    model: nn.Module, pruned: nn.Module, gone: Sequence[nn.Module] = (), example: Array | None = None
) -> list[Tensor]:
    """Check that a network runs, in evaluation and in training, and calls nothing but its registered parts.

    Args:
        model: The network that it was made from, left as it is. If that cannot run in training on two images, neither
            has this one to.
        pruned: The network, left as it is.
        gone: Modules that it must not call any more.
        example: Images (N, C, H, W) for a network that does not know its own image shape.

    Returns:
        What it returns in evaluation.

    Raises:
        PruningError: It does not.
    """
    with undisturbed(model):
        try:
            with evaluation_mode(pruned):
                output = tensors(_only_registered(pruned, gone, example))
        except _NetworkError as error:
            raise PruningError(_does_not_run(error.reason)) from error.reason
        if any(map(_has_no_number, output)) and not gone:
            with evaluation_mode(model):
                sick = any(map(_has_no_number, tensors(model(probe_images(model, example)))))
            if not sick:
                raise PruningError("the network goes on computing with weights from before, which were replaced")
        training = copy_network(pruned)
        training.train()
        try:
            _only_registered(training, (), example)
        except _NetworkError as error:
            if _trains(model, example):
                raise PruningError(f"{_does_not_run(error.reason)} (in training mode)") from error.reason
    return output


class _NetworkError(Exception):
    """A network raised an error of its own."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _does_not_run(error: Exception) -> str:
    return f"the network does not run any more: {type(error).__name__}: {in_one_line(error)}"


def _trains(model: nn.Module, example: Array | None) -> bool:
    """Return whether a network runs in training mode; batch normalization may need more than two images."""
    training = copy_network(model)
    training.train()
    try:
        training(probe_images(model, example))
    except Exception:
        return False
    return True


def _only_registered(network: nn.Module, gone: Sequence[nn.Module], example: Array | None) -> Any:
    """Run a network; see that it calls nothing with weights that is not registered as a part of it."""
    with foreign_calls(network) as called:
        try:
            output = network(probe_images(network, example))
        except Exception as error:
            raise _NetworkError(error) from error
    removed = {part for module in gone for part in module.modules()}
    for module, unregistered in called.items():
        what = f"a {type(module).__name__} with {sum(weight.numel() for weight in module.parameters()):,} parameters"
        if module in removed:
            raise PruningError(
                f"the network goes on calling what was taken out, {what}, by a reference that is no registered name, "
                "such as a bound method or a function that holds it; call it by the name that it is registered under"
            )
        if unregistered:
            raise PruningError(
                f"the network calls {what} that is not registered as a part of it, so that it is neither counted nor "
                "saved (is it in a plain list, or held by a function, whose copies go on calling the original?); "
                "register it, in an nn.ModuleList for example"
            )
    return output


def idle_parameters(network: nn.Module, names: Iterable[str], example: Array | None = None) -> list[str]:
    """Return which parameters of these names a network computes nothing with, in evaluation or in training.

    What is done to them has no effect, as where a second copy of them runs, or what was once computed from them.

    Raises:
        PruningError: It calls what is not registered as a part of it.
    """
    with torch.inference_mode(False), undisturbed(network):
        probe = copy_network(network)
        parameters = dict(probe.named_parameters(remove_duplicate=False))
        # Not by get_parameter(), to which a script returns none.
        idle: dict[str, Tensor] = {name: parameters[name] for name in names if parameters[name].is_floating_point()}
        for parameter in probe.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        for training in (False, True):
            probe.train(training)
            # Gradients tell most of them at once; recomputation and custom functions can hide some.
            idle = _without_gradients(probe, idle, example) if idle else idle
            if idle and _numbers_reach(probe, idle.values(), example):
                idle = {name: weight for name, weight in idle.items() if not _numbers_reach(probe, [weight], example)}
    return list(idle)


def _without_gradients(network: nn.Module, weights: dict[str, Tensor], example: Array | None) -> dict[str, Tensor]:
    """Return which parameters no gradient of the outputs reaches."""
    with torch.enable_grad(), sound_gradients(network):
        try:
            outputs = [output for output in tensors(_only_registered(network, (), example)) if output.requires_grad]
            total = [output.sum() for output in outputs]
            slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        except (_NetworkError, RuntimeError):
            return weights
    return {name: weight for (name, weight), slope in zip(weights.items(), slopes, strict=True) if slope is None}


def _numbers_reach(network: nn.Module, weights: Iterable[Tensor], example: Array | None) -> bool:
    """Return whether an output is no number where some parameters are none."""
    own = [(weight, weight.detach().clone()) for weight in weights]
    try:
        for weight, _ in own:
            weight.fill_(torch.nan)
        return any(map(_has_no_number, tensors(network(probe_images(network, example)))))
    except Exception:
        return False
    finally:
        for weight, value in own:
            weight.copy_(value)


def _has_no_number(output: Tensor) -> bool:
    return bool(output.isnan().any())
