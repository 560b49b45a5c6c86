"""What a network has and does: parameters, filters, multiply-accumulates; and the images to measure networks with."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode

from robustprune.errors import ModelError, ModelWarning
from robustprune.models import (
    architecture_of,
    as_network,
    copy_network,
    evaluation_mode,
    frozen_parameters,
    model_device,
    model_type,
    naming_failures,
    network_name,
    placed,
    run_uncompiled,
)
from robustprune.models.networks import plain_attention
from robustprune.pruning import Block, weight_layers
from robustprune.pruning.criteria.used_weights import use_weights
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.devices import Device
from robustprune.runtime.environment import frozen_constants
from robustprune.runtime.randomness import seeded_generator

aten = torch.ops.aten

Shape = Sequence[int]

_OWN_NAMESPACES = ("aten", "prim", "prims", "profiler", "torchvision")


def noise_images(model: nn.Module, count: int, example: Array | None = None) -> Tensor:
    """Return ``count`` images of noise in [0, 1], of the type of the network's weights, on the CPU.

    They have the shape of an example (N, …), or that which the network was built for.
    """
    if example is None:
        architecture = architecture_of(model)
        shape: tuple[int, ...] = (architecture.channels, *architecture.image_size)
    else:
        shape = tuple(to_tensor(example, "the example", ModelError).shape[1:])
    return torch.rand(count, *shape, generator=seeded_generator("cost", count)).to(model_type(model))


@dataclass(frozen=True)
class Cost:
    """Sizes of a network.

    Attributes:
        parameters: Trainable and frozen parameters; buffers do not count, the constants of a frozen script do.
        macs: Multiply-accumulates of one image's forward pass in products: convolutions, linear, bilinear and
            recurrent layers, attention, and whatever calls such a product as a function.
        filters: Output channels over all convolutions, the shortcuts' among them.
    """

    parameters: int
    macs: int
    filters: int

    def to_dict(self) -> dict[str, int]:
        """Return the three numbers by name."""
        return asdict(self)

    def saved_percent(self, dense: Cost) -> dict[str, float]:
        """Return how much less this is than ``dense``, in percent, by name."""
        own, full = self.to_dict(), dense.to_dict()
        return {name: percent_saved(own[name], full[name]) for name in own}


def percent_saved(own: float, dense: float) -> float:
    """Return how much less one cost is than another, in percent; 0 where there is nothing to save."""
    return 100 * (1 - own / dense) if dense else 0.0


def measure_cost(model: nn.Module, example: Array | None = None, *, device: Device = None) -> Cost:
    """Count parameters, multiply-accumulates per image, and filters; the model is left as it was.

    Args:
        model: A network.
        example: Images (N, C, H, W) to count with, for a network that was not built by this package.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.

    Raises:
        ModelError: The network does not run on such images.

    Warns:
        ModelWarning: Operations ran whose products cannot be counted, such as quantized ones.
    """
    network, macs, _ = _count_macs(placed(as_network(model), device), example)
    return Cost(
        parameters=sum(weight.numel() for weight in list(network.parameters()) or frozen_constants(network)),
        macs=macs,
        filters=sum(module.out_channels for module in network.modules() if isinstance(module, nn.modules.conv._ConvNd)),
    )


def measure_block_macs(model: nn.Module, blocks: Sequence[Block], example: Array | None = None) -> dict[str, int]:
    """Return the multiply-accumulates per image of each block, by name; arguments as :func:`measure_cost`."""
    spent = _count_macs(model, example, [name for block in blocks for name in block.modules])[2]
    return {block.name: sum(spent[name] for name in block.modules) for block in blocks}


@contextmanager
def _uncompiled_counter() -> Iterator[None]:
    """Count without torch's guard against its own compiler, which begins with seconds of importing the compiler.

    The guard is a wrapper that keeps what it wraps; where a version of torch has none, nothing is changed.
    """
    guarded = _FlopCounterMode.__torch_dispatch__
    _FlopCounterMode.__torch_dispatch__ = getattr(guarded, "__wrapped__", guarded)  # type: ignore[method-assign]
    try:
        yield
    finally:
        _FlopCounterMode.__torch_dispatch__ = guarded  # type: ignore[method-assign]


@contextmanager
def _spending(network: nn.Module, spent: dict[str, int], total: Callable[[], int]) -> Iterator[None]:
    """Add what the counter's total grows by within the named modules: by whatever name or container they are called."""

    def change(name: str, sign: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            spent[name] += sign * total()

        return hook

    with ExitStack() as stack:
        for name in spent:
            module = network.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(change(name, -1)).remove)
            stack.callback(module.register_forward_hook(change(name, +1)).remove)
        yield


