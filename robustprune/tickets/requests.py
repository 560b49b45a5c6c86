"""What can be asked of pruning: what goes, by which ranking, and where the weights of the rest come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field

from robustprune.errors import PruningError, RobustPruneError
from robustprune.pruning import Choice, Eligibility, Unit, make_search, named_criterion
from robustprune.runtime.requests import Request
from robustprune.tickets.budgeted import Objective, read_cut_budget
from robustprune.tickets.header import MatchBy

Method = Literal["dense", "layer", "filter", "filter-uniform", "joint", "weight"]
Count = Annotated[int, Field(ge=1)]


def _count_or_names(blocks: Any) -> Any:
    if isinstance(blocks, list | tuple) and blocks and all(isinstance(name, str) for name in blocks):
        return tuple(sorted(set(blocks)))
    if blocks is None or (isinstance(blocks, int) and not isinstance(blocks, bool) and blocks >= 1):
        return blocks
    raise ValueError(f"give a number of at least 1, or a list of blocks by name, not {blocks!r}")


def _checked_search(search: str) -> str:
    make_search(search)
    return search


Blocks = Annotated[int | tuple[str, ...] | None, BeforeValidator(_count_or_names)]


class Pruning(Request):
    """A ticket to find: ``Pruning("layer", criterion="grasp", blocks=4)``, or ``Pruning(blocks=["layer1.1"])``.

    Attributes:
        method: ``dense``: nothing goes. ``layer``: whole blocks. ``filter``, ``filter-uniform``: as many filters as the
            layer ticket of the same criterion and blocks lost. ``joint``: in each round blocks, or filters that match
            them, whichever ``decide_by`` finds to cost less. ``weight``: single weights are masked.
        criterion: What ranks blocks, filters or weights, with its options: ``grasp:batch_size=32``; of blocks also
            several, ``grasp+cka``, by the sum of their ranks. A layer ticket whose blocks are named has none.
        options: Options of the criterion; whatever keyword is no other field is one.
        blocks: How many blocks go, or which, by name; of filter tickets, from the layer ticket that is matched.
        unit: What a block is: ``block``, a whole one, or the ``attention`` or ``mlp`` branches of a transformer's.
        budget: In place of ``blocks``, what the ticket may cost at most: ``macs<=60%`` of the dense network's.
        search: With a budget, which blocks go: ``greedy``, ``beam:width=8``, ``evolution`` or ``exhaustive``, see
            :func:`robustprune.prune_layers`.
        objective: What a search goes by: the summed scores of ``blocks``, or the score of the whole ``ticket``.
        sparsity: The share of weights that is masked.
        rounds: In how many rounds of scoring and removing. Of weights by default as many as the criterion wants; of
            blocks and filters one, and several remove equal shares of ``blocks``, the first ones one block more.
        blocks_per_round: How many blocks go in each round, from which ``blocks`` or ``rounds`` follows.
        fine_tune_epochs: For how many epochs what is left is trained between two rounds, from its present weights by
            the recipe; 0 trains nothing in between.
        eligibility: Which blocks may go: ``paper``, ``strict`` or ``identity``.
        choice: Which blocks go: those of the ``lowest`` scores; or as a control of the criterion those of the
            ``highest``, or ``random-per-stage``: as many of each stage as it would take, at random.
        match_by: Which cost of the layer ticket filter-pruned ones match: ``filters``, ``macs`` or ``params``.
        decide_by: Of joint tickets, the criterion of whole tickets that decides between the two, with its options.
        at_init: Score the initial weights (algorithm 2) rather than the trained ones (algorithm 1).
        rewind: Where kept weights come from: epochs (25), a share of all (``"25%"``), ``random``: new ones, or
            ``shuffled``: the initial ones, in another order within each tensor of each block, or ``none``: those that
            the ticket has, which are fine-tuned.
    """

    FIRST: ClassVar[str | None] = "method"
    REST: ClassVar[str | None] = "options"
    ERROR: ClassVar[type[RobustPruneError]] = PruningError

    method: Method = "layer"
    criterion: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    blocks: Blocks = None
    unit: Unit = "block"
    budget: Annotated[str, AfterValidator(lambda text: str(read_cut_budget(text)))] | None = None
    search: Annotated[str, AfterValidator(_checked_search)] = "greedy"
    objective: Objective = "blocks"
    sparsity: Annotated[float, Field(gt=0, lt=1)] | None = None
    rounds: Count | None = None
    blocks_per_round: Count | None = None
    fine_tune_epochs: Annotated[int, Field(ge=0)] = 0
    eligibility: Eligibility = "paper"
    choice: Choice = "lowest"
    match_by: MatchBy = "filters"
    decide_by: str = "cka"
    at_init: bool = True
    rewind: Annotated[int, Field(ge=0)] | str = 0

    @classmethod
    def _read_name(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        given = _counted(given)
        if not isinstance(given.get("criterion"), str):
            return given
        criterion, own = named_criterion(given["criterion"], {})
        return {**given, "criterion": criterion, **({"options": {**given.get("options", {}), **own}} if own else {})}

    @property
    def schedule(self) -> tuple[int, ...]:
        """How many blocks go in each round, where they go by number."""
        if not isinstance(self.blocks, int):
            return ()
        if self.blocks_per_round is not None:
            whole, rest = divmod(self.blocks, self.blocks_per_round)
            return (self.blocks_per_round,) * whole + ((rest,) if rest else ())
        each, more = divmod(self.blocks, self.rounds or 1)
        return tuple(each + (place < more) for place in range(self.rounds or 1))

    @property
    def way(self) -> str:
        """How blocks are chosen, in words behind the criterion and their number; empty for one shot by ranking."""
        if self.budget is not None:
            return f"{self.search}{' by ticket' if self.objective == 'ticket' else ''}"
        if len(self.schedule) < 2:
            return ""
        epochs = f"{self.fine_tune_epochs} epoch{'s' * (self.fine_tune_epochs > 1)}"
        tuned = f" with {epochs} between" if self.fine_tune_epochs else ""
        return f"in {len(self.schedule)} rounds{tuned}"

    def check(self) -> Self:
        """Return the request, if its method has what it needs and nothing else."""
        needed: tuple[str, ...] = ("criterion", "blocks")
        unused: tuple[str, ...] = ("sparsity",)
        if self.method == "dense":
            needed, unused = (), ("criterion", "blocks", "budget", "sparsity")
        elif self.method == "weight":
            needed, unused = ("criterion", "sparsity"), ("blocks", "budget")
        elif self.budget is not None:
            needed, unused = ("criterion",), ("sparsity", "blocks")
        elif self.method == "layer" and isinstance(self.blocks, tuple):
            needed = ("blocks",)
        for name in needed:
            if getattr(self, name) is None:
                instead = ", a budget, or rounds with blocks_per_round" if name == "blocks" else ""
                raise PruningError(f"the method {self.method!r} needs {name}{instead}")
        if self.method == "layer" and isinstance(self.blocks, tuple) and self.criterion is not None:
            raise PruningError("blocks that are named go without a criterion; leave one of the two out")
        if self.budget is not None and self.blocks is not None:
            raise PruningError("blocks say how many go, and a budget leaves that to a search; leave one of the two out")
        for name in unused:
            if getattr(self, name) is not None:
                raise PruningError(f"the method {self.method!r} has no use for {name}; leave it out, or set it to null")
        self._check_search()
        self._check_rounds()
        if self.choice != "lowest" and self.method != "layer":
            raise PruningError(f"the choice {self.choice!r} is one of blocks; leave it out for {self.method!r}")
        if self.unit != "block" and self.method != "layer":
            raise PruningError(
                f"the unit {self.unit!r} belongs to the method 'layer'; leave it out for {self.method!r}"
            )
        if self.at_init and self.method != "dense" and str(self.rewind) not in ("0", "0%", "random", "shuffled"):
            raise PruningError(
                "a ticket found at initialization starts there: rewind to 0, random or shuffled, or score the trained "
                "network (--after-training, in a sweep at_init: false)"
            )
        return self

    def _check_search(self) -> None:
        """Refuse what only a search takes where there is none, and a control of a ranking where none is walked."""
        if (self.search, self.objective) == ("greedy", "blocks"):
            return
        if self.budget is None:
            raise PruningError("search and objective choose within a budget; give one, such as macs<=60%, or no search")
        if self.choice != "lowest":
            raise PruningError(f"the choice {self.choice!r} is one of a ranking; leave search and objective out")

    def _check_rounds(self) -> None:
        """Refuse rounds of what goes at once, and of more than there is."""
        given = [name for name in ("blocks_per_round", "fine_tune_epochs") if getattr(self, name)]
        if self.method in ("dense", "weight"):
            if given:
                raise PruningError(f"{given[0]} belongs to blocks and filters, not to the method {self.method!r}")
            return
        if self.method == "joint" and not isinstance(self.blocks, int):
            raise PruningError("a joint ticket takes a number of blocks, which filters may go instead of; give blocks")
        if self.decide_by != "cka" and self.method != "joint":
            raise PruningError(f"decide_by belongs to the method 'joint', not to {self.method!r}; leave it out")
        if self.rounds is not None or given:
            if not isinstance(self.blocks, int):
                what = "a budget" if self.budget is not None else "blocks that are named"
                raise PruningError(f"rounds remove a number of blocks each; leave them out, or {what}")
            if (self.rounds or 1) > self.blocks or len(self.schedule) != (self.rounds or len(self.schedule)):
                each = "" if self.blocks_per_round is None else f" of {self.blocks_per_round}"
                raise PruningError(f"{self.blocks} blocks cannot go in {self.rounds} rounds{each}; give other numbers")
            if self.fine_tune_epochs and len(self.schedule) < 2:
                raise PruningError("fine_tune_epochs are trained between two rounds, and there is one; give rounds")


def _counted(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is given with the number of blocks that rounds come to."""
    rounds, each = given.get("rounds"), given.get("blocks_per_round")
    if isinstance(rounds, int) and isinstance(each, int) and given.get("blocks") is None:
        return {**given, "blocks": rounds * each}
    return given
