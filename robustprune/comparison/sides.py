"""The networks on both sides of a comparison, and whether they may be compared: on the same samples, measured alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from robustprune.comparison.from_record import read_metrics
from robustprune.comparison.metric import Metric, MetricValues
from robustprune.comparison.sources import read_records
from robustprune.errors import ComparisonError
from robustprune.records import Record

Source = Record | str | Path


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a comparison.

    Attributes:
        name: Where its record came from, for messages.
        group: What it is one of, such as ``dense``.
        record: Without outcomes per sample.
        values: By metric.
        classes: How many the samples are of, as far as they show; None where they are not on file.
    """

    name: str
    group: str
    record: Record
    values: MetricValues
    classes: int | None = None

    @property
    def seed(self) -> int | None:
        """Of its training, else of its initial weights; None for a network that does not know."""
        return self.record.model.seed


def read_networks(group: str, sources: Source | Sequence[Source], **settings: Any) -> list[Network]:
    """Return the networks of a group in the order of their seeds; outcomes of one record are held at a time.

    Sources are records, their files, folders of them, or patterns such as ``runs/*/layer.json``; settings those of
    :func:`read_metrics`.

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


def refuse_repeated(networks: Sequence[Network]) -> None:
    """Check that networks of a group, in one setting, are different ones of different seeds."""
    for one, other in combinations(networks, 2):
        both = f"{one.name} and {other.name}, both given for {one.group!r}, are"
        if one.record.model.sha256 == other.record.model.sha256:
            raise ComparisonError(f"{both} records of one network; each network counts once")
        if one.seed == other.seed is not None:
            raise ComparisonError(
                f"{both} networks of one seed, {one.seed}; networks of another kind are another candidate, with a name "
                "of its own"
            )


@dataclass(frozen=True)
class Sides:
    """Networks and those of a candidate that are compared with them, both in the order of their seeds."""

    candidate: str
    against: str
    reference: Sequence[Network]
    own: Sequence[Network]

    @property
    def networks(self) -> list[Network]:
        """All of them."""
        return [*self.reference, *self.own]

    @property
    def pairs(self) -> list[tuple[Network, Network]]:
        """Networks of one seed: all in pairs, or none. One network on either side is a pair whatever its seed."""
        seeds = [[network.seed for network in side] for side in (self.reference, self.own)]
        alike = seeds[0] == seeds[1] and None not in seeds[0]
        return list(zip(self.reference, self.own, strict=True)) if alike or len(self.networks) == 2 else []

    def name(self, some: Sequence[Network]) -> str:
        """Return what some of the networks are called: their group, and seeds where they are not the whole of it."""
        texts = []
        for group, all_of_it in ((self.against, self.reference), (self.candidate, self.own)):
            among = [network for network in all_of_it if network in some]
            seeds = ", ".join("?" if network.seed is None else str(network.seed) for network in among)
            if among:
                texts.append(group if len(among) == len(all_of_it) else f"{group} (seed {seeds})")
        return " and ".join(texts)


def settings_of(metric: Metric, networks: Sequence[Network]) -> dict[str, list[Any]]:
    """Return each setting that a metric was measured with, of each network that has it; None where it is no matter."""
    settings = [network.values[metric].settings for network in networks]
    return {
        name: [own.get(name) for own in settings] for name in dict.fromkeys(name for own in settings for name in own)
    }


def require_one(what: str, networks: Sequence[Network], values: Sequence[Any], advice: str) -> None:
    """Check that those networks that have a value have one and the same."""
    different = differing(values)
    if len(different) > 1:
        (first, one), (other, value) = ((networks[place], values[place]) for place in different[:2])
        raise ComparisonError(
            f"records that cannot be compared: {what} is {one} in {first.name} ({first.group}) and "
            f"{value} in {other.name} ({other.group}); {advice}"
        )


def differing(values: Sequence[Any]) -> list[int]:
    """Return where each value is first found, but for None, which is no matter."""
    # As a file would hold them, in which there are no tuples.
    texts = [None if value is None else json.dumps(value, sort_keys=True, default=str) for value in values]
    return [texts.index(text) for text in dict.fromkeys(texts) if text is not None]
