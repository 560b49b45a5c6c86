"""Which parts of a network are residual blocks that can go, found by what they do.

A block can go where silencing its transformation leaves the identity: with all its weights at zero, the
module returns what it was given (through its final activation, where it has one), or nothing, where its parent adds
what it was given. That is tested on the real module with inputs of the shape it receives in a forward pass, so no list
of class names is kept, and it holds for post- and pre-activation ResNets, ConvNeXt, MobileNetV2, EfficientNet and
transformer encoders alike. Then the network is run without the blocks: one that it cannot do without stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from robustprune.errors import PruningError
from robustprune.models import copy_network, to_evaluation
from robustprune.pruning.calls import Call, Joints, probe_images, tensors, trace, undisturbed
from robustprune.pruning.hidden import why_none
from robustprune.pruning.residue import Residue
from robustprune.pruning.silence import LAYERS, residue_of
from robustprune.pruning.sums import is_summed
from robustprune.pruning.surgery import remove_blocks
from robustprune.runtime.arrays import Array

_COMPILED = "_orig_mod"  # what torch.compile calls the module that it wraps


@dataclass(frozen=True)
class Block:
    """A residual block of a network.

    Attributes:
        name: The module's name in the network, as in ``model.get_submodule(name)``.
        depth: Place among all blocks in order of execution, from 0.
        stage: Which run of like blocks with equal output shape it belongs to, from 0.
        position: Place within the stage, from 0.
        stage_size: How many blocks the stage has.
        parameters: Number of parameters that it shares with nothing outside of it.
        residue: What remains when the block goes: "identity", or "relu" where its final activation matters, or "zero"
            where its parent adds its input, see :data:`Residue`; None where it cannot go.
        obstacle: Why a block that leaves its input cannot go all the same; None otherwise.
    """

    name: str
    depth: int
    stage: int
    position: int
    stage_size: int
    parameters: int
    residue: Residue | None
    obstacle: str | None = None


def find_blocks(model: nn.Module, example: Array | None = None) -> tuple[Block, ...]:
    """Return the residual blocks of a network in order of execution, those that can go and their siblings.

    Stages are runs of sibling modules of one type with equal output shape. A stage without any residual
    block is not listed. The model is left as it was.

    Args:
        model: Any network; one from :func:`robustprune.build_model` knows its own image shape.
        example: Images (N, C, H, W) to send through a network that does not.

    Raises:
        PruningError: The network has no residual block (a plain chain such as VGG), or hides them, or cannot be run.
    """
    with undisturbed(model):
        probe = to_evaluation(copy_network(model).cpu())
        images = probe_images(probe, example)
        with Joints() as joints:
            calls = trace(probe, images.clone())
        residues = {call.name: residue for call in calls if (residue := _residue(call)) is not None}
        whole = {name: residue for name, residue in residues.items() if "zero" not in residue}
        blocks = _finest(probe, whole)
        for call in calls:
            residue = residues.get(call.name, "")
            added = "zero" in residue and not call.memory.isdisjoint(joints.joined)
            if added and not _overlaps(call.name, blocks):
                parent = _caller(call, calls) or Call("", probe, arguments={0: images})
                if is_summed(parent.module, parent.arguments, call, residue):
                    blocks[call.name] = residue
        if not blocks:
            raise PruningError(
                f"no block of this {_describe(model)} can be removed: {why_none(probe, images, calls, joints)}"
            )
        obstacles = _obstacles(probe, blocks, images)
    return _number(_stages(calls, blocks), blocks, obstacles, probe)


def _caller(call: Call, calls: Sequence[Call]) -> Call | None:
    """Return the call of the module that calls another one, as far as names tell; None for the network itself."""
    around = [other for other in calls if call.name.startswith(f"{other.name}.") and other.count == 1]
    return next((other for other in reversed(around) if not isinstance(other.module, nn.Sequential)), None)


def _overlaps(name: str, blocks: Mapping[str, Residue]) -> bool:
    """Return whether a module is within a block, or has one in it."""
    return any(f"{name}.".startswith(f"{block}.") or block.startswith(f"{name}.") for block in blocks)


def _obstacles(probe: nn.Module, blocks: Mapping[str, Residue], images: Tensor) -> dict[str, str]:
    """Return why blocks cannot go although they leave their input, by trial: all together, else one by one."""
    try:
        remove_blocks(probe, blocks, example=images)
        return {}
    except PruningError:
        found = {}
    for name, residue in blocks.items():
        try:
            remove_blocks(probe, {name: residue}, example=images)
        except PruningError as error:
            found[name] = f"without it {error.__cause__ or error}"
    return found


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
        if inner == [f"{name}.{_COMPILED}"] or 2 * sum(sizes[other] for other in inner) < sizes[name]:
            chosen = [other for other in chosen if other not in inner] + [name]
    return {name: residue for name, residue in residues.items() if name in chosen}


def weight_layers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the names (relative to the module) and weights of its convolutions and linear layers.

    Normalization, biases and layer scales are not among them; the packed projection of attention is.
    """
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, LAYERS):
            yield f"{prefix}weight", layer.weight
        elif isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None:
            yield f"{prefix}in_proj_weight", layer.in_proj_weight


