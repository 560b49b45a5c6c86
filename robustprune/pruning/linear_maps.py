r"""Linear maps in place of removed blocks, by least squares over calibration images.

Of the features x (D,) that go into a run of removed blocks at each position, and those y that came out of it, the map
x ↦ Tᵀx + c with the least Σ ‖Tᵀx + c − y‖² + α ‖T − I‖² takes the place of the run; α = 0 is ordinary least squares,
a large one leaves plain removal and a constant. Where a linear layer adds its output m to the features before the run,
x = r + m, it is r + Tᵀm + c that is fitted to y, and T and c become part of that layer's weight and bias:

.. math:: T = (M^\top M + \alpha I)^{-1} M^\top (Y - R)

in matrices of one row for each position, without an intercept and with a ridge towards zero in place of the identity,
as Shopkhoev et al., "ReplaceMe: network simplification via depth pruning and transformer block linearization"
(arXiv:2505.02819), have it for MLPs without biases. Runs are replaced in order of execution, x being what goes into the
run of the network that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from robustprune.errors import PruningError
from robustprune.models import evaluation_mode, model_device, model_type
from robustprune.pruning.blocks import Block
from robustprune.pruning.calls import Call, tensors, trace, undisturbed
from robustprune.pruning.criteria import Batches
from robustprune.pruning.criteria.activations import block_sites
from robustprune.pruning.criteria.block_ends import watching
from robustprune.pruning.residue import Leaf, RemovedBlock, Residue
from robustprune.pruning.surgery import replace_modules
from robustprune.runtime.randomness import seeded_generator

_CANDIDATES = 8  # layers before a run that are tried for one that adds its output
_PROBES = 2  # images that show where that is so
_WIDEST = 1 << 14


class Replacement(BaseModel):
    """A linear map in place of removed blocks that follow each other.

    Attributes:
        blocks: The blocks, in order of execution.
        merged_into: The layer that it became part of; None where it is a layer of its own.
        channels: How many features it maps.
        channel_dim: Which dimension of the features counts them.
        is_rectified: Whether its output goes through a ReLU, as what came out of the blocks was never negative.
        plain_error: ‖x − y‖ / ‖y‖ over the calibration images: that of plain removal.
        error: The same with the map, before a ReLU, which lowers it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: tuple[str, ...]
    merged_into: str | None = None
    channels: int = Field(ge=1, le=_WIDEST)
    channel_dim: int = Field(ge=1, le=4)
    is_rectified: bool = False
    plain_error: float = Field(ge=0)
    error: float = Field(ge=0)


class LinearBlock(RemovedBlock):
    """What a removed block leaves, behind a linear map of its channels; before it is fitted, it is a `RemovedBlock`."""

    def __init__(self, residue: Residue, channels: int, channel_dim: int, *, is_rectified: bool = False) -> None:
        """Leave what a residue says; the map of a ``zero`` one adds to nothing, and begins as nothing."""
        super().__init__(residue)
        self.channel_dim, self.is_rectified = channel_dim, is_rectified
        self.is_added = "zero" in residue
        self.linear = nn.Linear(channels, channels)
        with torch.no_grad():
            self.linear.weight.copy_(torch.zeros(channels, channels) if self.is_added else torch.eye(channels))
            self.linear.bias.zero_()

    @classmethod
    def of(cls, residue: Residue, replacement: Replacement) -> LinearBlock:
        """Return the block of a replacement, before it is fitted."""
        return cls(residue, replacement.channels, replacement.channel_dim, is_rectified=replacement.is_rectified)

    def forward(self, *values: Any, **keywords: Any) -> Any:
        """Map what the residue names."""
        arguments = dict(enumerate(values)) | keywords

        def mapped(leaf: Leaf) -> Tensor:
            features = leaf.given(arguments)
            found: Tensor = self.linear(features.movedim(self.channel_dim, -1)).movedim(-1, self.channel_dim)
            return found.relu() if self.is_rectified or leaf.what == "relu" else found

        return tree_map_only(Leaf, mapped, self._left)


