"""What an attack makes grow: functions of logits (n, K) and labels (n,) to one number per sample (n,).

A class that the network masks, by a logit of −∞, counts as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from robustprune.errors import AttackError
from robustprune.registry import suggest

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return −log softmax(z)_y; it saturates where the network is very sure."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return max_{j≠y} z_j − z_y, positive when misclassified (Carlini & Wagner 2017, f₆, unclipped)."""
    is_label = F.one_hot(labels, logits.shape[1]).bool()
    best_other = logits.masked_fill(is_label, -torch.inf).amax(dim=1)
    return best_other - logits.gather(1, labels[:, None]).squeeze(1)


def difference_of_logits_ratio(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the margin over z_(1) − z_(3), blind to shift and scale of logits (Croce & Hein 2020).

    Raises:
        AttackError: Fewer than three classes, where the third largest logit does not exist.
    """
    if logits.shape[1] < 3:
        raise AttackError(f"the loss 'dlr' needs at least 3 classes, the model has {logits.shape[1]}; use 'margin'")
    largest = logits.topk(3, dim=1).values  # (n, 3)
    return _ratio(margin(logits, labels), largest[:, 0] - largest[:, 2])


def margin_against(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """Return z_r − z_y for one other class r per sample."""
    return (logits.gather(1, rivals[:, None]) - logits.gather(1, labels[:, None])).squeeze(1)


def difference_of_logits_ratio_against(logits: Tensor, labels: Tensor, rivals: Tensor) -> Tensor:
    """Return (z_r − z_y) / (z_(1) − (z_(3) + z_(4))/2), the targeted form (Croce & Hein 2020, eq. 7).

    With three classes there is no fourth logit, and the third stands for both; two leave only the difference.
    """
    largest = logits.topk(min(4, logits.shape[1]), dim=1).values
    difference = margin_against(logits, labels, rivals)
    if logits.shape[1] < 3:
        return difference
    third, fourth = largest[:, 2], largest[:, -1]
    return _ratio(difference, largest[:, 0] - torch.where(fourth.isfinite(), (third + fourth) / 2, third))


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "dlr": difference_of_logits_ratio}


TARGETED_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "margin": margin_against,
    "dlr": difference_of_logits_ratio_against,
}


def get_loss(loss: str | Loss) -> Loss:
    """Return the loss called ``loss``, or raise an `AttackError`; a function is taken as it is."""
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise AttackError(f"there is no loss called {loss!r}.{suggest(str(loss), LOSSES)} Known: {', '.join(LOSSES)}.")
    return LOSSES[loss]


def _ratio(difference: Tensor, spread: Tensor) -> Tensor:
    """Return differences (n,) over spreads (n,); alone where a class that is masked takes part in either."""
    is_usual = difference.isfinite() & spread.isfinite()
    return difference / (torch.where(is_usual, spread, torch.ones_like(spread)) + 1e-12)
