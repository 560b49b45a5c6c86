"""Real removal: a block's module leaves the network, and the names of all others stay.

A parent can reach its parts by more than their registered names: by a list, a closure, a bound method. What was taken
out, or cut, may then run as before. So nothing counts as removed before the network has run without it, and what it
called was seen: what is counted, trained and saved is what computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from robustprune.errors import PruningError, in_one_line
from robustprune.models import copy_network, evaluation_mode
from robustprune.pruning.calls import address, probe_images, run_registered, running_instead, undisturbed
from robustprune.pruning.residue import RemovedBlock, Residue
from robustprune.runtime.arrays import Array


def remove_blocks(model: nn.Module, removed: Mapping[str, Residue], *, example: Array | None = None) -> nn.Module:
    """Return a copy of the model without the named blocks; kept weights and buffers are carried over.

    The copy has run without them, in evaluation and in training mode, just as if they were bypassed, and called nothing
    but what is in it.

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
    replace_modules(pruned, gone)
    overwrite([tensor for module in gone for tensor in (*module.parameters(), *module.buffers())], kept=pruned)
    try:
        bypassed = {model.get_submodule(name): RemovedBlock(residue).forward for name, residue in removed.items()}
        with undisturbed(model), evaluation_mode(model), running_instead(bypassed):
            expected = network_output(model, example)
        found = check_runs(model, pruned, example)
        if len(found) != len(expected) or not all(map(_alike, found, expected)):
            raise PruningError(
                "the network computes something else than with the shortcut alone, so another part of it uses what "
                "was taken out"
            )
    except PruningError as error:
        names = ", ".join(removed)
        which = f"block {names} cannot go" if len(removed) == 1 else f"blocks {names} cannot go together"
        raise PruningError(f"{which}: {error}") from error
    return pruned


def replace_modules(network: nn.Module, others: Mapping[nn.Module, nn.Module]) -> None:
    """Put others in the places of modules: under all registered names, and in lists and dicts that parents keep."""

    def other(value: Any) -> Any:
        return others[value].train(value.training) if isinstance(value, nn.Module) and value in others else value

    for module in list(network.modules()):
        for name, value in list(vars(module).items()):
            if any(isinstance(leaf, nn.Module) and leaf in others for leaf in tree_leaves(value)):
                vars(module)[name] = tree_map(other, value)


def _alike(found: Tensor, expected: Tensor) -> bool:
    # The same operations on the same numbers; a GPU may add them up in another order.
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def overwrite(parts: Iterable[Tensor], kept: nn.Module) -> None:
    """Make no numbers of tensors that are no part of a network, so that no use of them passes unseen."""
    staying = {address(tensor) for tensor in (*kept.parameters(), *kept.buffers())}
    with torch.no_grad():
        for tensor in parts:
            if tensor.is_floating_point() and address(tensor) not in staying:
                tensor.fill_(torch.nan)


def check_runs(model: nn.Module, pruned: nn.Module, example: Array | None = None) -> list[Tensor]:
    """Check that a network runs, in evaluation and in training, and calls nothing but its registered parts.

    Returns:
        What it returns in evaluation.
    """
    with undisturbed(model):
        with evaluation_mode(pruned):
            output = network_output(pruned, example)
        if any(map(has_no_number, output)):
            with evaluation_mode(model):
                if not any(map(has_no_number, network_output(model, example))):
                    raise PruningError("the network goes on computing with what was taken out of it")
        failure = _failure_in_training(pruned, example)
        # Batch normalization may need more than two images.
        if failure is not None and _failure_in_training(model, example) is None:
            raise PruningError(f"{failure} (in training mode)") from failure
    return output


def _failure_in_training(network: nn.Module, example: Array | None) -> PruningError | None:
    training = copy_network(network)
    training.train()
    try:
        network_output(training, example)
    except PruningError as error:
        return error
    return None


def network_output(network: nn.Module, example: Array | None) -> list[Tensor]:
    """Return what a network returns for its probe images; its errors are a PruningError."""
    try:
        return run_registered(network, probe_images(network, example))
    except PruningError:
        raise
    except Exception as error:
        raise PruningError(
            f"the network does not run any more: {type(error).__name__}: {in_one_line(error)}"
        ) from error


def has_no_number(output: Tensor) -> bool:
    """Return whether there is NaN in a tensor."""
    return bool(output.isnan().any())
