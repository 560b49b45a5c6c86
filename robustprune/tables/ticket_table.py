"""A table of tickets, read: what was measured of every ticket, by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import comb, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robustprune.errors import TableError, UnknownNameError
from robustprune.registry import suggest
from robustprune.runtime.html import html_table
from robustprune.tables.table_file import Row, read_table_file

if TYPE_CHECKING:
    import pandas

    from robustprune.pruning import Subset
    from robustprune.tables.table_spec import TableSpec

SHIPPED = Path(__file__).parent / "shipped"
_COSTS = ("parameters", "macs", "filters", "training_memory", "training_seconds", "training_energy_kwh")
_NO_MEASURE = ("seed", "method", "kept", "removed", "match_by", "sha256", *_COSTS)
_SMALLER_IS_BETTER = ("nll", "ece", "brier", *_COSTS)


def shipped_tables() -> list[str]:
    """Return the names of the tables that come with the package."""
    return sorted(path.stem.replace("--", "/") for path in SHIPPED.glob("*.parquet"))


def load_table(name: str | Path) -> TicketTable:
    """Return a table of tickets: one that comes with the package, such as ``resnet20/digits``, or that of a file.

    Raises:
        TableError: A file that is missing, damaged or no table.
        UnknownNameError: There is no table of that name.
    """
    known = shipped_tables()
    if str(name) in known:
        path = SHIPPED / f"{str(name).replace('/', '--')}.parquet"
    elif Path(name).suffix == ".parquet" or Path(name).is_file():
        path = Path(name)
    else:
        listed = f"Known: {', '.join(known)}, or a file: NAME.parquet." if known else "Name a file: NAME.parquet."
        raise UnknownNameError(f"there is no table called {str(name)!r}.{suggest(str(name), known)} {listed}")
    return TicketTable(*read_table_file(path))


@dataclass(frozen=True)
class TicketTable:
    """Tickets of every depth profile, trained and measured for several seeds.

    Attributes:
        rows: One of each network: ``seed``, ``method``, ``kept`` blocks of each stage, ``removed`` blocks, costs, and
            what was measured, by column.
        facts: What it is made of: name, spec, versions and machines.
    """

    rows: list[Row]
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """NETWORK/IMAGES."""
        return str(self.facts["name"])

    @cached_property
    def spec(self) -> TableSpec:
        """What the table is made of, from which any of its networks can be trained anew."""
        from robustprune.tables.table_spec import read_spec

        return read_spec(self.facts["spec"], f"the table {self.name}")

    @property
    def draws_blocks(self) -> bool:
        """Whether it has one set of blocks of each depth profile and seed, drawn at random, instead of all sets."""
        return bool(self.facts["spec"].get("tickets") == "profiles")

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of its networks."""
        return sorted({row["seed"] for row in self.rows})

    @cached_property
    def metrics(self) -> list[str]:
        """The columns that say how good a network is."""
        return [name for name in self.rows[0] if name not in _NO_MEASURE and not name.startswith("right_")]

    @cached_property
    def corruptions(self) -> list[str]:
        """The columns of corruptions, whose outcomes are known at each severity."""
        return [name for name in self.metrics if self._severities(name) > 1]

    @cached_property
    def dense_macs(self) -> int:
        """Multiply-accumulates of the dense network."""
        return int(next(row["macs"] for row in self.rows if row["method"] == "dense"))

    @cached_property
    def layer_tickets(self) -> list[Row]:
        """The rows of layer tickets."""
        return [row for row in self.rows if row["method"] == "layer"]

    def goodness(self, metric: str, seed: int) -> dict[Subset, float]:
        """Return a metric of the layer tickets of a seed, by the blocks that they lack: larger is better.

        Raises:
            TableError: There is no such metric, or it is not there of every ticket.
        """
        self.check_metric(metric)
        sign = -1 if is_smaller_better(metric) else 1
        own = [row for row in self.layer_tickets if row["seed"] == seed]
        return {blocks_of(row): sign * value for row, value in zip(own, self.values(own, metric), strict=True)}

    def values(self, rows: Sequence[Row], metric: str) -> list[float]:
        """Return a metric of some rows.

        Raises:
            TableError: It is not there of every row.
        """
        values = [row[metric] for row in rows]
        if any(value is None for value in values):
            raise TableError(f"{metric} of {self.name} is not known of every network: measured in vain, or not at all")
        return values

    def check_metric(self, metric: str) -> None:
        """Raise a :class:`TableError` where there is no such metric."""
        if metric not in self.metrics:
            raise TableError(
                f"{self.name} has no metric {metric!r}.{suggest(metric, self.metrics)} Known: "
                f"{', '.join(self.metrics)}."
            )

    def kept(self, removed: Subset) -> str:
        """Return how many blocks each stage keeps without some blocks, as ``3-2-3``."""
        return self._kept[removed]

    @cached_property
    def _kept(self) -> dict[Subset, str]:
        return {blocks_of(row): row["kept"] for row in self.layer_tickets}

    @cached_property
    def sets(self) -> dict[str, int]:
        """How many sets of blocks each depth profile has, whether or not the table has all of them.

        Of each stage the blocks may go that any ticket lacks; read from the rows, it takes no network and no images.
        """
        whole = _numbers(next(row["kept"] for row in self.rows if row["method"] == "dense"))
        removable: list[set[str]] = [set() for _ in whole]
        lost = {kept: [n - left for n, left in zip(whole, _numbers(kept), strict=True)] for kept in self._kept.values()}
        for removed, kept in self._kept.items():
            names = iter(removed)  # in order of execution, and so of stages
            for own, count in zip(removable, lost[kept], strict=True):
                own.update(islice(names, count))
        return {
            kept: prod(comb(len(own), count) for own, count in zip(removable, counts, strict=True))
            for kept, counts in lost.items()
        }

    def to_frame(self) -> pandas.DataFrame:
        """Return the rows as a pandas frame, which has to be installed."""
        import pandas

        return pandas.DataFrame(self.rows)

    def outcomes(self, row: Row, metric: str) -> NDArray[np.bool_]:
        """Return which images (n,) a network got right: under ``clean``, an attack, or a corruption (5, n)."""
        packed = np.frombuffer(row[f"right_{metric}"], dtype=np.uint8)
        count = int(self.facts["images"])
        width = -(-count // 8)
        found = np.unpackbits(packed.reshape(-1, width), axis=1)[:, :count].astype(bool)
        return found[0] if len(found) == 1 else found

    def _severities(self, name: str) -> int:
        """Return how many outcomes of each image there are in a column; 0 where there is none."""
        packed = self.rows[0].get(f"right_{name}")
        return 0 if packed is None else len(packed) // -(-int(self.facts["images"]) // 8)

    def _repr_html_(self) -> str:
        columns = ["method", "blocks kept", ">networks", *(f">{name}" for name in self.metrics[:3])]
        rows = []
        for method, kept in dict.fromkeys((row["method"], row["kept"]) for row in self.rows):
            own = [row for row in self.rows if (row["method"], row["kept"]) == (method, kept)]
            means = [f"{np.mean([row[name] for row in own]):.4f}" for name in self.metrics[:3]]
            rows.append([method, kept, len(own), *means])
        return html_table(f"{self.name}, {len(self.rows)} networks", columns, rows)


def _numbers(kept: str) -> list[int]:
    return [int(number) for number in kept.split("-")]


def blocks_of(row: Row) -> Subset:
    """Return the blocks that a row's ticket lacks, or that the ticket it matches lacks."""
    return tuple(row["removed"].split(", ")) if row["removed"] else ()


def is_smaller_better(metric: str) -> bool:
    """Return whether smaller values of a column are the better ones."""
    return metric in _SMALLER_IS_BETTER or "fpr95" in metric
