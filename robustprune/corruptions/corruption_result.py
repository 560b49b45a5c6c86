"""What an evaluation under corruptions found: a part of the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

Table = dict[str, list[float]]
"""Corruption → a figure for each severity, 1 to 5."""


class SeverityEntry(BaseModel):
    """Means over the corruptions at one severity (the fifteen, where they are all there, else those that are)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    severity: int
    accuracy: float
    nll: float
    ece: float
    brier: float


class AgainstDense(BaseModel):
    """Errors relative to those of a reference network on the same images.

    ``mce_vs_dense`` is the mean over corruptions of Σₛ E / Σₛ E_dense; the relative one takes E − E_clean on either
    side, over the corruptions under which the reference loses at all. Neither is the mCE of ImageNet-C, whose
    reference is AlexNet.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    sha256: str
    path: str | None
    mce_vs_dense: float | None
    relative_mce_vs_dense: float | None


class CorruptionResult(BaseModel):
    """Accuracy under corruptions.

    Attributes:
        source: ``NAME-c-like`` for images made here, else the folder of a published set.
        published: Corruption → whether its file is the published one; None where no checksum is known.
        missing: Corruptions that were asked for and are not in the folder.
        n: Images per cell.
        scale: What lengths in pixels were multiplied by; None for published files.
        mean_accuracy: Over the fifteen headline corruptions and five severities; None unless all are there.
        mean_error: One minus that; not normalized by any reference.
        mean_error_19: With the four extra corruptions.
        mean_error_evaluated: Over those that were evaluated, whichever they are; None if no image was changed.
        relative_mean_error: ``mean_error_evaluated`` minus the error on the images as they are.
        table: Accuracy.
        nll: Negative log-likelihood in nats.
        ece: Expected calibration error, 15 bins.
        brier: Brier score.
        consistency: Share of images with the same prediction as without corruption; None where it is not known
            which image is which.
        by_severity: Means over the corruptions.
        unchanged: Corruption → severities at which it left every image as it was. They stand in the tables, and are
            left out of every mean: nothing was withstood.
        repeated: Corruption → severities at which its images are those of a lower severity.
        dense: The comparison with a reference network, where one was given.
        seconds: Wall time, of making the images and of all networks that were shown them.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    source: str
    published: dict[str, bool | None]
    missing: list[str]
    n: int
    scale: float | None
    mean_accuracy: float | None
    mean_error: float | None
    mean_error_19: float | None
    mean_error_evaluated: float | None
    relative_mean_error: float | None
    table: Table
    nll: Table
    ece: Table
    brier: Table
    consistency: Table | None
    by_severity: list[SeverityEntry]
    unchanged: dict[str, list[int]] = {}
    repeated: dict[str, list[int]] = {}
    dense: AgainstDense | None = None
    seconds: float

    def counted(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """Return which of some corruptions at which severities count in a mean: those that changed an image."""
        return counted_cells(names, self.unchanged)


def counted_cells(names: Iterable[str], unchanged: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
    """Return corruptions with severities, but for those that changed no image."""
    return [(name, severity) for name in names for severity in range(1, 6) if severity not in unchanged.get(name, ())]


class ShiftEntry(BaseModel):
    """Accuracy on images of the same classes from elsewhere; ``gap``: how much less than on the images evaluated."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    gap: float
