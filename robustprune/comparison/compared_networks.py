"""The networks of a comparison, read from their records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from robustprune.comparison.metric import MetricValues
from robustprune.comparison.record_metrics import read_metrics
from robustprune.comparison.sources import read_records
from robustprune.errors import ComparisonError
from robustprune.records import Record

Source = Record | str | Path


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a comparison.

    Attributes:
        name: Where its record came from, for messages.
        group: Name of the group that it belongs to, such as ``dense``.
        record: Its record, without the outcomes per sample.
        values: Its value of each metric.
        classes: Number of classes: the largest label of the samples plus 1; None where outcomes per sample are missing.
    """

    name: str
    group: str
    record: Record
    values: MetricValues
    classes: int | None = None

    @property
    def seed(self) -> int | None:
        """The seed of its training, else of its initial weights; None where the record has neither."""
        return self.record.model.seed


def read_networks(group: str, sources: Source | Sequence[Source], **settings: Any) -> list[Network]:
    """Return the networks of a group, sorted by seed; the outcomes per sample of one record are in memory at a time.

    Sources are records, their files, folders of them, or patterns such as ``runs/*/layer.json``; settings are passed
    to :func:`read_metrics`.

    Raises:
        ComparisonError: There is no record.
        EvaluationError: A record cannot be read.
    """
    listed = [sources] if isinstance(sources, Record | str | Path) else sources
    networks = [
        Network(
            name,
            group,
            record.model_copy(update={"samples": None}),
            read_metrics(record, **settings),
            int(record.samples["label"].max()) + 1 if record.samples else None,
        )
        for name, record in _records(listed)
    ]
    if not networks:
        raise ComparisonError(f"no records were given for {group!r}; give files, or folders that hold some")
    return sorted(networks, key=lambda network: (network.seed is None, network.seed or 0))


def _records(sources: Sequence[Source]) -> Iterator[tuple[str, Record]]:
    for place, source in enumerate(sources, start=1):
        if isinstance(source, Record):
            yield source.model.path or f"record {place}", source
        else:
            yield from ((str(path), record) for path, record in read_records(source))


def refuse_duplicates(networks: Sequence[Network]) -> None:
    """Check that the networks of a group, in one setting, all differ, and all have different seeds."""
    for one, other in combinations(networks, 2):
        both = f"{one.name} and {other.name}, both given for {one.group!r}, are"
        if one.record.model.sha256 == other.record.model.sha256:
            raise ComparisonError(f"{both} records of one network; give each network once")
        if one.seed == other.seed is not None:
            raise ComparisonError(
                f"{both} networks of one seed, {one.seed}; if they were made by two methods, give each method a name "
                "of its own"
            )
