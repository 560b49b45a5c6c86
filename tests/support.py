"""Stand-ins that several tests share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """The part of an image set that shapes a network."""

    channels: int = 3
    image_size: tuple[int, int] = (32, 32)
    num_classes: int = 10

    @property
    def mean(self) -> tuple[float, ...]:
        return (0.4,) * self.channels

    @property
    def std(self) -> tuple[float, ...]:
        return (0.2,) * self.channels
