"""Detectors that look at the logits f alone; p = softmax(f).

`msp` −max_k p_k: a network is less sure of what it does not know. Hendrycks & Gimpel 2017, "A Baseline for Detecting
Misclassified and Out-of-Distribution Examples", arXiv:1610.02136. A network that is very sure has max p = 1 to the last
digit for many images, which would tie them. So a billionth of what grows with max p and does not end at 1 is added:
images rank as max p would without rounding.

`max_logit` −max_k f_k: without the softmax, which hides how large the logits are. Hendrycks et al. 2022, "Scaling
Out-of-Distribution Detection for Real-World Settings", arXiv:1911.11132.

`energy` −T·log Σ_k exp(f_k / T): the free energy. Liu et al. 2020, "Energy-based Out-of-distribution Detection",
arXiv:2010.03759, equation 4.

`entropy` −Σ_k p_k·log p_k, in nats: how evenly a network spreads its belief. Named as a baseline by Hendrycks & Gimpel
2017; Chan et al. 2021 (arXiv:2012.06575).

`gen` Σ p^γ (1 − p)^γ over the largest M probabilities: a generalized entropy that small ones weigh on too. Liu,
Lochman & Zach 2023, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", CVPR, equation 4;
γ = 0.1, M = 100 on ImageNet and all classes where there are fewer.

`temperature` −max_k softmax(f / T*)_k, T* of least negative log-likelihood on held-out images: `msp` of a calibrated
network. Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, section 4.2. There is no such T*
where every held-out image is classified correctly, as then any colder temperature is more likely, nor where the logits
do not know the labels. OpenOOD takes what 50 small steps from T = 1.5 arrive at; here T stays at 1, and the result says
so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.nn.functional import logsigmoid

from robustprune.errors import DetectorError
from robustprune.ood.detector import Count, Detector, Options, Positive
from robustprune.ood.outputs import Outputs

_TIE_BREAK = 1e-9


@dataclass
class MSP(Detector):
    """Maximum softmax probability."""

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        """Return −max_k p_k (N,), to a millionth, of logits (N, K); in float64, and without ties by rounding."""
        logits = logits.double()
        # Where one class alone is possible the odds are −∞.
        odds = log_odds_against(logits).clamp(min=torch.finfo(logits.dtype).min)
        return _TIE_BREAK * odds.asinh() - logits.softmax(dim=1).amax(dim=1)


@dataclass
class MaxLogit(Detector):
    """Largest logit."""

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        """Return −max_k f_k (N,) of logits (N, K)."""
        return -logits.amax(dim=1)


@dataclass
class Energy(Detector):
    """Free energy of the logits."""

    temperature: Positive = 1.0

    @staticmethod
    def score(logits: Tensor, temperature: float = 1.0) -> Tensor:
        """Return −T·logsumexp(f / T) (N,) of logits (N, K)."""
        return -temperature * (logits / temperature).logsumexp(dim=1)


@dataclass
class Entropy(Detector):
    """Entropy of the softmax."""

    @staticmethod
    def score(logits: Tensor) -> Tensor:
        """Return the entropy (N,) of logits (N, K)."""
        log_p = logits.log_softmax(dim=1)
        # A class that is ruled out, by a logit of −∞, adds nothing.
        return -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(dim=1)


@dataclass
class GEN(Detector):
    """Generalized entropy."""

    gamma: Positive = 0.1
    classes: Count = 100
    tried: ClassVar[Options] = {"gamma": (0.01, 0.1, 0.5, 1, 2, 5, 10)}

    @staticmethod
    def score(logits: Tensor, gamma: float = 0.1, classes: int = 100) -> Tensor:
        """Return the generalized entropy (N,) of the ``classes`` most probable ones, from logits (N, K)."""
        log_p = logits.log_softmax(dim=1).topk(min(classes, logits.shape[1]), dim=1).values
        # The largest p may round to 1; the others are ½ at most.
        log_rest = torch.cat([logsigmoid(log_odds_against(logits))[:, None], (-log_p[:, 1:].exp()).log1p()], dim=1)
        return (gamma * (log_p + log_rest)).exp().sum(dim=1)


@dataclass
class Temperature(Detector):
    """Maximum softmax probability at the temperature that calibrates the network best."""

    temperature: float = field(default=1.0, init=False)

    @staticmethod
    def score(logits: Tensor, temperature: float) -> Tensor:
        """Return −max_k softmax(f / T)_k (N,) of logits (N, K), as `MSP.score` does."""
        return MSP.score(logits / temperature)

    def fit(self, train: Outputs, held_out: Outputs) -> None:
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


def log_odds_against(logits: Tensor) -> Tensor:
    """Return log((1 − p) / p) (N,), p the largest softmax probability of logits (N, K), exact where p rounds to 1."""
    best, predicted = logits.max(dim=1, keepdim=True)
    others = logits.scatter(1, predicted, -torch.inf).logsumexp(dim=1)
    return others - best.squeeze(1)
