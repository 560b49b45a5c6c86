"""Maximum softmax probability of a calibrated network: −max_k softmax(f / T*)_k.

T* has the least negative log-likelihood on held-out images. Guo et al. 2017, "On Calibration of Modern Neural
Networks", arXiv:1706.04599, section 4.2. There is no such T* where every held-out image is classified correctly, as
then any colder temperature is more likely, nor where the logits do not know the labels. OpenOOD takes what 50 small
steps from T = 1.5 arrive at; here T stays at 1, and the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from scipy.optimize import brentq
from torch import Tensor

from robustprune.errors import DetectorError
from robustprune.ood.detector import Detector
from robustprune.ood.detectors.msp import MSP
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs


@dataclass
class Temperature(Detector):
    """Maximum softmax probability at the temperature that calibrates the network best."""

    temperature: float = field(default=1.0, init=False)

    @formula
    def score(logits: Tensor, temperature: float) -> Tensor:
        """Return −max_k softmax(f / T)_k (N,) of logits (N, K), as `MSP.score` does."""
        return MSP.score(logits / temperature)

    def learn(self, train: Outputs, held_out: Outputs) -> None:
        """Find the temperature on the held-out images; it stays 1 where none is best, with a remark."""
        if len(held_out) == 0:
            raise DetectorError("there are no validation images to find the temperature on")
        try:
            self.temperature, self.remark = best_temperature(held_out.logits, held_out.need_labels()), None
        except NoTemperatureError as error:
            self.temperature, self.remark = 1.0, f"{error}; it is left at 1, which is msp"


class NoTemperatureError(DetectorError):
    """No temperature is the best."""


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return T > 0 of least mean negative log-likelihood of logits (N, K) / T for labels (N,).

    In 1/T the likelihood is concave, so the root of its slope is the only one. The T of logits times c is c times
    theirs.

    Raises:
        NoTemperatureError: The likelihood rises all the way to T = 0, all the way to T = ∞, or not at all.
        DetectorError: The logits are not finite (but for −∞, of a class that is ruled out and no label), or their
            differences are not.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    best = logits.amax(dim=1)
    if not bool(own.isfinite().all() and best.isfinite().all()):
        raise DetectorError("some logits of the validation images are NaN or infinite")
    # Relative to the label's, on a scale of their own: neither changes what is likely, but for T by that scale.
    is_possible = ~logits.isneginf()
    margins = (logits - own[:, None]).where(is_possible, 0)
    scale = float(margins.abs().max())
    if scale == float("inf"):
        raise DetectorError("some logits of the validation images are too large to be compared")
    if scale == 0:
        raise NoTemperatureError("all logits of the validation images are equal, so no temperature is the best")
    margins = margins / scale
    floor = torch.zeros_like(margins).masked_fill(~is_possible, -torch.inf)

    def slope(inverse: float) -> float:
        return float(((margins * inverse + floor).softmax(dim=1) * margins).sum(dim=1).mean())

    if bool((best == own).all()):
        raise NoTemperatureError(
            f"all {len(logits)} validation images are classified correctly, so no temperature is the best"
        )
    if slope(0.0) >= 0:
        raise NoTemperatureError(
            "the logits do not know the labels of the validation images, so no temperature is best"
        )
    coldest = 1.0
    while slope(coldest) < 0:
        coldest *= 2
    return scale / float(brentq(slope, 0.0, coldest, xtol=1e-14, rtol=1e-13, maxiter=500))
