"""An attack whose samples are shared among processes: what each found, put together as if one had found it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from robustprune.attacks.engine.ledger import Start, Tally
from robustprune.attacks.engine.settings import TOGETHER, Samples
from robustprune.attacks.engine.waves import Outcome
from robustprune.runtime.processes import Processes


@dataclass(frozen=True)
class Found:
    """What an attack found on some samples, and what of it the checks judge by.

    Attributes:
        outcome: Per sample.
        clean_logits: (N, K).
        broken_by: N names, see `AttackResult`.
        tally: What was spent, and what was odd.
        details: Options that the attack filled in.
        is_random: Whether anything was drawn.
        is_frozen: Whether a frozen copy was attacked.
        training: Names of submodules that trained meanwhile.
    """

    outcome: Outcome
    clean_logits: Tensor
    broken_by: list[str]
    tally: Tally
    details: dict[str, Any]
    is_random: bool
    is_frozen: bool
    training: list[str]


def block_of(attack: str, batch_size: int) -> int:
    """Return how many neighbours have to stay together: attacks of other packages see groups of them."""
    return min(TOGETHER, batch_size) if ":" in attack else 1


def own_share(samples: Samples, processes: Processes, block: int) -> Samples:
    """Return the samples that this process attacks, which may be none."""
    return samples if processes.is_alone else samples.part(processes.share(len(samples), block))


def together(work: Callable[[], Found | None], processes: Processes, block: int) -> Found:
    """Do this process's share, and return what all have found in the order of the samples.

    Args:
        work: Attacks the share; returns None if there is nothing in it.
        processes: Those that share the samples.
        block: Samples that stayed together.
    """
    with processes.agreement():
        own = work()
    shares = processes.gather(own)
    return _merge(shares, processes, block) if len(shares) > 1 else next(each for each in shares if each is not None)


def _merge(shares: Sequence[Found | None], processes: Processes, block: int) -> Found:
    found = [share for share in shares if share is not None]

    def join(column: Callable[[Found], Tensor]) -> Tensor:
        return processes.joined([None if share is None else column(share) for share in shares], block)

    names = sorted({name for share in found for name in share.broken_by})
    broken_by = join(lambda share: torch.tensor([names.index(name) for name in share.broken_by]))
    columns = [attrgetter(f"outcome.{each.name}") for each in fields(Outcome)]
    return Found(
        outcome=Outcome(*map(join, columns)),
        clean_logits=join(lambda share: share.clean_logits),
        broken_by=[names[place] for place in broken_by.tolist()],
        tally=_add(share.tally for share in found),
        details={name: value for share in reversed(found) for name, value in share.details.items()},
        is_random=any(share.is_random for share in found),
        is_frozen=any(share.is_frozen for share in found),
        training=next((share.training for share in found if share.training), []),
    )


def _add(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        for name in ("forwards", "gradients", "without_graph", "not_finite"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
        for stage, start in tally.starts.items():
            before = total.starts.get(stage, Start())
            total.starts[stage] = Start(before.gradients + start.gradients, before.zeros + start.zeros)
        # They worked side by side.
        total.earlier_seconds = max(total.earlier_seconds, tally.earlier_seconds)
    return total
