"""What a table of tickets is made of: the settings of its networks, and which tickets are trained of each seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from robustprune.data import load_data
from robustprune.errors import RobustPruneError, TableError
from robustprune.models import build_model
from robustprune.pruning import Block, Eligibility, Profile, Subset, find_blocks, kept_profile, subsets_by_profile
from robustprune.runtime.randomness import seeded_generator
from robustprune.runtime.requests import Request
from robustprune.sweep import Sweep
from robustprune.sweep.settings import RunSettings
from robustprune.tickets.header import MatchBy


class FilterTickets(Request):
    """Filter-pruned networks beside the tickets that they match.

    Attributes:
        profiles: Beside which tickets, by the number of blocks that each stage keeps.
        criterion: What ranks filters.
        match_by: By which costs they match: ``filters``, ``macs`` or ``params``.
    """

    FIRST: ClassVar[str | None] = "profiles"
    ERROR: ClassVar[type[RobustPruneError]] = TableError

    profiles: tuple[Profile, ...]
    criterion: str = "l1"
    match_by: tuple[MatchBy, ...] = ("filters", "macs")


class TableSpec(RunSettings):
    """A table's file: the settings that its networks share, and which tickets are trained.

    Attributes:
        name: Of the table: ``NETWORK/IMAGES``.
        description: For readers.
        tickets: ``subsets``: one without each set of blocks that can go together. ``profiles``: one for each number of
            blocks that each stage keeps, whose blocks are drawn anew for each seed.
        eligibility: Which blocks may go.
        seeds: How many; each decides initial weights, drawn blocks and the order of training.
        filters: Filter-pruned networks to train besides.
    """

    ERROR: ClassVar[type[RobustPruneError]] = TableError

    name: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    description: str = ""
    tickets: Literal["subsets", "profiles"] = "subsets"
    eligibility: Eligibility = "paper"
    seeds: Annotated[int, Field(ge=1)] = 5
    filters: FilterTickets | None = None

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of the network."""
        return find_blocks(build_model(self.model, load_data(**dict(self.data)), **self.model_options))

    def sweep(self) -> Sweep:
        """Return the sweep that trains and evaluates the dense networks and all tickets, seed after seed."""
        shared = self.model_dump(mode="json", include=set(RunSettings.model_fields) - {"pruning", "seed"})
        include = []
        for seed in range(self.seeds):
            subsets = list(self.subsets(seed))
            asked = [{"method": "layer", "blocks": list(removed)} for removed in subsets]
            include.append({"seed": seed, "grid": {"pruning": [*asked, *self._filters(subsets)]}})
        return Sweep(self.name.replace("/", "-"), {**shared, "include": include}, f"the table {self.name}")

    def subsets(self, seed: int) -> Iterator[Subset]:
        """Yield the blocks that each ticket of a seed lacks."""
        for profile, subsets in subsets_by_profile(self.blocks, self.eligibility).items():
            if not subsets[0]:  # the dense network
                continue
            if self.tickets == "subsets":
                yield from subsets
            else:
                generator = seeded_generator("table", seed, *profile)
                yield subsets[int(torch.randint(len(subsets), (), generator=generator))]

    def _filters(self, subsets: Sequence[Subset]) -> Iterator[dict[str, Any]]:
        """Yield the filter tickets of a seed: one for each profile, as the blocks of a stage cost alike."""
        wanted = self.filters or FilterTickets(())
        first = {kept_profile(self.blocks, removed): removed for removed in reversed(subsets)}
        if unknown := set(wanted.profiles) - set(first):
            raise TableError(f"no ticket keeps {' and '.join(map(str, unknown))} blocks of each stage")
        for profile in wanted.profiles:
            matched = {"method": "filter", "criterion": wanted.criterion, "blocks": list(first[profile])}
            yield from ({**matched, "match_by": match_by} for match_by in wanted.match_by)


def read_spec(document: Mapping[str, Any], where: str) -> TableSpec:
    """Return the table that a file describes; ``where`` is said in errors.

    Raises:
        TableError: Something in it makes no sense.
    """
    for name in ("pruning", "seed"):
        if name in document:
            raise TableError(f"{where}: {name} differs from ticket to ticket; a table says tickets and seeds instead")
    try:
        return TableSpec(**document)
    except RobustPruneError as error:
        raise TableError(f"{where}: {error}") from error
