"""A figure of the report with all that is said of it in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robustprune.report.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure.

    Attributes:
        name: Stem of its files, in small letters with hyphens.
        title: What it shows, in a few words.
        caption: How to read it: what is drawn, from how many images and seeds, what bands and bars mean.
        alt: What is found in it, in words and numbers, for those who do not see it.
        figure: The picture.
        data: The numbers behind it.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure = field(repr=False)
    data: Table | None = field(default=None, repr=False)


class LeftOutError(Exception):
    """The records do not hold what a figure shows; the message says what is missing."""