def _residue(call: Call) -> Residue | None:
    # Without a weight layer there is no transformation: a PReLU or a gate is no block.
    return residue_of(call) if next(weight_layers(call.module), None) is not None else None


def _stages(calls: list[Call], found: Mapping[str, Residue]) -> list[list[Call]]:
    """Group blocks and their like siblings into runs of equal output shape."""
    kinds = {_kind(call.module) for call in calls if call.name in found}
    families: dict[str, list[Call]] = {}
    for call in calls:
        # Parameterless siblings (activations, blocks removed earlier) do not interrupt a stage.
        relevant = isinstance(call.output, Tensor) or _kind(call.module) in kinds
        if relevant and next(call.module.parameters(), None) is not None:
            families.setdefault(call.name.rpartition(".")[0], []).append(call)
    stages: list[list[Call]] = []
    for siblings in families.values():
        run: list[Call] = []
        for call in siblings:
            if run and not _alike(run[-1], call):
                stages.append(run)
                run = []
            run.append(call)
        stages.append(run)
    stages = [stage for stage in stages if any(call.name in found for call in stage)]
    return sorted(stages, key=lambda stage: stage[0].order)


def _alike(first: Call, second: Call) -> bool:
    shapes = [[tensor.shape for tensor in tensors(call.output)] for call in (first, second)]
    return _kind(first.module) is _kind(second.module) and shapes[0] == shapes[1]


def _kind(module: nn.Module) -> type[nn.Module]:
    # A module with parametrized tensors of its own has a class of its own.
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def _number(
    stages: list[list[Call]], found: Mapping[str, Residue], obstacles: Mapping[str, str], probe: nn.Module
) -> tuple[Block, ...]:
    members = [(stage, position, call) for stage, run in enumerate(stages) for position, call in enumerate(run)]
    return tuple(
        Block(
            name=call.name,
            depth=depth,
            stage=stage,
            position=position,
            stage_size=len(stages[stage]),
            parameters=_own_parameters(probe, call.module),
            residue=None if call.name in obstacles else found.get(call.name),
            obstacle=obstacles.get(call.name),
        )
        for depth, (stage, position, call) in enumerate(members)
    )


def _own_parameters(network: nn.Module, block: nn.Module) -> int:
    """Return how many parameters go with a block: those that nothing outside of it holds, too."""
    held, waiting, seen = set[int](), [network], {block}
    while waiting:
        part = waiting.pop()
        if part not in seen:
            seen.add(part)
            held.update(map(id, part.parameters(recurse=False)))
            waiting += part.children()
    return sum(parameter.numel() for parameter in block.parameters() if id(parameter) not in held)


def _describe(model: nn.Module) -> str:
    return str(getattr(getattr(model, "architecture", None), "name", type(model).__name__))
