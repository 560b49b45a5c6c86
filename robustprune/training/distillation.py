"""Distillation: a network learns from the logits of a teacher as well as from the labels.

The loss is (1 − w) · L + w · T² · KL(teacher(x) / T ‖ student(x′) / T): L is the recipe's loss without a teacher, w its
``distill``, T its ``distill_temperature`` (Hinton, Vinyals & Dean 2015, arXiv:1503.02531, section 2). In training as
usual x′ is x. In adversarial training x′ is x as attacked, while the teacher sees x itself, as in adversarially robust
distillation (Goldblum et al. 2020, arXiv:1905.09747, equation 3); there, L is on x, here on x′.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.errors import TrainingError
from robustprune.models import logits_of
from robustprune.training.recipes import Recipe


def distilled_loss(loss: Tensor, logits: Tensor, images: Tensor, recipe: Recipe, teacher: nn.Module | None) -> Tensor:
    """Return a step's loss with the teacher's part; as it is without a teacher.

    Args:
        loss: The recipe's own, a mean over images.
        logits: (n, K) of the student, that the loss was computed from.
        images: (n, C, H, W) in [0, 1], not attacked; the teacher is in evaluation mode.
        recipe: Its weight and temperature.
        teacher: From images to logits (n, K).

    Raises:
        TrainingError: The teacher tells other classes apart.
    """
    if teacher is None or recipe.distill == 0:
        return loss
    with torch.no_grad():
        taught = logits_of(teacher, images)
    if taught.shape != logits.shape:
        raise TrainingError(
            f"the teacher has {taught.shape[1]} classes and the network {logits.shape[1]}; distillation needs the same"
        )
    temperature = recipe.distill_temperature
    own, other = (F.log_softmax(each / temperature, dim=1) for each in (logits, taught.to(logits.dtype)))
    divergence = F.kl_div(own, other, reduction="batchmean", log_target=True)
    return (1 - recipe.distill) * loss + recipe.distill * temperature**2 * divergence
