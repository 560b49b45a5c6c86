"""Which parts of a network are residual blocks that can go, found by what they do.

A block can go where silencing its transformation leaves the identity: with all its weights at zero, the
module returns what it was given (through its final activation, where it has one), or nothing, where its parent adds
what it was given. That is tested on the real module with inputs of the shape it receives in a forward pass, so no list
of class names is kept, and it holds for post- and pre-activation ResNets, ConvNeXt, MobileNetV2, EfficientNet and
transformer encoders alike. Then the network is run without the blocks: one that it cannot do without stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode

from robustprune.errors import PruningError
from robustprune.models import copy_network, known_architecture, network_name, to_evaluation
from robustprune.pruning.branches import branches_within
from robustprune.pruning.calls import Call, address, probe_images, run_registered, tensors, trace, undisturbed
from robustprune.pruning.residue import LAYERS, RemovedBlock, Residue, is_summed, residue_of
from robustprune.pruning.surgery import remove_blocks
from robustprune.runtime.arrays import Array
from robustprune.runtime.html import html_table

Unit = Literal["block", "attention", "mlp"]
"""What goes as one: whole blocks, or the attention or MLP branches of a transformer's."""

BRANCH_NAMES = {"attention": "attention branch", "mlp": "MLP branch"}
"""Units that are branches, in words."""

_COMPILED = "_orig_mod"  # what torch.compile calls the module that it wraps
_NO_BLOCK = (
    "a block can go only where a shortcut carries its input around it: where a module returns its input plus a branch "
    "of torch's convolutions, linear layers or attention, through a ReLU at most, or its parent adds the two. Plain "
    "chains such as VGG have no shortcut, and what concatenates or multiplies features has none that is enough. What "
    "hides a block: a layer or factor on the shortcut, another last activation, a second tensor that it returns, a "
    "module that runs more than once, TorchScript, or code that is no module of its own"
)


@dataclass(frozen=True)
class Block:
    """A residual block of a network, or an attention or MLP branch of one.

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
        unit: ``block``; or ``attention`` or ``mlp``, a branch, whose stage is that of the blocks that have such ones.
        parts: Other modules that go with a branch, such as its normalization, and what remains of each.
        stream: Of a branch that its block adds: the module that is given the features before it, and the one that is
            given them after it, or the block where it returns them. None where the module itself is looked at.
    """

    name: str
    depth: int
    stage: int
    position: int
    stage_size: int
    parameters: int
    residue: Residue | None
    obstacle: str | None = None
    unit: Unit = "block"
    parts: tuple[tuple[str, Residue], ...] = ()
    stream: tuple[str, str] | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of all modules that go with it, its own first."""
        return (self.name, *(name for name, _ in self.parts))

    @property
    def is_returned(self) -> bool:
        """Whether the features after a branch are what the block around it returns, and not what a module is given."""
        return self.stream is not None and self.name.startswith(f"{self.stream[1]}.")

    @property
    def leaves(self) -> dict[str, Residue]:
        """Module → what remains of it when the block goes; of a block that can go."""
        assert self.residue is not None, "only blocks that can go leave something"
        return {self.name: self.residue, **dict(self.parts)}


class Blocks(tuple[Block, ...]):
    """The blocks of a network in order of execution; a notebook shows them as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        rows = [[each.name, each.stage, f"{each.parameters:,}", _fate(each)] for each in self]
        return html_table("Blocks in order of execution", ["block", ">stage", ">parameters", "can go"], rows)


def _fate(block: Block) -> str:
    if block.residue is not None:
        return f"yes, leaving {block.residue}"
    return f"no: {block.obstacle}" if block.obstacle else "no"


def check_unit(unit: str) -> Unit:
    """Return the unit if there is one of that name."""
    if unit not in get_args(Unit):
        raise PruningError(f"there is no unit {unit!r} of removal; choose one of {', '.join(get_args(Unit))}")
    return unit  # type: ignore[return-value]


