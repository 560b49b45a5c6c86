"""What a network has and does: parameters, filters, multiply-accumulates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode

from robustprune.inference import (
    as_network,
    evaluation_mode,
    failure,
    frozen_parameters,
    model_device,
    model_type,
    run_uncompiled,
)
from robustprune.models import architecture_of
from robustprune.provenance import frozen_constants
from robustprune.pruning import Block


@dataclass(frozen=True)
class Cost:
    """Sizes of a network.

    Attributes:
        parameters: Trainable and frozen parameters; buffers do not count, the constants of a frozen script do.
        macs: Multiply-accumulates of one image's forward pass in convolutions, linear layers and attention.
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


def measure_cost(model: nn.Module, example: Tensor | None = None) -> Cost:
    """Count parameters, multiply-accumulates per image, and filters; the model is left as it was.

    Args:
        model: A network.
        example: Images (N, C, H, W) to count with, for a network that was not built by this package.

    Raises:
        ModelError: The network does not run on such images.
    """
    model = as_network(model)
    return Cost(
        parameters=sum(weight.numel() for weight in list(model.parameters()) or frozen_constants(model)),
        macs=_count_macs(model, example).get("Global", 0),
        filters=sum(module.out_channels for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd)),
    )


def measure_block_macs(model: nn.Module, blocks: Sequence[Block], example: Tensor | None = None) -> dict[str, int]:
    """Return the multiply-accumulates per image of each block, by name; arguments as :func:`measure_cost`."""
    counts = _count_macs(model, example)
    # The counter names a module after the class of the whole network and its path in it.
    return {block.name: counts.get(f"{type(model).__name__}.{block.name}", 0) for block in blocks}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Compute attention by matrix products: the counter cannot see into the fused operations."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


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


def _count_macs(model: nn.Module, example: Tensor | None) -> dict[str, int]:
    if example is None:
        architecture = architecture_of(model)
        example = torch.zeros(1, architecture.channels, *architecture.image_size)
    example = example.detach().clone().to(model_device(model), model_type(model))
    with ExitStack() as stack:
        # Parameters handed from module to module (CaiT's class token) make the counter look for gradients otherwise.
        for context in (evaluation_mode(model), frozen_parameters(model), run_uncompiled(model), torch.no_grad()):
            stack.enter_context(context)
        stack.enter_context(_plain_attention())
        stack.enter_context(_uncompiled_counter())
        counter = stack.enter_context(FlopCounterMode(display=False))
        try:
            model(example)
        except Exception as error:
            raise failure(f"cannot run on images of shape {tuple(example.shape)}", error) from error
    # A multiply-accumulate is two floating-point operations.
    per_image = 2 * len(example)
    return {name: sum(counts.values()) // per_image for name, counts in counter.get_flop_counts().items()}
