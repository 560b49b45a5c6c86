"""What an attack found, and how far it can be believed."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from robustprune.attacks.norms import write_budget
from robustprune.errors import AttackError
from robustprune.inference import predict_logits
from robustprune.runtime.file_kinds import ADVERSARIAL
from robustprune.runtime.files import write_atomically
from robustprune.runtime.html import html_table

Verdict = Literal["PASS", "WARN", "FAIL", "INFO"]

_SAVED = ["adversarial", "labels", "broken", "clean_predictions", "adversarial_predictions", "perturbation_norms"]
_SAVED += ["broken_at_step", "broken_by", "queries", "epsilon", "norm", "attack"]


@dataclass(frozen=True)
class Check:
    """One reason to believe, or not, the number an attack gives.

    Attributes:
        name: What was checked.
        verdict: FAIL withholds the number, WARN annotates it, INFO adds to it.
        detail: What was found, in a sentence.
    """

    name: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True)
class SampledPhase:
    """What the second phase of an attack, run on a random sample of the survivors of the first, says of all of them.

    Attributes:
        survivors: Samples that the first phase did not break.
        sampled: Survivors that the second phase attacked.
        broken: Those of them that it broke.
        interval: 95 % interval of the robust accuracy that both phases on all samples find.
        passes: Forward and gradient evaluations that these would take, by those of the sample.
    """

    survivors: int
    sampled: int
    broken: int
    interval: tuple[float, float]
    passes: int


@dataclass(frozen=True, eq=False)
class AttackResult:
    """The outcome of `run_attack`, one entry per sample in the order they came; all tensors on the CPU.

    Attributes:
        attack: Name of the attack.
        norm: Norm of the budget.
        epsilon: The budget, in units of [0, 1] pixels.
        options: Everything else that was in force, defaults included.
        adversarial: (N, …) float32 in [0, 1] within ε of the images; the image itself where it was
            broken to begin with.
        broken: (N,) bool, misclassified: computed anew on ``adversarial`` after the attack. A sample that
            sits on the decision boundary to within rounding may so differ from what the attack saw, as
            the batch it is computed in has changed.
        clean_predictions: (N,) int64.
        adversarial_predictions: (N,) int64.
        labels: (N,) int64.
        perturbation_norms: (N,) float64, in ``norm``, of what was added to ``adversarial``.
        broken_at_step: (N,) int64: −1 not broken, 0 broken without an attack, otherwise the query
            (a gradient or a forward pass, from 1, over all restarts) whose point first fooled the model; with
            ``eot``, and of minimum-norm attacks, the one of the point that is returned.
        broken_by: N names: the attack, or the part of an ensemble, that broke the sample; ``"clean"`` where
            none was needed, ``""`` where none succeeded.
        queries: (N,) int64, how often the model was asked about the sample during the attack.
        targets: (N,) int64, the classes to reach; None for an untargeted attack. With targets, "broken"
            means brought to the target.
        checks: The validity checks.
        gradient_evaluations: Samples × gradients computed.
        forward_evaluations: Samples × forward passes: those of the gradients, the clean one, the last, and
            those of the checks; not the few that make a frozen copy, nor those of attacks that checks make.
        seconds: Wall time; of an attack that was picked up from a state file, up to when that was last written too.
        sampled: What is known of survivors that the second phase of an ensemble was not run on; None where all parts
            were run on all samples. `robust_accuracy` then counts them as robust.
        distances: (N,) float64, the norm of the smallest perturbation that was found to break each sample, however
            large it is: 0 where none was needed, inf where none was found. None unless the attack kept the nearest
            points, as minimum-norm attacks do.
        mitigated: This result with what the doubtful checks suggest carried out; None where it was not asked for, or
            nothing was doubtful that an option or another attack answers.
    """

    attack: str
    norm: str
    epsilon: float
    options: dict[str, Any]
    adversarial: Tensor = field(repr=False)
    broken: Tensor = field(repr=False)
    clean_predictions: Tensor = field(repr=False)
    adversarial_predictions: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    perturbation_norms: Tensor = field(repr=False)
    broken_at_step: Tensor = field(repr=False)
    broken_by: list[str] = field(repr=False)
    queries: Tensor = field(repr=False)
    targets: Tensor | None = field(repr=False)
    checks: tuple[Check, ...]
    gradient_evaluations: int
    forward_evaluations: int
    seconds: float
    sampled: SampledPhase | None = None
    distances: Tensor | None = field(default=None, repr=False)
    mitigated: AttackResult | None = field(default=None, repr=False)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def initially_wrong(self) -> Tensor:
        """(N,) bool: misclassified without an attack.

        Such a sample is not attacked; with targets it is, unless it is taken for its target already.
        """
        return self.clean_predictions != self.labels

    @property
    def clean_accuracy(self) -> float:
        """Share of samples classified correctly without an attack."""
        return (self.n - int(self.initially_wrong.sum())) / self.n

    @property
    def robust_accuracy(self) -> float:
        """Share of samples the attack did not break; with targets, of those it did not bring there."""
        return (self.n - int(self.broken.sum())) / self.n

    @property
    def valid(self) -> bool:
        """Whether no check failed; otherwise the robust accuracy says nothing of the model."""
        return all(check.verdict != "FAIL" for check in self.checks)

    def _repr_html_(self) -> str:
        robust = f"{100 * self.robust_accuracy:.1f} %"
        rows = [
            ["clean accuracy", f"{100 * self.clean_accuracy:.1f} %", ""],
            ["robust accuracy", robust if self.valid else "not valid", "" if self.valid else "a check failed"],
            *([check.name, check.verdict, check.detail] for check in self.checks),
        ]
        aim = "" if self.targets is None else ", targeted"
        title = f"{self.attack} {write_budget(self.epsilon, self.norm)}{aim}, {self.n:,} images"
        return html_table(title, ["", "", ""], rows)


def save_adversarial(result: AttackResult, model: nn.Module, path: str | Path) -> float:
    """Write the images of an attack to an npz file, and return the accuracy on them once rounded to bytes.

    ``images`` are uint8 (N, H, W[, C]), rounded to the nearest, which may leave the ε-ball by half a step and may
    undo what the attack did; ``adversarial`` are the float32 images (N, C, H, W) themselves. With them ``labels``,
    ``broken``, ``clean_predictions``, ``adversarial_predictions``, ``rounded_predictions``, ``perturbation_norms``,
    ``broken_at_step``, ``broken_by``, ``queries``, ``epsilon``, ``norm``, ``attack`` and ``accuracy_after_rounding``.

    Raises:
        AttackError: The file cannot be written, or a file of another kind is there.
    """
    rounded = (result.adversarial * 255).round().byte()
    predictions = predict_logits(model, rounded).argmax(dim=1)
    accuracy = float((predictions == result.labels).double().mean())
    as_maps = rounded.numpy()
    if as_maps.ndim == 4:
        as_maps = as_maps.transpose(0, 2, 3, 1)
        as_maps = as_maps[..., 0] if as_maps.shape[-1] == 1 else as_maps
    own: dict[str, Any] = {name: np.asarray(getattr(result, name)) for name in _SAVED}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, images=as_maps, rounded_predictions=predictions.numpy(), accuracy_after_rounding=accuracy, **own
    )
    try:
        write_atomically(Path(path), buffer.getvalue(), ADVERSARIAL)
    except OSError as error:
        raise AttackError(f"the adversarial images cannot be written to {path}: {error.strerror}") from error
    return accuracy
