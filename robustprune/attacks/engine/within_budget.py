"""What the nearest points that were found say of a budget."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from robustprune.attacks.engine.attack_result import AttackResult
from robustprune.attacks.engine.checks import BUDGET_SLACK, check_containment, check_sample_size
from robustprune.attacks.norms import over_samples
from robustprune.models import to_unit_range


def within_budget(result: AttackResult, images: Tensor, epsilon: float) -> AttackResult:
    """Return a minimum-norm attack's result at a budget: a sample is broken if its distance is at most ε, to rounding.

    ``images`` (N, …) are those that were attacked: those farther from the boundary come back as they are. The distances
    of all stay.
    """
    if result.distances is None:
        return result
    # With the slack of the budget itself, as the points of an earlier attack may be that long.
    clean, broken = to_unit_range(images.cpu()), result.distances <= epsilon * (1 + BUDGET_SLACK)
    adversarial = torch.where(over_samples(broken, clean), result.adversarial, clean)
    sizes = torch.where(broken, result.perturbation_norms, 0.0)
    fresh = {check.name: check for check in (check_containment(adversarial, sizes, epsilon), check_sample_size(broken))}
    return replace(
        result,
        epsilon=epsilon,
        adversarial=adversarial,
        broken=broken,
        adversarial_predictions=torch.where(broken, result.adversarial_predictions, result.clean_predictions),
        perturbation_norms=sizes,
        broken_at_step=torch.where(broken, result.broken_at_step, -1),
        broken_by=[
            name if is_broken else "" for name, is_broken in zip(result.broken_by, broken.tolist(), strict=True)
        ],
        checks=tuple(fresh.get(check.name, check) for check in result.checks),
        mitigated=None,
    )
