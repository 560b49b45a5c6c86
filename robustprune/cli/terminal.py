"""Output on the terminal: tables on stdout, progress and messages on stderr; `--help` needs neither this nor rich."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import click

from robustprune.runtime.files import all_printable
from robustprune.runtime.progress import progress_bar as bar_on

if TYPE_CHECKING:
    from rich.console import Console

    from robustprune.runtime.work import Progress
    from robustprune.tickets.ticket import Ticket

_PLAIN_WIDTH = 110  # columns, where stdout is a file or a pipe


def stdout() -> Console:
    """Return the console for results."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False, emoji=False)


@cache
def stderr() -> Console:
    """Return the one console for progress and messages, so that messages appear above a progress bar."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else _PLAIN_WIDTH, highlight=False, emoji=False)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(value if isinstance(value, str) else json.dumps(all_printable(value), indent=2, allow_nan=False))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> None:
    """Print a table; columns whose name starts with ``>`` are right-aligned."""
    from rich.table import Table
    from rich.text import Text

    # Text, not strings, in which rich takes brackets for markup.
    drawn = Table(title=Text(title), title_justify="left")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        drawn.add_column(Text(column.removeprefix(">")), justify=justify, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = stdout()
    console.print(drawn)
    if caption:
        # Not a caption of the table, which rich wraps at the width of the table, within paths.
        console.print(Text(caption), soft_wrap=True)


def paragraph(text: str) -> None:
    """Print a text on stdout, wrapped between words."""
    from rich.text import Text

    stdout().print(Text(text))


def say(message: str) -> None:
    """Print a message on stderr."""
    stderr().print(message, markup=False, soft_wrap=True)


def progress_bar() -> AbstractContextManager[Progress]:
    """Return a progress bar on stderr, as a context manager; lines now and then where stderr is no terminal."""
    return bar_on(stderr())


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def seconds(value: float | None) -> str:
    """Return seconds with one decimal, or a dash."""
    return "–" if value is None else f"{value:.1f} s"


def watt_hours(kwh: float | None) -> str:
    """Return kilowatt-hours as watt-hours with three digits, or a dash."""
    return "–" if kwh is None else f"{1000 * kwh:.3g} Wh"


def grams(kilograms: float | None) -> str:
    """Return kilograms as grams with three digits, or a dash."""
    return "–" if kilograms is None else f"{1000 * kilograms:.3g} g"


def pruning_notes(ticket: Ticket) -> list[str]:
    """Return lines on a ticket's budget, maps, removed filters, what it was matched to, and masks."""
    gone, match, count = ticket.plan.removed_filters, ticket.plan.match, ticket.mask_summary
    notes = []
    if ticket.plan.budget:
        by = "the score of the whole ticket" if ticket.plan.objective == "ticket" else "the summed scores of its blocks"
        notes.append(f"budget {ticket.plan.budget}, kept by the search {ticket.plan.search} of {by}")
    if ticket.plan.decided_by:
        found = [{"layer": "blocks", "filter": "filters"}[each.method] for each in (*ticket.plan.earlier, ticket.plan)]
        notes.append(f"{ticket.plan.decided_by} chose what went in each round: {', '.join(found)}")
    notes += [
        f"a linear map stands in for {', '.join(each.blocks)}, "
        f"{f'part of {each.merged_into}' if each.merged_into else f'a layer of its own in {place}'}: off by "
        f"{percent(each.error)} of the features behind, {percent(each.plain_error)} without it"
        for place, each in ticket.plan.replaced.items()
    ]
    if gone:
        notes.append(f"{sum(map(len, gone.values())):,} filters are removed, from {len(gone)} convolutions")
    if match:
        other = f"without {', '.join(match.removed)}" if match.removed else match.sha256[:12]
        others = " and ".join(name for name in ("filters", "MACs", "params") if name.lower() != match.by)
        notes.append(
            f"matched by {match.by} to the ticket {other}: {match.target:,} wanted, {match.reached:,} reached, "
            f"gap {match.gap:+,}; {others} are not matched"
        )
    if count:
        notes.append(
            f"masked: {count['kept']:,} of {count['weights']:,} convolution and linear weights are kept "
            f"({percent_kept(count)}), the others are zero; zeros are stored and computed with, so masks save neither "
            "parameters nor MACs nor time"
        )
    return notes


def percent_kept(count: Mapping[str, int]) -> str:
    """Return the share of weights that masks keep, with two decimals."""
    return f"{100 * count['kept'] / count['weights']:.2f} %"


def interval_text(interval: tuple[float, float]) -> str:
    """Return an interval of shares in percent."""
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %"
