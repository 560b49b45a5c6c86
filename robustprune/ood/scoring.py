"""Fitting detectors and scoring sets, with a reason wherever a network gives a detector nothing to work with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from robustprune.errors import EvaluationError, RobustPruneError
from robustprune.ood.detector import Detector, make_detector
from robustprune.ood.errors import DetectorError
from robustprune.ood.outputs import Outputs

Scores = np.ndarray[Any, np.dtype[np.float64]]

# Images scored at a time: a detector may hold some copies of their features in float64.
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class FittedDetector:
    """A detector ready to score, or the reason why it is not."""

    name: str
    detector: Detector
    reason: str | None = None


def fit_detectors(names: Iterable[str], train: Outputs | None, held_out: Outputs | None) -> dict[str, FittedDetector]:
    """Return detectors by name, each fitted or with a reason why it cannot be.

    Args:
        names: As `make_detector` takes them.
        train: Outputs of training images, not augmented, with labels; None if there are none.
        held_out: Outputs of validation images likewise.

    Raises:
        UnknownNameError: There is no detector of a name.
        EvaluationError: It does not take the options given, or a plug-in failed.
    """
    detectors = {name: make_detector(name) for name in names}
    train = None if train is None else train.double()
    held_out = None if held_out is None else held_out.double()
    return {name: fit_detector(name, each, train, held_out) for name, each in detectors.items()}


def fit_detector(name: str, detector: Detector, train: Outputs | None, held_out: Outputs | None) -> FittedDetector:
    """Return one detector, fitted or with a reason why it cannot be; outputs are in float64."""
    return FittedDetector(name, detector, _fit(name, detector, train, held_out))


def needs_fitting(detector: Detector) -> bool:
    """Return whether a detector learns anything from training images."""
    return type(detector).fit is not Detector.fit


def score_outputs(fitted: FittedDetector, outputs: Outputs) -> Scores | str:
    """Return scores (N,) float64, all finite, or the reason why there are none.

    Raises:
        EvaluationError: A plug-in failed.
    """
    if fitted.reason is not None:
        return fitted.reason
    if len(outputs) == 0:
        return "there are no images to score"
    parts: list[Scores] = []
    with torch.no_grad():
        for chunk in outputs.chunks(_CHUNK):
            try:
                found = fitted.detector(chunk.double())
            except (DetectorError, LinAlgError) as error:
                return str(error)
            except RobustPruneError:
                raise
            except Exception as error:
                raise _failure(fitted.name, error) from error
            parts.append(_as_array(fitted.name, found, len(chunk)))
    scores = np.concatenate(parts)
    bad = int((~np.isfinite(scores)).sum())
    return _why_not_finite(bad, outputs) if bad else scores


def _fit(name: str, detector: Detector, train: Outputs | None, held_out: Outputs | None) -> str | None:
    if not needs_fitting(detector):
        return None
    if train is None or len(train) == 0:
        return "the data set has no training images to fit on"
    if held_out is None:
        # Only a detector that looks at them can tell that they are missing.
        held_out = Outputs(train.logits[:0], labels=train.need_labels()[:0])
    try:
        with torch.no_grad():
            detector.fit(train, held_out)
    except (DetectorError, LinAlgError) as error:
        return str(error)
    except RobustPruneError:
        raise
    except Exception as error:
        raise _failure(name, error) from error
    return None


def _as_array(name: str, scores: Any, n: int) -> Scores:
    if not isinstance(scores, torch.Tensor) or scores.shape != (n,):
        found = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise EvaluationError(f"detector {name!r} must return a tensor of shape ({n},), it returned {found}")
    return np.asarray(scores.double().cpu().numpy())


def _why_not_finite(bad: int, outputs: Outputs) -> str:
    causes = [
        f"{what} of {count} are"
        for what, tensor in (("logits", outputs.logits), ("features", outputs.features))
        if tensor is not None and (count := int((~tensor.isfinite()).any(dim=1).sum()))
    ]
    explanation = f"; the {' and the '.join(causes)} so themselves" if causes else ""
    return f"the scores of {bad} of {len(outputs)} images are NaN or infinite{explanation}"


def _failure(name: str, error: Exception) -> EvaluationError:
    return EvaluationError(
        f"detector {name!r} failed: {type(error).__name__}: {error}; leave it out, or mend it if it is yours"
    )
