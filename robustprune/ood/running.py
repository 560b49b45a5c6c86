"""Running a detector, which may be anybody's, over the outputs of a network: whatever goes wrong is one clean error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from robustprune.errors import DetectorError, EvaluationError, RobustPruneError
from robustprune.ood.outputs import Outputs

# Images scored at a time: a detector may hold some copies of their features in float64.
_CHUNK = 4096


@contextmanager
def guarded_detector(name: str) -> Iterator[None]:
    """Run a detector without gradients; whatever it raises is an error of this package."""
    try:
        with torch.no_grad():
            yield
    except LinAlgError as error:
        raise DetectorError(str(error)) from error
    except RobustPruneError:
        raise
    except Exception as error:
        raise EvaluationError(
            f"detector {name!r} failed: {type(error).__name__}: {error}; leave it out, or mend it if it is yours"
        ) from error


def scores_of(detector: Callable[[Outputs], Tensor], outputs: Outputs, name: str) -> Tensor:
    """Return scores (N,) float64 on the CPU, all finite.

    Raises:
        DetectorError: The detector cannot compute them, some are not finite, or there are no images.
        EvaluationError: It failed.
    """
    if len(outputs) == 0:
        raise DetectorError("there are no images to score")
    with guarded_detector(name):
        rows = torch.split(torch.arange(len(outputs)), _CHUNK)
        scores = torch.cat([_scores(detector, outputs.take(chunk).double(), name) for chunk in rows])
    bad = int((~scores.isfinite()).sum())
    if bad:
        raise DetectorError(f"the scores of {bad} of {len(outputs)} images are NaN or infinite")
    return scores


def _scores(detector: Callable[[Outputs], Tensor], outputs: Outputs, name: str) -> Tensor:
    scores, n = detector(outputs), len(outputs)
    if not isinstance(scores, Tensor) or scores.shape != (n,):
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise EvaluationError(f"detector {name!r} must return a tensor of shape ({n},), it returned {found}")
    return scores.detach().double().cpu()
