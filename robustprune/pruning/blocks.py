"""Which parts of a network are residual blocks that can go, found by what they do.

A block can go where silencing its transformation leaves the identity: with all its parameters at zero, the
module returns what it was given (through its final activation, where it has one). That is tested on the real
module with inputs of the shape it receives in a forward pass, so no list of class names is kept, and it holds for
post- and pre-activation ResNets, ConvNeXt, MobileNetV2, EfficientNet and transformer encoders alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import PruningError
from robustprune.inference import copy_network, to_evaluation
from robustprune.models import architecture_of
from robustprune.pruning.surgery import Residue
from robustprune.randomness import isolated_generators, seeded_generator


@dataclass(frozen=True)
class Block:
    """A residual block of a network.

    Attributes:
        name: The module's name in the network, as in ``model.get_submodule(name)``.
        depth: Place among all blocks in order of execution, from 0.
        stage: Which run of like blocks with equal output shape it belongs to, from 0.
        position: Place within the stage, from 0.
        stage_size: How many blocks the stage has.
        parameters: Number of parameters.
        residue: What remains when the block goes: "identity", or "relu" where its final activation matters;
            None where the block changes the shape, or something else than its input would remain.
    """

    name: str
    depth: int
    stage: int
    position: int
    stage_size: int
    parameters: int
    residue: Residue | None


@dataclass
class _Call:
    """What went through a module in one forward pass."""

    name: str
    module: nn.Module
    order: int
    inputs: tuple[Any, ...] = ()
    keywords: dict[str, Any] = field(default_factory=dict)
    output: Any = None
    count: int = 0


def find_blocks(model: nn.Module, example: Tensor | None = None) -> tuple[Block, ...]:
    """Return the residual blocks of a network in order of execution, those that can go and their siblings.

    Stages are runs of sibling modules of one type with equal output shape. A stage without any removable
    block is not listed. The model is left as it was.

    Args:
        model: Any network; one from :func:`robustprune.build_model` knows its own image shape.
        example: Images (N, C, H, W) to send through a network that does not.

    Raises:
        PruningError: No block of the network can go (a plain chain such as VGG), or it cannot be run.
    """
    probe = to_evaluation(copy_network(model).cpu())
    with torch.no_grad(), isolated_generators():
        calls = _trace(probe, probe_images(probe, example))
        residues = {call.name: residue for call in calls if (residue := _residue(call)) is not None}
    removable = _finest(probe, residues)
    if not removable:
        raise PruningError(
            f"no block of this {_describe(model)} can be removed: a block can go only where a shortcut carries "
            "its input around it, and with every module silenced in turn none passes its input through. "
            "Plain chains such as VGG have no such shortcut; choose a residual network."
        )
    return _number(_stages(calls, removable), removable)


def probe_images(network: nn.Module, example: Tensor | None = None) -> Tensor:
    """Return images to run a network on, in its type and on its device: noise, unless there is an example.

    Raises:
        ModelError: Neither the network nor an example says what images it takes.
    """
    if example is None:
        architecture = architecture_of(network)
        shape = (2, architecture.channels, *architecture.image_size)
        example = torch.rand(shape, generator=seeded_generator("block probe"))
    return example.to(next(network.parameters(), example)).clone()


def _trace(probe: nn.Module, example: Tensor) -> list[_Call]:
    """Run the probe once; return the call of every submodule, in order of first execution."""
    calls: dict[str, _Call] = {}
    handles = []
    for name, module in probe.named_modules():
        if not name:
            continue
        call = _Call(name, module, 0)

        def before(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], call: _Call = call) -> None:
            if not call.count:
                calls[call.name] = call
                call.order = len(calls)
                # Cloned, since a later in-place activation would change what was caught.
                call.inputs = tuple(_detached(value) for value in inputs)
                call.keywords = dict(keywords)
            call.count += 1

        def after(
            _module: nn.Module,
            _inputs: tuple[Any, ...],
            _keywords: dict[str, Any],
            output: Any,
            call: _Call = call,
        ) -> None:
            call.output = output

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        probe(example)
    except Exception as error:
        raise PruningError(f"the network does not run on images of shape {tuple(example.shape)}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    return sorted(calls.values(), key=lambda call: call.order)


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _finest(probe: nn.Module, residues: dict[str, Residue]) -> dict[str, Residue]:
    """Return, of modules within each other that all leave the identity, those to call blocks.

    The finest wins, since a whole stage of identity blocks passes the same test as each of them; but where the
    finer ones hold less than half of the weights, as FastViT's token mixer does of its block, they are a detail
    of the block and the rest of it could never go.
    """
    sizes = {name: sum(w.numel() for _, w in weight_layers(probe.get_submodule(name))) for name in residues}
    chosen: list[str] = []
    for name in sorted(residues, key=lambda name: name.count("."), reverse=True):
        inner = [other for other in chosen if other.startswith(f"{name}.")]
        if 2 * sum(sizes[other] for other in inner) < sizes[name]:
            chosen = [other for other in chosen if other not in inner] + [name]
    return {name: residue for name, residue in residues.items() if name in chosen}


def weight_layers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the names (relative to the module) and weights of its convolutions and linear layers.

    Normalization, biases and layer scales are not among them; the packed projection of attention is.
    """
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            yield f"{prefix}weight", layer.weight
        elif isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None:
            yield f"{prefix}in_proj_weight", layer.in_proj_weight


