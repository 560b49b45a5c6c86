"""What an attack has spent, and what was odd on the way."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class FirstGradients:
    """When a stage of an attack first asked for them, samples with a usable gradient, and with one of exactly zero."""

    gradients: int = 0
    zeros: int = 0


@dataclass
class Counts:
    """What was spent, and what was odd, over a whole attack; the checks judge by it.

    Attributes:
        forwards: Samples × forward passes.
        gradients: Samples × gradients.
        without_graph: Gradients that could not be had, as the logits do not depend on the input for autograd.
        not_finite: Gradients with NaN or infinity, and logits that are no prediction.
        starts: Stage → its first gradients. An attack of one piece is a stage without a name.
        earlier_seconds: Wall time before an interruption, of an attack that was picked up.
    """

    forwards: int = 0
    gradients: int = 0
    without_graph: int = 0
    not_finite: int = 0
    starts: dict[str, FirstGradients] = field(default_factory=dict)
    earlier_seconds: float = 0.0

    def add_start(self, stage: str, start: FirstGradients) -> None:
        """Add the first gradients of a stage on some samples."""
        before = self.starts.setdefault(stage, FirstGradients())
        before.gradients += start.gradients
        before.zeros += start.zeros

    def add(self, other: Counts) -> None:
        """Add what was spent side by side."""
        for name in ("forwards", "gradients", "without_graph", "not_finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for stage, start in other.starts.items():
            self.add_start(stage, start)
        self.earlier_seconds = max(self.earlier_seconds, other.earlier_seconds)
