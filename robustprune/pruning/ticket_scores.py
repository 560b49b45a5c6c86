"""What whole tickets of a network are worth, before they are trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from robustprune.data import AnyData, ImageData, as_data
from robustprune.errors import PruningError
from robustprune.models import Architecture, for_images, placed
from robustprune.pruning.blocks import Block, Unit, find_blocks, removable_blocks
from robustprune.pruning.criteria import Criterion
from robustprune.pruning.criteria.by_name import make_criterion, named_criterion
from robustprune.pruning.scoring import origin, scoring, settled
from robustprune.pruning.subsets import Subset
from robustprune.pruning.surgery import remove_blocks
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work


def judge_tickets(
    model: nn.Module,
    data: ImageData,
    criterion: str,
    *,
    seed: int = 0,
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> Callable[[nn.Module], float]:
    """Return a function from what is left of a network, whatever went, to what it is worth; larger is better.

    Arguments as for :func:`score_tickets`.
    """
    criterion, options = named_criterion(criterion, options)
    chosen = make_criterion(criterion, **options)
    model = placed(for_images(model, data), device)
    _, score = _settled_score(chosen, criterion, model, data, seed, work)

    def judge(left: nn.Module) -> float:
        with scoring(model, criterion):
            return float(score(placed(left, device)))

    return judge


def _settled_score(
    chosen: Criterion, name: str, model: nn.Module, data: ImageData, seed: int, work: Work
) -> tuple[Criterion, Callable[[nn.Module], float]]:
    """Return a criterion with the batch size that it takes of a network, and what scores tickets of that by it."""
    with scoring(model, name):
        chosen = settled(chosen, name, model, data, seed, work)
        return chosen, chosen.ticket_scores(model, data, seed)


class TicketScores:
    """What the tickets of a network are worth by a criterion: called with the blocks that one lacks, larger is better.

    Each ticket is scored once.

    Attributes:
        criterion: Its name.
        options: Its options in force.
        seed: That decides the sample.
        seconds: How long scoring has taken so far.
        architecture: That of the network that is scored; None where nothing says what images it takes.
        unit: What goes as one.
        known: Blocks that go → what the ticket is worth, of those that were scored.
    """

    def __init__(
        self,
        model: nn.Module,
        score: Callable[[nn.Module], float],
        blocks: Sequence[Block],
        *,
        criterion: str,
        options: Mapping[str, Any],
        seed: int,
        architecture: Architecture | None,
    ) -> None:
        """Keep what scores tickets, and its origin."""
        self.criterion, self.options, self.seed, self.architecture = criterion, dict(options), seed, architecture
        self.seconds = 0.0
        self.known: dict[Subset, float] = {}
        self._model, self._score = model, score
        self._leaves = {block.name: block.leaves for block in blocks}
        self.unit: Unit = blocks[0].unit

    def __call__(self, removed: Subset) -> float:
        """Return what the ticket without blocks is worth.

        Raises:
            PruningError: A name of no block that can go, or a score that is not finite.
        """
        key = tuple(name for name in self._leaves if name in removed)
        if strange := set(removed) - set(key):
            raise PruningError(f"{min(strange)!r} is no block of the scored network that can go")
        if key not in self.known:
            start = time.perf_counter()
            with scoring(self._model, self.criterion):
                gone = {name: residue for each in key for name, residue in self._leaves[each].items()}
                score = float(self._score(remove_blocks(self._model, gone)))
            self.seconds += time.perf_counter() - start
            if not math.isfinite(score):
                raise PruningError(
                    f"criterion {self.criterion} scored the ticket without {', '.join(key) or 'any block'} as {score}; "
                    "the network's activations or gradients leave the finite numbers, so it cannot be ranked"
                )
            self.known[key] = score
        return self.known[key]


def score_tickets(
    model: nn.Module,
    data: AnyData,
    criterion: str,
    *,
    seed: int = 0,
    unit: Unit = "block",
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> TicketScores:
    """Return what tells what whole tickets of a network are worth: an objective for :func:`robustprune.prune_layers`.

    A criterion that compares the network with and without a block (``naswot``, ``jacobian``, ``true_drop``, ``kl``,
    ``cka``) takes all that go as one block: the less these are worth, the more is the ticket. Of ``snip``, ``grasp``
    and ``synflow``, it is the sum over the weights of the ticket (zero-cost proxies: Abdelfattah et al. 2021,
    arXiv:2101.08134). Nothing is trained, and the model is left as it was.

    Args:
        model: Any network from images in [0, 1] to logits.
        data: The image set, or training images as for :func:`robustprune.as_data`.
        criterion: Name of a criterion, see ``robustprune list criteria``.
        seed: Decides the sample.
        unit: ``block``; or ``attention`` or ``mlp``: the branches of that kind, see :func:`robustprune.find_blocks`.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Its progress is told of batches, for each ticket.
        options: The criterion's options.

    Raises:
        PruningError: The criterion scores no whole tickets, no block can go, or an option is wrong.
    """
    criterion, options = named_criterion(criterion, options)
    chosen = make_criterion(criterion, **options)
    data = as_data(data, "train")
    model = placed(for_images(model, data), device)
    blocks = removable_blocks(find_blocks(model, unit=unit))
    chosen, score = _settled_score(chosen, criterion, model, data, seed, work)
    return TicketScores(model, score, blocks, **origin(model, data, chosen, criterion, seed))
