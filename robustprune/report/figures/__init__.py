"""Figures, one kind a file: from records to drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from robustprune.records import Record
from robustprune.report.figures.block_scores import draw_block_scores
from robustprune.report.figures.calibration import draw_calibration, draw_risk_coverage
from robustprune.report.figures.corruption_figures import draw_corrupted, draw_corruptions
from robustprune.report.figures.drawing import Drawing, NotDrawnError
from robustprune.report.figures.figure_groups import FigureGroups, choose_groups
from robustprune.report.figures.mean_ranks import draw_ranks
from robustprune.report.figures.ood_detection import draw_detection
from robustprune.report.figures.robust_accuracy import draw_adversarial, draw_robust_accuracy
from robustprune.report.figures.style import styled
from robustprune.report.figures.tradeoff import draw_costs, draw_tradeoff
from robustprune.report.figures.training import draw_energy, draw_training

FIGURES: dict[str, Callable[[FigureGroups], Drawing | Iterable[Drawing]]] = {
    "accuracy vs. MACs": draw_tradeoff,
    "costs": draw_costs,
    "mean ranks": draw_ranks,
    "robust accuracy vs. ε": draw_robust_accuracy,
    "corruptions": draw_corruptions,
    "out-of-distribution detection": draw_detection,
    "risk–coverage curve": draw_risk_coverage,
    "calibration": draw_calibration,
    "block scores": draw_block_scores,
    "training": draw_training,
    "energy": draw_energy,
    "adversarial images": draw_adversarial,
    "corrupted images": draw_corrupted,
}
"""Name of a figure → function that draws it, in reading order."""


def draw_all(groups: Mapping[str, Sequence[Record]], left_out: dict[str, str] | None = None) -> Iterator[Drawing]:
    """Yield the figures that the records hold the data for, the first group being the dense one.

    ``left_out`` receives the reason for each figure that cannot be drawn.
    """
    shown = choose_groups(groups)
    for name, draw in FIGURES.items():
        try:
            with styled():
                found = draw(shown)
                drawings = [found] if isinstance(found, Drawing) else list(found)
        except NotDrawnError as reason:
            if left_out is not None:
                left_out[name] = str(reason)
        else:
            yield from drawings
