"""A ticket: a subnetwork with everything that says what it is and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from robustprune.data import AnyData, ImageData, as_data, with_shape
from robustprune.errors import DamagedFileError, PruningError, RobustPruneError, TicketError, in_one_line
from robustprune.models import (
    Architecture,
    architecture_of,
    build_network,
    copy_network,
    for_images,
    to_evaluation,
)
from robustprune.models.networks import set_weights
from robustprune.pruning import (
    Block,
    Masks,
    apply_masks,
    check_masks,
    count_kept,
    find_blocks,
    remove_blocks,
    remove_filters,
)
from robustprune.pruning.linear_maps import LinearBlock, put_in_place
from robustprune.runtime.environment import describe_environment, hash_weights
from robustprune.runtime.file_kinds import TICKET
from robustprune.runtime.files import read_sealed, write_sealed
from robustprune.tickets.brought_module import bring_module, is_cut, with_code
from robustprune.tickets.header import Plan, TicketHeader

FORMAT = "robustprune-ticket"


@dataclass
class Ticket:
    """A network, dense or pruned, that can be trained, evaluated, saved and loaded.

    Attributes:
        network: The module itself, from [0, 1] images to logits.
        architecture: How the dense network is built.
        plan: What was removed.
        masks: Parameter name → which of its weights are kept, bool; empty unless single weights were pruned. The
            weights outside are zero and stay so through training.
        scores: Block name → importance, or convolution → importance of each of its filters, as they were when the
            plan was made.
        seed: The seed of the initial weights.
        data: Arguments of :func:`robustprune.load_data` that give its image set again.
        history: One entry per trained epoch.
        training: Recipe, seed, time, energy and CO₂ of the training; empty before it.
        earlier_training: The same of trainings before it, such as those of the network it was cut out of; empty
            for a ticket cut out at initialization.
        provenance: When, where and by what versions it was made.
        path: Where it was loaded from; None if it was made in this process. Not saved.
        dense_blocks: The blocks of the dense network where they are known, as that of a module of the user's cannot be
            built again; empty where nobody looked. Not saved.
    """

    network: nn.Module
    architecture: Architecture
    plan: Plan = field(default_factory=Plan)
    masks: Masks = field(default_factory=dict)
    scores: dict[str, float | list[float]] = field(default_factory=dict)
    seed: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    earlier_training: list[dict[str, Any]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    dense_blocks: tuple[Block, ...] = ()

    @classmethod
    def from_model(
        cls, model: nn.Module, data: AnyData | Architecture | None = None, *, seed: int | None = None
    ) -> Ticket:
        """Return a dense ticket of a network.

        Args:
            model: From :func:`robustprune.build_model`, which is then the ticket's own; or any module from images
                (N, C, H, W) in [0, 1] to logits (N, classes), which is left as it is: the ticket holds a copy.
            data: The image set to remember, which says what images a module takes; so do training images as for
                :func:`robustprune.as_data`, and an architecture.
            seed: Of its initial weights; by default what :func:`robustprune.build_model` was given, else 0. Comparisons
                tell the networks of several seeds apart by it.

        Raises:
            ModelError: What images the module takes is not known, or it does not run on them, or has not a logit for
                each class.
        """
        data = None if data is None else with_shape(data)
        network = model if data is None else for_images(model, data)
        known = getattr(network, "initial_seed", 0) if seed is None else seed
        return cls(
            network,
            architecture_of(network),
            seed=known if isinstance(known, int) else 0,
            data=dict(data.spec) if isinstance(data, ImageData) else {},
            provenance=describe_environment(),
        )

    def model(self) -> nn.Module:
        """Return the network in evaluation mode; it is the ticket's own, not a copy."""
        return to_evaluation(self.network)

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights and buffers: names, types, shapes and values."""
        return hash_weights(self.network)

    @property
    def mask_summary(self) -> dict[str, int] | None:
        """How many convolution and linear weights there are and how many of them masks keep; None without masks."""
        if not self.masks:
            return None
        return {"weights": sum(mask.numel() for mask in self.masks.values()), "kept": count_kept(self.masks)}

    def check_masks(self) -> None:
        """Check that the masks fit the network and that the weights outside of them are zero.

        Raises:
            TicketError: They do not, as after weights were set by hand.
        """
        try:
            if self.masks:
                check_masks(self.network, self.masks)
        except PruningError as error:
            raise TicketError(f"the masks of {self.path or 'this ticket'} do not fit its network: {error}") from error

    def check_fits(self, data: AnyData) -> None:
        """Check that an image set has the shape and classes that the network was built for.

        It may also be training images as for :func:`robustprune.as_data`.

        Raises:
            TicketError: It has not.
            DataError: It is no image set.
        """
        data = as_data(data, "train")
        built = self.architecture
        wanted = _shape(built.channels, built.image_size, built.num_classes)
        found = _shape(data.channels, data.image_size, data.num_classes)
        if wanted != found:
            raise TicketError(
                f"{data.name} does not fit this {built.called}: the network takes {wanted}, the data set has "
                f"{found}; choose the data set it was made for, or convert this one with --image-size and --channels"
            )

    def save(self, path: str | Path) -> None:
        """Write the ticket to one file, atomically; a ticket that is there is replaced.

        Raises:
            TicketError: The file cannot be written or is no ticket, or weights outside the masks are not zero.
        """
        self.check_masks()
        shared = {name: getattr(self, name) for name in _SHARED_FIELDS}
        header = TicketHeader(architecture=self.architecture, **shared)
        state = self.network.state_dict()
        if strange := [name for name, value in state.items() if not isinstance(value, Tensor)]:
            raise TicketError(
                f"{self.architecture.called} has {strange[0]} in its state_dict, which is no tensor; a ticket holds "
                "tensors alone: keep it in a buffer, or leave it out of the state"
            )
        weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        content = {"format": FORMAT, "header": header.model_dump(mode="json"), "weights": weights, "masks": self.masks}
        try:
            write_sealed(Path(path), content, TICKET)
        except OSError as error:
            raise TicketError(f"the ticket cannot be written to {path}: {error.strerror}") from error


def apply_plan(
    network: nn.Module, plan: Plan, masks: Mapping[str, Tensor] | None = None, *, blocks: Sequence[Block] = ()
) -> nn.Module:
    """Return what a plan leaves of a dense network, which stays as it is; masks make weights outside of them zero.

    What is kept keeps its names, weights and buffers. ``blocks`` are those of the dense network, where they are known.

    Raises:
        TicketError: The plan removes something that is no block, such as the last layer, or filters that are not
            there or cannot go.
    """
    if plan.removed or plan.removed_filters:
        if not blocks or not plan.removed.keys() <= {block.name for block in blocks}:
            blocks = planned_blocks(network, plan)
        known = {block.name: block for block in blocks}
        strange = [name for name in plan.removed if name not in known]
        parts = {name for block in plan.removed if block in known for name, _ in known[block].parts}
        if strange := strange or sorted({*plan.removed_parts} - parts) or sorted(plan.maps.keys() - plan.gone.keys()):
            raise TicketError(f"its plan removes {strange[0]!r}, which is no residual block of the network")
        whole = tuple(block for block in blocks if block.unit == "block")
        try:
            network = remove_blocks(network, plan.gone)
            for place, each in plan.maps.items():
                put_in_place(network, place, LinearBlock.of(plan.gone[place], each))
            network = remove_filters(network, plan.removed_filters, blocks=whole)
        except PruningError as error:
            raise TicketError(f"its plan cannot be carried out: {error}") from error
    if masks:
        network = copy_network(network)
        apply_masks(network, masks)
    return network


def planned_blocks(network: nn.Module, plan: Plan) -> tuple[Block, ...]:
    """Return the blocks of a dense network that a plan may name, or branches of blocks where it removes such."""
    units = plan.units if "block" in plan.units or not plan.removed_filters else [*plan.units, "block"]
    return tuple(block for unit in units for block in find_blocks(network, unit=unit))


def load_ticket(path: str | Path, *, into: nn.Module | None = None, model_code: str | Path | None = None) -> Ticket:
    """Read a ticket; nothing in the file is executed.

    Args:
        path: A file written by :meth:`Ticket.save`.
        into: For a ticket of a module of one's own, which holds no code: such a module, built as the one that it was
            made of. It is left as it is; the ticket gets a copy, without what its plan removes, with its weights.
        model_code: The Python file of a ``file:`` network, or of a module of one's own in place of ``into``, as
            ``FILE.py`` or ``FILE.py:NAME``; a ticket never runs it by itself.

    Raises:
        TicketError: The file is missing, damaged, no ticket, or does not fit the network it names, or the one that is
            handed over; or there has to be such a one.
    """
    given, path = str(path), Path(path)
    try:
        content = read_sealed(path, FORMAT)
        header = TicketHeader.model_validate(content.get("header"))
    except DamagedFileError as error:
        raise TicketError(f"no ticket can be read: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(["header", *map(str, problem["loc"])])
        raise TicketError(
            f"{path} is a ticket of another version of robustprune, or was put together by hand: "
            f"{where}: {problem['msg']}"
        ) from error
    architecture = with_code(header.architecture, path, model_code)
    module = bring_module(header, content.get("weights"), path, into, model_code)
    blocks: tuple[Block, ...] = ()
    try:
        network = build_network(architecture) if module is None else module
        if module is None or not is_cut(module, content["weights"], header):
            is_whole = not (header.plan.removed or header.plan.removed_filters)
            blocks = () if is_whole else planned_blocks(network, header.plan)
            network = apply_plan(network, header.plan, blocks=blocks)
        set_weights(network, content["weights"])
    except RobustPruneError as error:
        raise TicketError(f"the network of {path} cannot be built: {error}") from error
    except Exception as error:
        detail = in_one_line(error)
        raise TicketError(f"the weights in {path} do not fit {architecture.called}: {detail}") from error
    ticket = Ticket(
        network=to_evaluation(network),
        architecture=architecture,
        masks=_masks_in(content, header.plan, path),
        path=given,
        dense_blocks=blocks,
        **{name: getattr(header, name) for name in _SHARED_FIELDS},
    )
    ticket.check_masks()
    return ticket


_SHARED_FIELDS = ("plan", "scores", "seed", "data", "history", "training", "earlier_training", "provenance")


def _masks_in(content: dict[str, Any], plan: Plan, path: Path) -> Masks:
    masks = content.get("masks", {})
    masked = any(each.method == "weight" for each in (plan, *plan.earlier))
    if not isinstance(masks, dict) or bool(masks) != masked:
        raise TicketError(
            f"{path} was put together by hand: its plan {'masks weights' if masked else 'masks no weights'}, and "
            f"it holds {'masks' if masks else 'no masks'}"
        )
    return masks


def _shape(channels: int, image_size: tuple[int, int], classes: int) -> str:
    return f"{channels}×{image_size[0]}×{image_size[1]} images of {classes} classes"
