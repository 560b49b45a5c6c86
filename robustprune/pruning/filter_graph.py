"""What else loses a channel when a filter goes, by Torch-Pruning's dependency graph.

Fang et al., "DepGraph: Towards any structural pruning", CVPR 2023 (arXiv:2301.12900). The graph is read off the
autograd graph of one forward pass. Torch-Pruning cuts whatever it finds coupled; what is refused here is everything
that reaches beyond the block, or that it would cut without keeping the function of the channels that stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from robustprune.errors import PruningError
from robustprune.models import copy_network, evaluation_mode
from robustprune.models.libraries import import_quietly
from robustprune.pruning.calls import probe_images, undisturbed
from robustprune.pruning.running import overwrite
from robustprune.runtime.arrays import Array


class FilterGraph:
    """The couplings between the channels of a network.

    Attributes:
        network: A copy of the network, which :meth:`cut` changes.
        convolutions: Names of the convolutions that its output depends on, in order of execution.
    """

    def __init__(self, model: nn.Module, example: Array | None = None) -> None:
        """Send one batch of images through a copy and read the graph; ``example`` as in ``find_blocks``."""
        self._tool = import_quietly("torch_pruning", "filter pruning")
        # What is made in inference mode can never be trained.
        with undisturbed(model), torch.inference_mode(False), torch.enable_grad():
            self.network = copy_network(model)
            images, order = probe_images(self.network, example), list[str]()
            with _traceable(self.network), _noting(self.network, order):
                try:
                    self._graph = self._tool.DependencyGraph().build_dependency(
                        self.network, images, forward_fn=lambda network, inputs: network(inputs), verbose=False
                    )
                except Exception as error:
                    raise PruningError(
                        "no filters of this network can go: Torch-Pruning cannot read which of its channels belong "
                        f"together: {type(error).__name__}: {error}"
                    ) from error
        self.convolutions = [name for name in order if self.network.get_submodule(name) in self._graph.module2node]
        self._names: dict[Any, str] = {module: name for name, module in self.network.named_modules()}
        self._holders: dict[Tensor, list[str]] = {}
        for module, name in self._names.items():
            for tensor in module.parameters(recurse=False):
                self._holders.setdefault(tensor, []).append(name)

    def cut(self, convolution: str, indices: Sequence[int]) -> None:
        """Remove filters of a convolution, and the channels coupled to them, in place.

        The weights from before are overwritten, so that no use of them passes unseen.
        """
        trained = {layer: tensor.requires_grad for layer, tensor in self.network.named_parameters()}
        before = self._tensors()
        with torch.inference_mode(False):
            self._group(convolution, indices).prune(record_history=False)
        for layer, tensor in self.network.named_parameters():
            tensor.requires_grad_(trained[layer])
        overwrite(before, kept=self._tensors())

    def _tensors(self) -> list[Tensor]:
        return [*self.network.parameters(), *self.network.buffers()]

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
        if isinstance(module, nn.Parameter):
            return None
        held = [other for tensor in module.parameters(recurse=False) for other in self._holders[tensor]]
        others = [other for other in held if other != name]
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


@contextmanager
def _traceable(network: nn.Module) -> Iterator[None]:
    """Let autograd see every parameter; put back what requires a gradient, and the modes that tracing changes."""
    trained = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for parameter, _ in trained:
            parameter.requires_grad_(True)
        with evaluation_mode(network):
            yield
    finally:
        for parameter, required in trained:
            parameter.requires_grad_(required)


@contextmanager
def _noting(network: nn.Module, order: list[str]) -> Iterator[None]:
    """Append the name of every convolution to ``order`` when it is first run."""

    def note(name: str, *_: Any) -> None:
        if name not in order:
            order.append(name)

    layers = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.modules.conv._ConvNd)]
    handles = [layer.register_forward_hook(partial(note, name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
