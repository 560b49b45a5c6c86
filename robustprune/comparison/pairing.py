"""Two groups of networks that are compared, paired by seed, and whether their metrics were measured alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robustprune.comparison.compared_networks import Network
from robustprune.comparison.metric import Metric
from robustprune.errors import ComparisonError


@dataclass(frozen=True)
class Pairing:
    """A candidate's networks and those that they are compared with, both sorted by seed.

    Attributes:
        candidate: Name of the candidate.
        against: Name of the networks that it is compared with.
        reference: The networks that it is compared with.
        own: The candidate's networks.
    """

    candidate: str
    against: str
    reference: Sequence[Network]
    own: Sequence[Network]

    @property
    def networks(self) -> list[Network]:
        """All networks of both groups."""
        return [*self.reference, *self.own]

    @property
    def pairs(self) -> list[tuple[Network, Network]]:
        """Reference and candidate of each seed; empty unless both have the same seeds, or one network each."""
        seeds = [[network.seed for network in side] for side in (self.reference, self.own)]
        alike = seeds[0] == seeds[1] and None not in seeds[0]
        return list(zip(self.reference, self.own, strict=True)) if alike or len(self.networks) == 2 else []

    def name(self, some: Sequence[Network]) -> str:
        """Return some of the networks in words: the name of their group, and their seeds where it has others."""
        texts = []
        for group, all_of_it in ((self.against, self.reference), (self.candidate, self.own)):
            among = [network for network in all_of_it if network in some]
            seeds = ", ".join("?" if network.seed is None else str(network.seed) for network in among)
            if among:
                texts.append(group if len(among) == len(all_of_it) else f"{group} (seed {seeds})")
        return " and ".join(texts)


def measurement_settings(metric: Metric, networks: Sequence[Network]) -> dict[str, list[Any]]:
    """Return setting → its value for each network, of a metric that all of them have; None where any value will do."""
    settings = [network.values[metric].settings for network in networks]
    return {
        name: [own.get(name) for own in settings] for name in dict.fromkeys(name for own in settings for name in own)
    }


def require_equal(what: str, networks: Sequence[Network], values: Sequence[Any], advice: str) -> None:
    """Check that all networks have the same value, apart from those that have None."""
    different = distinct_places(values)
    if len(different) > 1:
        (first, one), (other, value) = ((networks[place], values[place]) for place in different[:2])
        raise ComparisonError(
            f"these records cannot be compared: {what} is {one} in {first.name} ({first.group}) and "
            f"{value} in {other.name} ({other.group}); {advice}"
        )


def distinct_places(values: Sequence[Any]) -> list[int]:
    """Return the index of the first occurrence of each value, without None."""
    # As JSON: a record from a file has lists where one in memory has tuples.
    texts = [None if value is None else json.dumps(value, sort_keys=True, default=str) for value in values]
    return [texts.index(text) for text in dict.fromkeys(texts) if text is not None]
