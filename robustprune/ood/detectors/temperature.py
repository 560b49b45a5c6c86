"""−max_k softmax(f / T*)_k, T* of least negative log-likelihood on held-out images: `msp` of a calibrated network.

Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from scipy.optimize import brentq
from torch import Tensor

from robustprune.ood.detector import Detector
from robustprune.ood.detectors.msp import Msp
from robustprune.ood.errors import DetectorError
from robustprune.ood.outputs import Outputs

_LOWEST, _HIGHEST = 1e-2, 1e2


@dataclass
class Temperature(Detector):
    """Maximum softmax probability at the temperature that calibrates the network best."""

    temperature: float = field(default=1.0, init=False)

    @staticmethod
    def score(logits: Tensor, temperature: float) -> Tensor:
        """Return −max_k softmax(f / T)_k (N,) of logits (N, K)."""
        return Msp.score(logits / temperature)

    def fit(self, train: Outputs, held_out: Outputs) -> None:
        """Find the temperature on the held-out images."""
        if len(held_out) == 0:
            raise DetectorError("there are no validation images to find the temperature on")
        self.temperature = best_temperature(held_out.logits, held_out.need_labels())

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        return self.score(outputs.logits, self.temperature)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return T in [0.01, 100] of least mean negative log-likelihood of logits (N, K) / T for labels (N,).

    In 1/T the likelihood is concave, so the root of its slope is the only one. There is none within the bounds
    if every image is classified correctly, where the coldest wins, or if the logits do not know the labels,
    where the hottest does.

    Raises:
        DetectorError: The logits are not finite.
    """
    if not bool(logits.isfinite().all()):
        raise DetectorError("some logits of the validation images are NaN or infinite")
    own = logits.gather(1, labels[:, None]).squeeze(1)

    def slope(inverse: float) -> float:
        expected = ((logits * inverse).softmax(dim=1) * logits).sum(dim=1)
        return float((expected - own).mean())

    if slope(1 / _LOWEST) <= 0:
        return _LOWEST
    if slope(1 / _HIGHEST) >= 0:
        return _HIGHEST
    with torch.no_grad():
        return 1 / float(brentq(slope, 1 / _HIGHEST, 1 / _LOWEST, xtol=1e-12))
