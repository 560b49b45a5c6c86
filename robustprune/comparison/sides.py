"""The two sides of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from robustprune.comparison.networks import Network


@dataclass(frozen=True)
class Sides:
    """The dense networks and those of one candidate.

    Attributes:
        candidate: Its name.
        dense: In the order of their seeds.
        own: Likewise.
    """

    candidate: str
    dense: Sequence[Network]
    own: Sequence[Network]

    @property
    def networks(self) -> list[Network]:
        """All of them."""
        return [*self.dense, *self.own]

    @property
    def pairs(self) -> list[tuple[Network, Network]]:
        """Networks of one seed: all in pairs, or none. One network on either side is a pair whatever its seed."""
        seeds = [[network.seed for network in side] for side in (self.dense, self.own)]
        alike = seeds[0] == seeds[1] and None not in seeds[0]
        return list(zip(self.dense, self.own, strict=True)) if alike or len(self.networks) == 2 else []

    def name(self, some: Sequence[Network]) -> str:
        """Return what some of the networks are called: their group, and seeds where they are not the whole of it."""
        texts = []
        for group, all_of_it in (("dense", self.dense), (self.candidate, self.own)):
            among = [network for network in all_of_it if network in some]
            seeds = ", ".join("?" if network.seed is None else str(network.seed) for network in among)
            if among:
                texts.append(group if len(among) == len(all_of_it) else f"{group} (seed {seeds})")
        return " and ".join(texts)
