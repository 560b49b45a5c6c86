"""What a lottery is to find: tickets, each by one criterion, density and method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from robustprune.errors import PruningError
from robustprune.pruning import Criterion, Eligibility, check_eligibility, criterion_class, make_criterion
from robustprune.registry import share_options, suggest
from robustprune.runtime.files import hash_json
from robustprune.tickets.header import MatchBy

Method = Literal["layer", "filter", "filter-uniform"]


@dataclass(frozen=True)
class Draw:
    """A ticket to find, the same for every seed.

    Attributes:
        criterion: Ranks blocks, or filters.
        blocks: How many blocks go; for a filter-pruned ticket, those of the layer ticket whose filters it matches.
        method: "layer"; "filter", by one ranking over all convolutions; or "filter-uniform", by convolution.
        options: The criterion's options where they are not its defaults.
        at_init: Whether it is scored at initialization (algorithm 2) or after the dense training (algorithm 1).
        eligibility: Which blocks may go.
        match_by: Which cost of the layer ticket a filter-pruned one matches.
    """

    criterion: str
    blocks: int
    method: Method = "layer"
    options: Mapping[str, Any] = field(default_factory=dict)
    at_init: bool = False
    eligibility: Eligibility = "authors"
    match_by: MatchBy = "filters"

    @property
    def name(self) -> str:
        """Path of its files within the folder of a seed, without the extension."""
        unusual = {**self.options, **({} if self.eligibility == "authors" else {"eligibility": self.eligibility})}
        if self.method != "layer" and self.match_by != "filters":
            unusual["match_by"] = self.match_by
        parts = [self.criterion, *(["init"] if self.at_init else []), *([hash_json(unusual)[:8]] if unusual else [])]
        return f"{'-'.join(parts)}/blocks-{self.blocks}-{self.method}"


def make_draws(
    criteria: Sequence[str],
    blocks: Sequence[int],
    *,
    methods: Sequence[str] = ("layer",),
    options: Mapping[str, Any] | None = None,
    at_init: bool = False,
    eligibility: str = "authors",
    match_by: str = "filters",
) -> tuple[Draw, ...]:
    """Return every combination of criterion, method and number of blocks.

    Args:
        criteria: Names of criteria.
        blocks: How many blocks go.
        methods: ``layer``, ``filter``, ``filter-uniform``.
        options: Options of the criteria; each is given those that it takes.
        at_init: As for :class:`Draw`.
        eligibility: As for :class:`Draw`.
        match_by: As for :class:`Draw`.

    Raises:
        UnknownNameError: No criterion of that name.
        PruningError: An option that no criterion takes, a criterion that has no meaning for filters, or another
            value that makes no sense.
    """
    rule = check_eligibility(eligibility)
    for method in methods:
        if method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise PruningError(f"there is no method {method!r}.{suggest(method, get_args(Method))} Known: {known}.")
    if match_by not in get_args(MatchBy):
        costs = get_args(MatchBy)
        raise PruningError(
            f"no ticket is matched by {match_by!r}.{suggest(match_by, costs)} Known: {', '.join(costs)}."
        )
    for what, values in (("criterion", criteria), ("number of blocks", blocks), ("method", methods)):
        if not values:
            raise PruningError(f"no {what} is named, so there is no ticket to find")
    shared = share_options({name: criterion_class(name).model_fields for name in criteria}, options or {}, PruningError)
    for criterion in criteria:
        _check_criterion(criterion, shared[criterion], methods)
    return tuple(
        Draw(criterion, count, method, shared[criterion], at_init, rule, match_by)  # type: ignore[arg-type]
        for criterion in dict.fromkeys(criteria)
        for method in dict.fromkeys(methods)
        for count in dict.fromkeys(blocks)
    )


def _check_criterion(name: str, options: Mapping[str, Any], methods: Sequence[str]) -> None:
    """Find out now what would otherwise show after the dense training."""
    criterion = make_criterion(name, **options)
    scores_filters = type(criterion).filter_scores is not Criterion.filter_scores
    if not scores_filters and any(method != "layer" for method in methods):
        raise PruningError(f"{name} does not score filters: {criterion.no_filter_scores}; leave out the filter methods")
