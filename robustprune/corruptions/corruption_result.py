"""What an evaluation under corruptions found: a part of the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

Table = dict[str, list[float]]
"""Corruption → a figure for each severity, 1 to 5."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class SeverityEntry(_Part):
    """Means over the corruptions at one severity (the fifteen, where they are all there, else those that are)."""

    severity: int
    accuracy: float
    nll: float
    ece: float
    brier: float


class AgainstDense(_Part):
    """Errors relative to those of a reference network on the same images.

    ``mce_vs_dense`` is the mean over corruptions of Σₛ E / Σₛ E_dense; the relative one takes E − E_clean on either
    side, over the corruptions under which the reference loses at all. Neither is the mCE of ImageNet-C, whose
    reference is AlexNet.
    """

    sha256: str
    path: str | None
    mce_vs_dense: float | None
    relative_mce_vs_dense: float | None


class CorruptionResult(_Part):
    """Accuracy under corruptions.

    Means are None unless all that they are over are there. What left every image as it was stands in the tables, and is
    left out of every mean: nothing was withstood.
    """

    source: str  # NAME-c-like for images made here, else the folder of a published set
    published: dict[str, bool | None]  # whether its file is the published one; None where no checksum is known
    missing: list[str]  # what was asked for and is not in the folder
    n: int  # images per cell
    scale: float | None  # what lengths in pixels were multiplied by; None for published files
    mean_accuracy: float | None  # over the fifteen headline corruptions and five severities
    mean_error: float | None  # one minus that; not normalized by any reference
    mean_error_19: float | None  # with the four extra corruptions
    mean_error_evaluated: float | None  # over those that were evaluated, whichever they are
    relative_mean_error: float | None  # that minus the error on the images as they are
    table: Table  # accuracy
    nll: Table  # negative log-likelihood in nats
    ece: Table  # expected calibration error, 15 bins
    brier: Table
    consistency: Table | None  # share of images predicted as without corruption; None where none is matched with one
    by_severity: list[SeverityEntry]  # means over the corruptions
    unchanged: dict[str, list[int]] = {}  # severities at which it left every image as it was
    repeated: dict[str, list[int]] = {}  # severities at which its images are those of a lower severity
    dense: AgainstDense | None = None  # the comparison with a reference network, where one was given
    seconds: float  # wall time, of making the images and of all networks that were shown them

    def counted(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Return which of some corruptions at which severities count in a mean: those that changed an image."""
        return counted_cells(names, self.unchanged)


def counted_cells(names: Iterable[str], unchanged: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """Return corruptions with severities, but for those that changed no image."""
    return [(name, severity) for name in names for severity in range(1, 6) if severity not in unchanged.get(name, ())]


class ShiftEntry(_Part):
    """Accuracy on images of the same classes from elsewhere; ``gap``: how much less than on the images evaluated."""

    name: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    gap: float
