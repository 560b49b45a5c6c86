"""Whether what is left of a network runs, and nothing else: what is counted, trained and saved is what computes.

A parent can reach its parts by more than their registered names: by a list, a closure, a bound method. What was taken
out, or cut, may then run as before. So nothing counts as removed before the network has run without it, and what it
called was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import PruningError, in_one_line
from robustprune.models import copy_network, evaluation_mode
from robustprune.pruning.calls import addresses, foreign_calls, probe_images, tensors, undisturbed
from robustprune.pruning.residue import RemovedBlock, Residue
from robustprune.runtime.arrays import Array
from robustprune.runtime.kernels import sound_gradients


def check_removal(
    model: nn.Module,
    pruned: nn.Module,
    removed: Mapping[str, Residue],
    gone: Sequence[nn.Module],
    example: Array | None = None,
) -> None:
    """Check that a network runs without blocks, in evaluation and in training, just as if they were bypassed.

    Args:
        model: The network with the blocks, left as it is.
        pruned: The one without them.
        removed: Block name → what remains of it.
        gone: The modules that were taken out of ``pruned``. Their weights are overwritten.
        example: Images (N, C, H, W) for a network that does not know its own image shape.

    Raises:
        PruningError: It does not, or goes on calling one of them.
    """
    with undisturbed(model):
        try:
            with evaluation_mode(model), _bypassed(model, removed):
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


@contextmanager
def _bypassed(model: nn.Module, removed: Mapping[str, Residue]) -> Iterator[None]:
    """Let blocks return their residue: on the modules themselves, so whichever way they are reached."""
    own = {model.get_submodule(name): residue for name, residue in removed.items()}
    forwards = {module: module.forward for module in own if "forward" in vars(module)}
    try:
        for module, residue in own.items():
            module.forward = RemovedBlock(residue).forward
        yield
    finally:
        for module in own:
            if module in forwards:
                module.forward = forwards[module]
            else:
                del module.forward


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
        except _Failed as error:
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
        except _Failed as error:
            if _trains(model, example):
                raise PruningError(f"{_does_not_run(error.reason)} (in training mode)") from error.reason
    return output


class _Failed(Exception):
    """A network raised an error of its own."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def _does_not_run(error: Exception) -> str:
    detail = in_one_line(error)
    return f"the network does not run any more: {type(error).__name__}: {detail}"


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
            raise _Failed(error) from error
    removed = {id(part) for module in gone for part in module.modules()}
    for module in called:
        what = f"a {type(module).__name__} with {sum(weight.numel() for weight in module.parameters()):,} parameters"
        if id(module) in removed:
            raise PruningError(
                f"the network goes on calling what was taken out, {what}, by a reference that is no registered name, "
                "such as a bound method or a function that holds it; call it by the name that it is registered under"
            )
        if strangers(module, network):
            raise PruningError(
                f"the network calls {what} that is not registered as a part of it, so that it is neither counted nor "
                "saved (is it in a plain list, or held by a function, whose copies go on calling the original?); "
                "register it, in an nn.ModuleList for example"
            )
    return output


def check_weights_run(network: nn.Module, names: Iterable[str], example: Array | None = None) -> None:
    """Check that a network computes with each of its parameters of these names, in evaluation or in training.

    What is masked where it does not, as where a second copy runs, or what was computed from it once, has no effect.

    Raises:
        PruningError: It does not, or calls what is not registered as a part of it.
    """
    idle = idle_parameters(network, names, example)
    if idle:
        raise PruningError(
            f"the network does not compute with the weights {idle[0]} (does it run a second copy of them, or what was "
            "once computed from them, or nothing of that layer?), so nothing that is done to them has an effect; "
            "compute with the registered parameter in every forward pass, or take that layer out"
        )


def idle_parameters(network: nn.Module, names: Iterable[str], example: Array | None = None) -> list[str]:
    """Return which parameters of these names a network computes nothing with, in evaluation or in training.

    Raises:
        PruningError: It calls what is not registered as a part of it.
    """
    with torch.inference_mode(False), undisturbed(network):
        probe = copy_network(network)
        names = list(names)
        weights = _parameters(probe, names)
        idle = [name for name, weight in zip(names, weights, strict=True) if weight.is_floating_point()]
        for parameter in probe.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        for training in (False, True):
            probe.train(training)
            # Gradients tell most of them at once; recomputation and custom functions can hide some.
            idle = _without_gradients(probe, idle, example) if idle else idle
            if idle and _numbers_reach(probe, idle, example):
                idle = [name for name in idle if not _numbers_reach(probe, [name], example)]
    return idle


def _without_gradients(network: nn.Module, names: Sequence[str], example: Array | None) -> list[str]:
    """Return which parameters no gradient of the outputs reaches."""
    with torch.enable_grad(), sound_gradients(network):
        try:
            outputs = [output for output in tensors(_only_registered(network, (), example)) if output.requires_grad]
            weights = _parameters(network, names)
            slopes = torch.autograd.grad([output.sum() for output in outputs], weights, allow_unused=True)
        except (_Failed, RuntimeError):
            return list(names)
    return [name for name, slope in zip(names, slopes, strict=True) if slope is None]


def _numbers_reach(network: nn.Module, names: Sequence[str], example: Array | None) -> bool:
    """Return whether an output is no number where some parameters are none."""
    weights = _parameters(network, names)
    own = [weight.detach().clone() for weight in weights]
    try:
        for weight in weights:
            weight.fill_(torch.nan)
        return any(map(_has_no_number, tensors(network(probe_images(network, example)))))
    except Exception:
        return False
    finally:
        for weight, value in zip(weights, own, strict=True):
            weight.copy_(value)


def _parameters(network: nn.Module, names: Iterable[str]) -> list[nn.Parameter]:
    # Not by get_parameter(), to which a script returns none.
    own = dict(network.named_parameters(remove_duplicate=False))
    return [own[name] for name in names]


def _has_no_number(output: Tensor) -> bool:
    return bool(output.isnan().any())


def strangers(module: nn.Module, network: nn.Module) -> list[Tensor]:
    """Return the parameters and running statistics of a module that are none of a network's: a slice of it has none."""
    own = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    means = [tensor for name, tensor in module.named_buffers() if name.rpartition(".")[2] == "running_mean"]
    return [tensor for tensor in (*module.parameters(), *means) if id(tensor) not in own]


def overwrite(parts: Iterable[Tensor], kept: Iterable[Tensor]) -> None:
    """Make no numbers of tensors that are not kept, so that no use of them passes unseen."""
    staying = addresses(kept)
    with torch.no_grad():
        for tensor in parts:
            if tensor.is_floating_point() and not addresses([tensor]) & staying:
                tensor.fill_(torch.nan)


def _alike(found: Tensor, expected: Tensor) -> bool:
    # The same operations on the same numbers; a graphics card may add them up in another order.
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
