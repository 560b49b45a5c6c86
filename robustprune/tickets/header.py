"""What a ticket's file says beside the weights, and the schema it is held to when it is read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from robustprune.models import Architecture
from robustprune.pruning import Choice, Eligibility, FilterVariant, Residue, Unit
from robustprune.pruning.linear_maps import Replacement

MatchBy = Literal["filters", "macs", "params"]


class Match(BaseModel):
    """How close a ticket came to the cost of the one it was to match.

    Attributes:
        by: What was matched: filters over all convolutions, multiply-accumulates per image, or parameters.
        target: That of the matched ticket.
        reached: That of this one.
        gap: How much more that is than the target.
        sha256: The matched ticket's weights.
        removed: The blocks that the matched ticket lacks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: MatchBy
    target: int
    reached: int
    gap: int
    sha256: str
    removed: tuple[str, ...] = ()


class Plan(BaseModel):
    """What was removed from the dense network, and by which ranking.

    Attributes:
        method: "none" for a dense network, "layer" for removed blocks, "filter" for removed filters, "weight" for
            masked weights.
        unit: What went: whole blocks, or attention or MLP branches of blocks, which ``removed`` then has.
        removed: Block name → what remains of it, in order of removal.
        removed_parts: What else went with branches, such as their normalization → what remains of it.
        replaced: Module → the linear map that stands in its place, or that became part of a layer before it.
        removed_filters: Convolution → which of its filters are gone, as the dense network numbers them.
        eligible: The blocks that could have gone, or the convolutions that could have lost filters.
        eligibility: The rule that decided which blocks.
        choice: Which blocks of the ranking went: those of the lowest scores, or a control; None where none went.
        budget: What the ticket was to cost at most, as a share of the network that it was cut out of; None where blocks
            went by number or name.
        search: The search that chose blocks within it, with its options.
        objective: What it searched by: the scores of ``blocks``, or of the whole ``ticket``.
        decided_by: Of a joint ticket: the criterion that preferred it to one of the other kind at the same cost.
        blocks_worth: Of a joint ticket: how many blocks went in this round, or would have gone instead of filters.
        variant: How filters were chosen: by one ranking, or uniformly over the convolutions.
        match: The ticket whose cost was to be matched, and how close this one came.
        sparsity: The share of all convolution and linear weights that is masked; None with other methods.
        rounds: In how many rounds of scoring they were masked.
        criterion: Name of the criterion, None for a dense network.
        options: Its options.
        seed: The seed of its samples.
        scoring_seconds: How long scoring took.
        rewound_to: Epoch of the dense training whose weights the ticket started from, "random" for new ones,
            "shuffled" for initial ones in another order; None where it kept those it was scored with.
        earlier: The plans of rounds before this one, where a ticket was pruned again; ``removed`` and
            ``removed_filters`` have them all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["none", "layer", "filter", "weight"] = "none"
    unit: Unit = "block"
    removed: dict[str, Residue] = Field(default_factory=dict)
    removed_parts: dict[str, Residue] = Field(default_factory=dict)
    replaced: dict[str, Replacement] = Field(default_factory=dict)
    removed_filters: dict[str, tuple[Annotated[int, Field(ge=0, strict=True)], ...]] = Field(default_factory=dict)
    eligible: tuple[str, ...] = ()
    eligibility: Eligibility | None = None
    choice: Choice | None = None
    budget: str | None = None
    search: str | None = None
    objective: Literal["blocks", "ticket"] | None = None
    decided_by: str | None = None
    blocks_worth: int | None = Field(default=None, ge=1)
    variant: FilterVariant | None = None
    match: Match | None = None
    sparsity: float | None = Field(default=None, gt=0, lt=1)
    rounds: int | None = Field(default=None, ge=1)
    criterion: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int | None = None
    scoring_seconds: float = 0.0
    rewound_to: int | Literal["random", "shuffled"] | None = None
    earlier: tuple[Plan, ...] = ()

    @property
    def gone(self) -> dict[str, Residue]:
        """All modules that are removed, branches and what goes with them, and what remains of each."""
        return {**self.removed, **self.removed_parts}

    @property
    def maps(self) -> dict[str, Replacement]:
        """Module → the linear map that is a layer of its own in its place."""
        return {place: each for place, each in self.replaced.items() if each.merged_into is None}

    @property
    def units(self) -> list[Unit]:
        """What went in any of the rounds."""
        return sorted({each.unit for each in (self, *self.earlier)})


class DataDescription(BaseModel):
    """What a ticket may say of its image set: what :func:`robustprune.load_data` gives back as ``spec``.

    ``download`` and ``workers`` are not among it: a file must not decide what happens on its reader's machine.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    root: str | None = None
    image_size: int | None = Field(default=None, ge=8, le=4096)
    channels: int | None = None
    train_limit: int | None = None
    validation_fraction: float = 0.1
    seed: int = Field(default=0, ge=0)
    stream: bool | None = None


class TicketHeader(BaseModel):
    """Everything in a ticket's file but the weights; read back only if it fits this schema."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    architecture: Architecture
    plan: Plan = Field(default_factory=Plan)
    scores: dict[str, float | list[float]] = Field(default_factory=dict)
    seed: int = 0
    data: dict[str, Any] = Field(default_factory=dict)
    history: list[dict[str, float | int | None]] = Field(default_factory=list)
    training: dict[str, Any] = Field(default_factory=dict)
    earlier_training: list[dict[str, Any]] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @field_validator("data")
    @classmethod
    def _names_data_only(cls, data: dict[str, Any]) -> dict[str, Any]:
        try:
            return DataDescription.model_validate(data).model_dump(exclude_unset=True) if data else {}
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise ValueError(f"an image set is not described by {where!r}: {problem['msg']}") from error