def _count_macs(
    model: nn.Module, example: Array | None, blocks: Sequence[str] = ()
) -> tuple[nn.Module, int, dict[str, int]]:
    """Return the network that ran, its multiply-accumulates per image, and those of modules."""
    example = noise_images(model, 1) if example is None else to_tensor(example, "the example", ModelError)
    network = _countable(model)
    counter, spent = _ProductCounter(), dict.fromkeys(blocks, 0)
    with ExitStack() as stack:
        # Parameters handed from module to module (CaiT's class token) make the counter look for gradients otherwise.
        for context in (evaluation_mode(network), frozen_parameters(network), run_uncompiled(network), torch.no_grad()):
            stack.enter_context(context)
        stack.enter_context(plain_attention())
        stack.enter_context(_uncompiled_counter())
        stack.enter_context(naming_failures(f"cannot run on images of shape {tuple(example.shape)}"))
        with counter, _spending(network, spent, counter.get_total_flops):
            network(example.detach().clone().to(model_device(network), model_type(network)))
    if counter.unknown:
        warnings.warn(
            f"the multiply-accumulates of this {network_name(network)} leave out the products that "
            f"{', '.join(counter.unknown)} hides; count the network before it is quantized or optimized for inference",
            ModelWarning,
            stacklevel=4,
        )
    # A multiply-accumulate is two floating-point operations.
    per_image = 2 * len(example)
    found = {name: operations // per_image for name, operations in spent.items()}
    return network, counter.get_total_flops() // per_image, found


def _countable(model: nn.Module) -> nn.Module:
    """Return the network, or a copy of it that reads its computed weights: to compute them is no cost of an image."""
    network = as_network(model)
    parameters = dict(network.named_parameters(remove_duplicate=False))
    with evaluation_mode(network):
        if all(name in parameters for name, _ in weight_layers(network)):
            return network
        network = copy_network(network)
    with run_uncompiled(network), evaluation_mode(network):
        use_weights(network)
    return network


class _ProductCounter(FlopCounterMode):
    """Counts two floating-point operations for each multiply-accumulate of a product, within each module.

    Attributes:
        unknown: Operations that were carried out and may hold products, but that no formula is known for.
    """

    def __init__(self) -> None:
        """Know the formulas of torch and those that it leaves out."""
        super().__init__(display=False, custom_mapping=_formulas())
        self.unknown: list[str] = []

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        name = str(getattr(func_packet, "_qualified_op_name", func_packet))
        if func_packet not in self.flop_registry and _may_multiply(name) and name not in self.unknown:
            self.unknown.append(name)
        return super()._count_flops(func_packet, out, args, kwargs)  # type: ignore[no-untyped-call]


def _may_multiply(name: str) -> bool:
    """Whether an operation without a formula may hold products: those of other packages, and hidden ones."""
    namespace, _, operation = name.partition("::")
    if namespace not in _OWN_NAMESPACES:
        return True
    # Scripted modules that are optimized for inference do their products where nothing sees them.
    return operation.endswith("mm") or operation == "to_mkldnn"


def _formulas() -> dict[Any, Callable[..., int]]:
    known: dict[Any, Callable[..., int]] = {
        aten.mv: lambda matrix, _vector, **_: 2 * prod(matrix),
        aten.addmv: lambda _added, matrix, _vector, **_: 2 * prod(matrix),
        aten.dot: lambda vector, _other, **_: 2 * prod(vector),
        aten.vdot: lambda vector, _other, **_: 2 * prod(vector),
        aten.addbmm: lambda _added, first, second, **_: 2 * prod(first) * second[-1],
        aten.mkldnn_linear: lambda features, weight, *_, **__: 2 * prod(features) * weight[0],
        aten.mkldnn_convolution: _convolution,
        aten.conv_tbc: lambda _features, weight, *_, out_shape, **__: 2 * prod(out_shape) * prod(weight[:2]),
        aten.mkldnn_rnn_layer: _recurrent,
        aten._trilinear: _bilinear,
    }
    if "torchvision" in sys.modules:  # which brings the operation
        known[torch.ops.torchvision.deform_conv2d] = _convolution
    return known


def _convolution(_features: Shape, weight: Shape, *_: Any, out_shape: Shape, **__: Any) -> int:
    return 2 * prod(out_shape) * prod(weight[1:])


def _recurrent(features: Shape, from_input: Shape, from_state: Shape, *_: Any, **__: Any) -> int:
    steps_and_sequences = prod(features[:2])
    return 2 * steps_and_sequences * (prod(from_input) + prod(from_state))


def _bilinear(first: Shape, weight: Shape, second: Shape, *expanded: list[int], **_: Any) -> int:
    """Return one multiply-accumulate for each weight and position: of xᵀWz, where all three are spread to one shape."""
    shapes = [list(first), list(weight), list(second)]
    for shape, places in zip(shapes, expanded[:3], strict=True):
        for place in sorted(places):
            shape.insert(place, 1)
    products: int = prod(max(sides) for sides in zip(*shapes, strict=True))
    return 2 * products