def find_blocks(model: nn.Module, example: Array | None = None, *, unit: Unit = "block") -> Blocks:
    """Return the residual blocks of a network in order of execution, those that can go and their siblings.

    Stages are runs of sibling modules of one type with equal output shape. A stage without any residual
    block is not listed. The model is left as it was.

    Args:
        model: Any network; one from :func:`robustprune.build_model` knows its own image shape.
        example: Images (N, C, H, W) to send through a network that does not.
        unit: ``block``; or ``attention`` or ``mlp``, the branches of that kind within a transformer's blocks.

    Raises:
        PruningError: The network has no residual block (a plain chain such as VGG), or hides them, or cannot be run; or
            its blocks have no such branch.
    """
    unit = check_unit(unit)
    with undisturbed(model):
        probe = to_evaluation(copy_network(model).cpu())
        images = probe_images(probe, example)
        with _Sums() as sums:
            calls = [call for call in trace(probe, images.clone()) if call.number == 1]
        # Without a weight layer there is no transformation: a PReLU or a gate is no block.
        left = {part for module in probe.modules() if isinstance(module, RemovedBlock) for part in module.modules()}
        calls = [call for call in calls if call.module not in left]  # what stands in place of a block is none
        layered = [call for call in calls if next(weight_layers(call.module), None) is not None]
        residues = {call.name: residue for call in layered if (residue := residue_of(call)) is not None}
        blocks = _finest(probe, {name: residue for name, residue in residues.items() if "zero" not in residue})
        for call in layered:
            residue = residues.get(call.name, "")
            added = "zero" in residue and not sums.parts.isdisjoint(map(address, call.given))
            within = any(f"{call.name}.".startswith(f"{name}.") or name.startswith(f"{call.name}.") for name in blocks)
            if added and not within:
                parent = _caller(call, calls) or Call("", probe, {0: images}, [images])
                if is_summed(parent.module, parent.arguments, call, residue):
                    blocks[call.name] = residue
        if not blocks:
            run_registered(probe, images)  # blocks that are not registered are not seen
            known = known_architecture(model)
            name = network_name(model) if known is None else known.called
            raise PruningError(f"no block of this {name} can be removed: {_NO_BLOCK}")
        whole = {name: {name: residue} for name, residue in blocks.items()}
        obstacles = _obstacles(probe, whole, images) if unit == "block" else {}
        found = _listed(probe, calls, blocks, obstacles)
        return found if unit == "block" else _branches_of(probe, calls, found, unit, images)


def _listed(
    probe: nn.Module, calls: Sequence[Call], blocks: Mapping[str, Residue], obstacles: Mapping[str, str]
) -> Blocks:
    stages = _stages(calls, blocks)
    members = [(stage, position, call) for stage, run in enumerate(stages) for position, call in enumerate(run)]
    return Blocks(
        Block(
            name=call.name,
            depth=depth,
            stage=stage,
            position=position,
            stage_size=len(stages[stage]),
            parameters=_own_parameters(probe, [call.module]),
            residue=None if call.name in obstacles else blocks.get(call.name),
            obstacle=obstacles.get(call.name),
        )
        for depth, (stage, position, call) in enumerate(members)
    )


