"""Which filters can go on their own, and their real removal: whatever reads them gets narrower, and all names stay.

What else loses a channel when a filter goes is read off Torch-Pruning's dependency graph, from the autograd graph of
one forward pass: Fang et al., "DepGraph: Towards any structural pruning", CVPR 2023 (arXiv:2301.12900). Torch-Pruning
cuts whatever it finds coupled; what is refused here is everything that reaches beyond the block, or that it would cut
without keeping the function of the channels that stay.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from robustprune.errors import PruningError, PruningWarning
from robustprune.models import copy_network, evaluation_mode
from robustprune.models.libraries import import_quietly
from robustprune.pruning.blocks import Block, find_blocks
from robustprune.pruning.calls import probe_images, trace, undisturbed
from robustprune.pruning.surgery import check_runs, overwrite
from robustprune.runtime.arrays import Array


def prunable_convolutions(
    model: nn.Module, blocks: Sequence[Block] | None = None, example: Array | None = None
) -> dict[str, str]:
    """Return the name of each block's first convolution, by block name, where its filters can go.

    First is the one that runs first, but for convolutions on the shortcut: no layer of the block reads those. Its
    filters can go, as only the block itself sees them; the last convolution's have to match the shortcut. Blocks
    without a convolution that could be cut, such as ConvNeXt's, are left out, and a warning names them.

    Args:
        model: A network, left as it was.
        blocks: Its blocks, if they are known. Stage-first ones, which cannot go themselves, count too.
        example: Images (N, C, H, W) to trace a network with that does not know its own image shape.

    Raises:
        PruningError: No block has such a convolution.
    """
    blocks = find_blocks(model, example) if blocks is None else blocks
    graph = _Couplings(model, example)
    found: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for block in blocks:
        inside = [name for name in graph.convolutions if name.startswith(f"{block.name}.")]
        first = next((name for name in inside if graph.is_read_within(name, block.name)), None)
        if first is None or len(inside) < 2:
            left_out[block.name] = f"of its {len(inside)} convolutions none is read by another one"
        elif problem := graph.obstacle(first, block.name):
            left_out[block.name] = f"{first}: {problem}"
        else:
            found[block.name] = first
    if not found:
        reasons = "; ".join(f"{name} ({why})" for name, why in list(left_out.items())[:1])
        raise PruningError(
            f"no filters of this network can go on their own: none of its {len(blocks)} blocks begins with a "
            f"convolution that only the block itself sees, e.g. {reasons}"
        )
    if left_out:
        names = ", ".join(left_out)
        warnings.warn(
            f"{len(left_out)} of {len(blocks)} blocks keep all their filters: {names}; e.g. "
            f"{next(iter(left_out))}: {next(iter(left_out.values()))}",
            PruningWarning,
            stacklevel=2,
        )
    return found


def remove_filters(
    model: nn.Module,
    removed: Mapping[str, Sequence[int]],
    *,
    blocks: Sequence[Block] | None = None,
    example: Array | None = None,
) -> nn.Module:
    """Return a copy of the model without the given filters; kept weights and buffers are carried over.

    Args:
        model: Left as it is.
        removed: Convolution → indices of its filters, in its present numbering.
        blocks: The network's blocks, if they are known: filters go only where nothing outside a block sees them.
        example: Images (N, C, H, W) to trace a network with that does not know its own image shape.

    Raises:
        PruningError: A name that is no convolution in a block, indices that are out of range, given twice or all
            there are, or channels that are coupled to more than the block.
    """
    for name, indices in removed.items():
        _check_indices(model, name, indices)
    if not any(removed.values()):
        return copy_network(model)
    known = find_blocks(model, example) if blocks is None else blocks
    graph = _Couplings(model, example)
    for name, indices in removed.items():
        block = next((block.name for block in known if name.startswith(f"{block.name}.")), None)
        if block is None or name not in graph.convolutions:
            raise PruningError(f"filters of {name} cannot go: it is in no residual block, or nothing depends on it")
        problem = graph.obstacle(name, block, indices)
        if problem:
            raise PruningError(f"filters of {name} cannot go: {problem}")
        if indices:
            graph.cut(name, indices)
    for name, weight in graph.network.named_parameters():
        weight.requires_grad_(graph.trained[name])
    try:
        check_runs(model, graph.network, example)
    except PruningError as error:
        raise PruningError(f"these filters cannot go: {error}") from error
    return graph.network


def _check_indices(model: nn.Module, name: str, indices: Sequence[int]) -> None:
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, nn.modules.conv._ConvNd):
        raise PruningError(f"{name!r} is no convolution of the network, so it has no filters to remove")
    wrong = [index for index in indices if not 0 <= index < module.out_channels]
    if wrong:
        raise PruningError(f"{name} has filters 0 to {module.out_channels - 1}; there is no filter {wrong[0]}")
    if len(set(indices)) < len(indices):
        raise PruningError(f"the filters of {name} that are to go name one of them twice")
    if len(indices) == module.out_channels:
        raise PruningError(f"all {module.out_channels} filters of {name} are to go; at least one has to stay")


class _Couplings:
    """The couplings between the channels of a network, of which it keeps a copy that :meth:`cut` changes."""

    def __init__(self, model: nn.Module, example: Array | None = None) -> None:
        """Send one batch of images through a copy and read the graph; ``example`` as in ``find_blocks``."""
        self._tool = import_quietly("torch_pruning", "filter pruning")
        # What is made in inference mode can never be trained.
        with undisturbed(model), torch.inference_mode(False), torch.enable_grad():
            self.network = copy_network(model)
            images = probe_images(self.network, example)
            self.trained = {name: weight.requires_grad for name, weight in self.network.named_parameters()}
            self.network.requires_grad_(True)  # so that autograd sees every parameter
            with evaluation_mode(self.network):
                calls = trace(self.network, images.clone())
                try:
                    self._graph = self._tool.DependencyGraph().build_dependency(
                        self.network, images, forward_fn=lambda network, inputs: network(inputs), verbose=False
                    )
                except Exception as error:
                    raise PruningError(
                        "no filters of this network can go: Torch-Pruning cannot read which of its channels belong "
                        f"together: {type(error).__name__}: {error}"
                    ) from error
        convolutions = dict.fromkeys(c.name for c in calls if isinstance(c.module, nn.modules.conv._ConvNd))
        self.convolutions = [c for c in convolutions if self.network.get_submodule(c) in self._graph.module2node]
        self._names: dict[Any, str] = {module: name for name, module in self.network.named_modules()}
        self._holders: dict[Tensor, list[str]] = {}
        for module, name in self._names.items():
            for tensor in module.parameters(recurse=False):
                self._holders.setdefault(tensor, []).append(name)

    def cut(self, convolution: str, indices: Sequence[int]) -> None:
        """Remove filters of a convolution, and the channels coupled to them, in place.

        The weights from before are overwritten, so that no use of them passes unseen.
        """
        before = [*self.network.parameters(), *self.network.buffers()]
        with torch.inference_mode(False):
            self._group(convolution, indices).prune(record_history=False)
        overwrite(before, kept=self.network)

    def is_read_within(self, convolution: str, block: str) -> bool:
        """Whether the convolution's channels go into another layer of the block, as none of a shortcut's do."""
        waiting = list(self._node(convolution).outputs)
        passed = set()
        while waiting:
            node = waiting.pop()
            if isinstance(node.module, (nn.modules.conv._ConvNd, nn.Linear)):
                if self._names[node.module].startswith(f"{block}."):
                    return True
            elif node not in passed:
                passed.add(node)
                waiting += node.outputs
        return False

    def obstacle(self, convolution: str, block: str, indices: Sequence[int] | None = None) -> str | None:
        """Return why filters of a convolution (all by default) cannot go without touching more, or None."""
        filters = self._node(convolution).module.out_channels
        wanted = list(range(filters)) if indices is None else sorted(indices)
        seen: set[str] = set()
        for name, module, channels in self._members(convolution, wanted):
            if not name.startswith(f"{block}."):
                return f"its channels are coupled to those of {name}, outside the block"
            problem = self._sharing(name, module) or _obstacle_in(module)
            if problem or channels != wanted or name in seen:
                where = "it is" if name == convolution else f"its channels are coupled to {name},"
                return f"{where} {problem or 'which has them in another order, or on both sides'}"
            seen.add(name)
        return None

    def _sharing(self, name: str, module: Any) -> str | None:
        """Return which other layer has a parameter of this one, too: it would lose the same channels."""
        own = [] if isinstance(module, nn.Parameter) else module.parameters(recurse=False)
        others = [other for tensor in own for other in self._holders[tensor] if other != name]
        return f"a {type(module).__name__} that shares a parameter with {others[0]}" if others else None

    def _members(self, convolution: str, indices: Sequence[int]) -> Iterator[tuple[str, Any, list[int]]]:
        """Yield (name, module or bare parameter, channels) of all that loses channels."""
        group = self._group(convolution, indices)
        names = self._names | {tensor: name for name, tensor in self.network.named_parameters()}
        for dependency, channels in group:
            module = dependency.target.module
            # What has no name is an operation, such as an addition, with nothing to cut.
            if module in names:
                yield names[module], module, sorted(channels)

    def _group(self, convolution: str, indices: Sequence[int]) -> Any:
        module = self._node(convolution).module
        return self._graph.get_pruning_group(module, self._tool.prune_conv_out_channels, list(indices))

    def _node(self, convolution: str) -> Any:
        return self._graph.module2node[self.network.get_submodule(convolution)]


def _obstacle_in(module: Any) -> str | None:
    if isinstance(module, nn.Parameter):
        return "a parameter outside any layer that could be cut"
    if is_parametrized(module):
        computed = ", ".join(module.parametrizations)
        return f"a {type(module).__bases__[0].__name__} whose {computed} is computed from other parameters"
    unknown = [name for name, _ in module.named_parameters(recurse=False) if name not in ("weight", "bias")]
    if unknown:
        return f"a {type(module).__name__} with a parameter of its own ({unknown[0]})"
    if isinstance(module, nn.modules.conv._ConvNd) and module.groups > 1:
        if module.groups == module.in_channels == module.out_channels:
            return None  # depthwise: each filter has a channel of its own
        return f"a convolution in {module.groups} groups, which would have to lose channels evenly"
    if isinstance(module, nn.GroupNorm) and module.num_groups > 1:
        return f"a normalization in {module.num_groups} groups, which would shift"
    return None