class LeastSquares:
    """Ridge regression of targets on inputs, added up in float64 batch by batch."""

    def __init__(self, channels: int, *, ridge: float = 0.0, intercept: bool = True) -> None:
        """Take how many features there are, and the ridge as a share of their mean variance."""
        self.ridge, self.intercept, self.count = ridge, intercept, 0
        # Of the inputs and targets side by side, and a one for their sums.
        self.products = torch.zeros(2 * channels + 1, 2 * channels + 1, dtype=torch.float64)

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Add inputs and targets (n, D)."""
        both = torch.cat([inputs, targets, inputs.new_ones(len(inputs), 1)], dim=1).double()
        self.products += (both.T @ both).cpu()
        self.count += len(inputs)

    def solve(self) -> tuple[Tensor, Tensor, float]:
        """Return the slopes (D, D) and intercepts (D,), and what is left of Σ ‖targets‖²."""
        width = len(self.products) // 2
        sums = self.products[-1, :-1] if self.intercept else torch.zeros(2 * width, dtype=torch.float64)
        centred = self.products[:-1, :-1] - torch.outer(sums, sums) / self.count
        gram, cross, rest = centred[:width, :width], centred[:width, width:], centred[width:, width:]
        penalty = self.ridge * gram.diagonal().mean()
        slopes = torch.linalg.pinv(gram + penalty * torch.eye(width, dtype=torch.float64), hermitian=True) @ cross
        intercepts = (sums[width:] - sums[:width] @ slopes) / self.count
        left = rest.trace() - 2 * (slopes * cross).sum() + (slopes * (gram @ slopes)).sum()
        return slopes, intercepts, float(left.clamp(min=0))


def replace_runs(
    dense: nn.Module,
    pruned: nn.Module,
    blocks: Sequence[Block],
    batches: Batches,
    *,
    ridge: float,
    merge: bool,
    step: Callable[[], None],
) -> dict[str, Replacement]:
    """Put linear maps in the places of removed blocks, in place; return them by the module that has each one's place.

    Args:
        dense: The network that the blocks were taken out of; left as it is.
        pruned: What is left of it, with the same weights.
        blocks: Those that were taken out, in order of execution.
        batches: The calibration images.
        ridge: The penalty α, as a share of the mean of the diagonal of Mᵀ M, of what has its mean taken off.
        merge: Make each map part of a linear layer where there is one that adds its output just before.
        step: Called after each batch of each run.

    Raises:
        PruningError: A map can neither be merged nor stand in the place of the blocks.
    """
    found = {}
    with undisturbed(dense), evaluation_mode(dense), evaluation_mode(pruned):
        probe = batches[0][0][:_PROBES]
        for run in consecutive(dense, blocks, probe):
            place, replacement = _replace_run(dense, pruned, run, batches, ridge, merge, step)
            found[place] = replacement
    return found


def consecutive(dense: nn.Module, blocks: Sequence[Block], images: Tensor) -> list[list[Block]]:
    """Return blocks in runs: of each but the first, what goes in is what came out of the one before."""
    ends = _ends(dense, blocks, images)
    runs: list[list[Block]] = []
    for block in blocks:
        before = ends[block.name][0]
        if runs and torch.equal(ends[runs[-1][-1].name][1], before):
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def count_runs(dense: nn.Module, blocks: Sequence[Block], images: Tensor) -> int:
    """Return how many maps take the place of blocks."""
    with undisturbed(dense), evaluation_mode(dense):
        return len(consecutive(dense, blocks, images))


def _replace_run(
    dense: nn.Module,
    pruned: nn.Module,
    run: Sequence[Block],
    batches: Batches,
    ridge: float,
    merge: bool,
    step: Callable[[], None],
) -> tuple[str, Replacement]:
    first, last = run[0], run[-1]
    place = first.name if first.stream is None else first.stream[0]
    residue = first.leaves[place]
    probe = batches[0][0][:_PROBES]
    dim = block_sites(dense, [first], probe, "output")[first.name].channel_dim
    before = _ends(pruned, [first], probe)[first.name][0]
    layer = _adding_layer(pruned, first, place, probe) if merge and dim == before.ndim - 1 else None
    bias = None if layer is None else layer.linear.bias
    given, channels = _rows(before, dim).double().cpu(), before.shape[dim]
    if channels > _WIDEST:
        raise PruningError(f"block {first.name} has {channels} channels; linear maps are for at most {_WIDEST}")
    fit = LeastSquares(channels, ridge=ridge, intercept=layer is None or bias is not None)
    size, change, is_rectified = 0.0, 0.0, not layer and "zero" not in residue
    for images, _ in batches:
        with ExitStack() as stack:
            added: list[Tensor] = []
            if layer is not None:
                stack.callback(layer.module.register_forward_hook(_noting(added)).remove)
            before = _ends(pruned, [first], images)[first.name][0]
        target = _ends(dense, [last], images)[last.name][1]
        inputs, missing = (_rows(each, dim) for each in (added[0] if added else before, target - before))
        fit.add(inputs, missing)
        size, change = size + float(target.double().square().sum()), change + float(missing.double().square().sum())
        is_rectified = is_rectified and bool((target >= 0).all())
        step()
    slopes, intercepts, left = fit.solve()
    if layer is not None:
        _merge(layer.linear, slopes, intercepts)
    else:
        block = LinearBlock(residue, channels, dim, is_rectified=is_rectified)
        block.linear.weight.data += slopes.T
        block.linear.bias.data += intercepts
        put_in_place(pruned, place, block)
        expected = given @ (torch.eye(channels, dtype=torch.float64) + slopes) + intercepts
        _check(pruned, run, expected.relu() if is_rectified else expected, probe, dim)
    replacement = Replacement(
        blocks=tuple(block.name for block in run),
        merged_into=None if layer is None else layer.name,
        channels=channels,
        channel_dim=dim,
        is_rectified=is_rectified,
        plain_error=(change / size) ** 0.5,
        error=(left / size) ** 0.5,
    )
    return place, replacement


@dataclass(frozen=True)
class _AddingLayer:
    """A module that returns what is added to the features, and the linear layer that it ends in, by name."""

    module: nn.Module
    linear: nn.Linear
    name: str


def _adding_layer(network: nn.Module, block: Block, place: str, images: Tensor) -> _AddingLayer | None:
    """Return the last module before a place that adds to the features there just what a linear layer of it returns."""
    before = _ends(network, [block], images)[block.name][0]
    calls = trace(network, images)
    began = next(number for number, call in enumerate(calls) if call.name == place)
    ending = [found for call in reversed(calls[:began]) if (found := _ending(network, call, before)) is not None]
    noise = torch.randn(before.shape, generator=seeded_generator("added")).to(before) * before.std()
    for layer in ending[:_CANDIDATES]:

        def disturb(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            first = tensors(output)[0]
            return tree_map_only(Tensor, lambda value: value + noise if value is first else value, output)

        handle = layer.module.register_forward_hook(disturb)
        try:
            after = _ends(network, [block], images)[block.name][0]
        finally:
            handle.remove()
        if torch.allclose(after, before + noise, rtol=1e-4, atol=1e-4 * float(before.std())):
            return layer
    return None


def _ending(network: nn.Module, call: Call, before: Tensor) -> _AddingLayer | None:
    module = call.module
    layer, name = (
        (module.out_proj, f"{call.name}.out_proj") if isinstance(module, nn.MultiheadAttention) else (module, call.name)
    )
    if not isinstance(layer, nn.Linear) or "weight" not in layer._parameters or call.count != 1:
        return None
    holders = [each for _, each in network.named_parameters(remove_duplicate=False) if each is layer.weight]
    if len(holders) != 1 or not tensors(call.output) or call.features.shape != before.shape:
        return None
    return _AddingLayer(module, layer, name)


def _merge(layer: nn.Linear, slopes: Tensor, intercepts: Tensor) -> None:
    """Let a layer return Tᵀm + c in place of m, T = I + slopes."""
    change = slopes.to(layer.weight.device)
    with torch.no_grad():
        layer.weight.add_((change.T @ layer.weight.double()).to(layer.weight))
        if layer.bias is not None:
            layer.bias.add_((layer.bias.double() @ change + intercepts.to(change)).to(layer.bias))


def put_in_place(network: nn.Module, place: str, block: LinearBlock) -> None:
    """Put a map in the place of what a removed block left, in the network's type and on its device."""
    gap = network.get_submodule(place)
    replace_modules(network, {gap: block.to(model_device(network), model_type(network))})


def _check(pruned: nn.Module, run: Sequence[Block], expected: Tensor, images: Tensor, dim: int) -> None:
    """Check that behind the run the features are those that its map makes."""
    found = _rows(_ends(pruned, run[-1:], images)[run[-1].name][1], dim).double().cpu()
    if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std())):
        raise PruningError(
            f"no linear map can stand in the place of {run[0].name}, as its block goes on computing with what the map "
            "returns; only one that becomes part of a layer before it could, and there is none"
        )


def _ends(network: nn.Module, blocks: Sequence[Block], images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return what goes into blocks and what comes out of them."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def see(name: str, given: Tensor, returned: Tensor) -> None:
        found[name] = given.clone(), returned.clone()

    with watching(network, blocks, see):
        network(images)
    return found


def _noting(found: list[Tensor]) -> Callable[..., None]:
    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found[:] = [tensors(output)[0].clone()]

    return note


def _rows(features: Tensor, dim: int) -> Tensor:
    """Return features as (positions of all images, channels)."""
    return features.movedim(dim, -1).flatten(0, -2)
