"""Tables that several commands draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from robustprune.cli import terminal

if TYPE_CHECKING:
    from robustprune.cost import Cost
    from robustprune.tickets.ticket import Ticket


def cost_table(own: Cost, dense: Cost, headings: tuple[str, str], caption: str = "") -> None:
    """Draw a network's counts beside the dense network's, whose heading comes first, and what is saved."""
    saved = own.saved_percent(dense)
    names = {"parameters": "parameters", "macs": "MACs per image", "filters": "filters"}
    rows = [
        [label, f"{getattr(dense, name):,}", f"{getattr(own, name):,}", f"{saved[name]:.2f} %"]
        for name, label in names.items()
    ]
    terminal.table("Cost", ["", *(f">{heading}" for heading in headings), ">saved"], rows, caption)


def pruning_notes(ticket: Ticket) -> list[str]:
    """Return a line on the filters that a ticket lacks, on what it was matched to, and on its masks, as there are."""
    return [*_filter_notes(ticket), *_mask_note(ticket)]


def _filter_notes(ticket: Ticket) -> list[str]:
    gone, match = ticket.plan.removed_filters, ticket.plan.match
    notes = []
    if gone:
        notes.append(f"{sum(map(len, gone.values())):,} filters are gone, from {len(gone)} convolutions")
    if match:
        other = f"without {', '.join(match.removed)}" if match.removed else match.sha256[:12]
        others = " and ".join(name for name in ("filters", "MACs", "params") if name.lower() != match.by)
        notes.append(
            f"matched by {match.by} to the ticket {other}: {match.target:,} wanted, {match.reached:,} reached, "
            f"gap {match.gap:+,}; {others} are not matched"
        )
    return notes


def _mask_note(ticket: Ticket) -> list[str]:
    count = ticket.mask_summary
    if count is None:
        return []
    return [
        f"masked: {count['kept']:,} of {count['weights']:,} convolution and linear weights are kept "
        f"({percent_kept(count)}), the others are zero; zeros are stored and computed with, so masks save neither "
        "parameters nor MACs nor time"
    ]


def percent_kept(count: Mapping[str, int]) -> str:
    """Return the share of weights that masks keep, with two decimals."""
    return f"{100 * count['kept'] / count['weights']:.2f} %"


def interval_text(interval: tuple[float, float]) -> str:
    """Return an interval of shares in percent."""
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %"
