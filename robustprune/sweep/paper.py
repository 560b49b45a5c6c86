"""The paper's tables, as sweeps: where their files are, and what rows of a comparison they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from robustprune.errors import SweepError
from robustprune.registry import suggest
from robustprune.sweep.sweeping import Sweep, read_sweep

Scale = Literal["small", "paper"]

# Table → the groups of metrics that it is about.
TABLES = {
    "table1": ("accuracy",),
    "table2": ("accuracy",),
    "table3": ("accuracy",),
    "table4": ("cost",),
    "table5": ("accuracy", "corruptions", "shift", "robustness", "ood"),
}


def read_table(table: str, scale: Scale = "small", overlays: Sequence[str] = (), settings: Sequence[str] = ()) -> Sweep:
    """Return the sweep of one of the paper's tables, with overlays and settings as for :func:`read_sweep`.

    Its scale is ``paper``, for CIFAR-10 and 200 epochs, or ``small``, for what a laptop can do.

    Raises:
        SweepError: There is no such table, or something in the files laid over it makes no sense.
    """
    if table not in TABLES:
        raise SweepError(f"there is no {table!r}.{suggest(table, TABLES)} Known: {', '.join(TABLES)}.")
    package = Path(__file__).parent.parent
    # In a checkout among the examples, once installed within the package.
    places = (package.parent / "examples" / "paper", package / "paper")
    folder = next(place for place in places if (place / "table1.yaml").is_file())
    over = [] if scale == "paper" else [folder / f"{scale}.yaml", folder / f"{scale}-{table}.yaml"]
    found = read_sweep(folder / f"{table}.yaml", [*filter(Path.is_file, over), *overlays], settings)
    return replace(found, name=f"{found.name}-{scale}")