def _residue(call: _Call) -> Residue | None:
    """Return what the module does once its parameters are zero, if that is (almost) nothing."""
    features = call.inputs[0] if call.inputs else None
    if (
        call.count != 1
        or not isinstance(features, Tensor)
        or not isinstance(call.output, Tensor)
        or features.shape != call.output.shape
        or not features.is_floating_point()
        # Without a weight layer there is no transformation: a PReLU or a gate is no block.
        or next(weight_layers(call.module), None) is None
    ):
        return None
    # Noise of unit size, since a network's own activations can be too small to tell identity from nothing.
    probe = torch.randn(features.shape, generator=seeded_generator("silenced block"), dtype=features.dtype)
    with _silenced(call.module):
        output = call.module(probe.clone(), *call.inputs[1:], **call.keywords)
    # No absolute tolerance: a few leaky ReLUs in a row leave so little of a negative number that it looks like none.
    if torch.allclose(output, probe, rtol=1e-5, atol=0):
        return "identity"
    if torch.allclose(output, probe.relu(), rtol=1e-5, atol=0):
        # What comes from an activation passes through another one unchanged.
        return "identity" if bool((features >= 0).all()) else "relu"
    return None


@contextmanager
def _silenced(module: nn.Module) -> Iterator[None]:
    saved = [(parameter, parameter.detach().clone()) for parameter in module.parameters()]
    try:
        for parameter, _ in saved:
            parameter.zero_()
        yield
    finally:
        for parameter, value in saved:
            parameter.copy_(value)


def _stages(calls: list[_Call], removable: dict[str, Residue]) -> list[list[_Call]]:
    """Group removable blocks and their like siblings into runs of equal output shape."""
    families: dict[str, list[_Call]] = {}
    for call in calls:
        # Parameterless siblings (activations, blocks removed earlier) do not interrupt a stage.
        if isinstance(call.output, Tensor) and next(call.module.parameters(), None) is not None:
            families.setdefault(call.name.rpartition(".")[0], []).append(call)
    stages: list[list[_Call]] = []
    for siblings in families.values():
        run: list[_Call] = []
        for call in siblings:
            if run and not _alike(run[-1], call):
                stages.append(run)
                run = []
            run.append(call)
        stages.append(run)
    stages = [stage for stage in stages if any(call.name in removable for call in stage)]
    return sorted(stages, key=lambda stage: stage[0].order)


def _alike(first: _Call, second: _Call) -> bool:
    return type(first.module) is type(second.module) and first.output.shape == second.output.shape


def _number(stages: list[list[_Call]], removable: dict[str, Residue]) -> tuple[Block, ...]:
    members = [(stage, position, call) for stage, run in enumerate(stages) for position, call in enumerate(run)]
    return tuple(
        Block(
            name=call.name,
            depth=depth,
            stage=stage,
            position=position,
            stage_size=len(stages[stage]),
            parameters=sum(parameter.numel() for parameter in call.module.parameters()),
            residue=removable.get(call.name),
        )
        for depth, (stage, position, call) in enumerate(members)
    )


def _describe(model: nn.Module) -> str:
    return str(getattr(getattr(model, "architecture", None), "name", type(model).__name__))