def removable_blocks(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the blocks that can go, whatever the eligibility."""
    removable = tuple(block for block in blocks if block.residue is not None)
    if not removable:
        stuck = next(block for block in blocks if block.obstacle is not None)
        raise PruningError(
            f"no block of this network can be removed: block {stuck.name} has to stay, as {stuck.obstacle}"
        )
    return removable


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


class _Sums(TorchFunctionMode):
    """Notes where in memory lies what is added to other features, or put beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: set[int] = set()

    def __torch_function__(self, function: Any, types: Any, values: Any = (), keywords: Any = None) -> Any:
        name = getattr(function, "__name__", "")
        if name.startswith("add") or name in ("sub", "sub_", "lerp", "cat", "concat", "stack"):
            self.parts.update(address(part) for part in tensors(list(values)) if part.dim() > 1)
        return function(*values, **(keywords or {}))


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


def _caller(call: Call, calls: Sequence[Call]) -> Call | None:
    """Return the call of the module that calls another one, as far as names tell; None for the network itself."""
    around = [other for other in calls if call.name.startswith(f"{other.name}.") and other.count == 1]
    return next((other for other in reversed(around) if not isinstance(other.module, nn.Sequential)), None)


def _branches_of(probe: nn.Module, calls: Sequence[Call], blocks: Blocks, unit: Unit, images: Tensor) -> Blocks:
    """Return the branches of one kind within blocks, by the stages of these."""
    by_name = {block.name: block for block in blocks}
    entered = [(call, by_name[call.name].residue) for call in calls if call.name in by_name]
    chosen = [(by_name[name], branch) for name, branch in branches_within(entered, attention=unit == "attention")]
    if not chosen:
        raise PruningError(
            f"the blocks of this network have no {BRANCH_NAMES[unit]} that could go on its own: a block has to add to "
            "the features that pass by what its attention returns, and then what its MLP does, by modules of its own, "
            "as a transformer's does; remove whole blocks (unit block)"
        )
    obstacles = _obstacles(probe, {branch.main: branch.removed for _, branch in chosen}, images)
    sizes = Counter(block.stage for block, _ in chosen)
    order, seen = {stage: place for place, stage in enumerate(dict.fromkeys(sizes))}, Counter[int]()
    listed = []
    for depth, (block, branch) in enumerate(chosen):
        parts = {name: residue for name, residue in branch.removed.items() if name != branch.main}
        listed.append(
            Block(
                name=branch.main,
                depth=depth,
                stage=order[block.stage],
                position=seen[block.stage],
                stage_size=sizes[block.stage],
                parameters=_own_parameters(probe, [probe.get_submodule(name) for name in branch.removed]),
                residue=None if branch.main in obstacles else branch.removed[branch.main],
                obstacle=obstacles.get(branch.main),
                unit=unit,
                parts=tuple(parts.items()),
                stream=branch.stream,
            )
        )
        seen[block.stage] += 1
    return Blocks(listed)


def _obstacles(probe: nn.Module, blocks: Mapping[str, Mapping[str, Residue]], images: Tensor) -> dict[str, str]:
    """Return why blocks cannot go although they leave their input, by trial: all together, else one by one."""
    try:
        remove_blocks(
            probe, {name: left for leaves in blocks.values() for name, left in leaves.items()}, example=images
        )
        return {}
    except PruningError:
        found = {}
    for name, leaves in blocks.items():
        try:
            remove_blocks(probe, leaves, example=images)
        except PruningError as error:
            found[name] = f"without it {error.__cause__ or error}"
    return found


def _stages(calls: Sequence[Call], found: Mapping[str, Residue]) -> list[list[Call]]:
    """Group blocks and their like siblings into runs of equal output shape."""
    kinds = {_kind(call.module) for call in calls if call.name in found}
    families: dict[str, list[Call]] = {}
    for call in calls:
        # Parameterless siblings (activations, blocks removed earlier) do not interrupt a stage.
        relevant = isinstance(call.output, Tensor) or _kind(call.module) in kinds
        if relevant and next(call.module.parameters(), None) is not None:
            families.setdefault(call.name.rpartition(".")[0], []).append(call)

    def alike(call: Call) -> tuple[type[nn.Module], list[torch.Size]]:
        return _kind(call.module), [tensor.shape for tensor in tensors(call.output)]

    runs = [list(run) for siblings in families.values() for _, run in groupby(siblings, key=alike)]
    stages = [run for run in runs if any(call.name in found for call in run)]
    return sorted(stages, key=lambda stage: calls.index(stage[0]))


def _kind(module: nn.Module) -> type[nn.Module]:
    # A module with parametrized tensors of its own has a class of its own.
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def _own_parameters(network: nn.Module, modules: Sequence[nn.Module]) -> int:
    """Return how many parameters go with modules: those that nothing outside of them holds, too."""
    held, waiting, seen = set[int](), [network], set(modules)
    while waiting:
        part = waiting.pop()
        if part not in seen:
            seen.add(part)
            held.update(map(id, part.parameters(recurse=False)))
            waiting += part.children()
    own = {id(parameter): parameter for module in modules for parameter in module.parameters()}
    return sum(parameter.numel() for key, parameter in own.items() if key not in held)
