"""Looking at a model before its numbers are believed: is it one function of one image at a time?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.ledger import Tally
from robustprune.attacks.engine.result import Check
from robustprune.attacks.engine.settings import Samples
from robustprune.attacks.requests import Attack
from robustprune.models import logit_gap, run_model, to_unit_range

PROBES = 16
# Of the largest logit: more than rounding does between runs, less than any defence does on purpose.
MOST_DIFFERENCE = 1e-4
# How near to ±1 the outputs of a tanh come.
ALMOST_ONE = 0.99
# Rounding may go other ways in a batch of another size.
MOST_COUPLING = 1e-3


def probe_model(
    model: nn.Module, samples: Samples, clean_logits: Tensor, request: Attack, place: torch.device, tally: Tally
) -> list[Check]:
    """Return the checks that take a few forward passes on clean images."""
    images = to_unit_range(samples.images[:PROBES].to(place)).clone()
    with torch.no_grad():
        first, second = run_model(model, images), run_model(model, images)
        alone = torch.cat([run_model(model, image[None]) for image in images[:2]])
        # The company an image keeps: a batch of other images around the same two.
        others = run_model(model, torch.cat([images[:2], images[2:].flip(0), 1 - images[:2]]))
    together, otherwise = (logits[: len(alone)] for logits in (first, others))
    tally.forwards += 3 * len(images) + 2 * len(alone)
    return [
        check_logits(clean_logits),
        check_randomness(first, second, request.eot),
        check_batch_coupling(alone, together, otherwise, is_random=_gap(first, second) > MOST_DIFFERENCE),
    ]


def check_logits(logits: Tensor) -> Check:
    """Outputs (N, K) squeezed into a range are squeezed again by cross-entropy, whose gradients then vanish.

    Log-probabilities are logits shifted, which no loss sees; classes masked by −∞ are passed over.
    """
    kept = logits.double().masked_fill(logits == -torch.inf, torch.nan)
    low, high = float(kept.nan_to_num(torch.inf).min()), float(kept.nan_to_num(-torch.inf).max())
    if low >= 0 and bool(((kept.nansum(dim=1) - 1).abs() < 1e-4).all()):
        return _squeezed("probabilities", "softmax")
    if low >= 0 and high <= 1:
        return _squeezed("all within [0, 1], as after a sigmoid", "sigmoid")
    # Logits may be as small, but do not come close to both ends.
    if -1 <= low < -ALMOST_ONE and ALMOST_ONE < high <= 1:
        return _squeezed("all within [−1, 1] up to its ends, as after a tanh", "tanh")
    if bool(((logits.double().exp().sum(dim=1) - 1).abs() < 1e-4).all()):
        return Check("logits", "PASS", "the outputs are log-probabilities, of which losses are those of logits")
    return Check("logits", "PASS", "the outputs are no probabilities")


def _squeezed(what: str, function: str) -> Check:
    return Check("logits", "WARN", f"the outputs are {what}, which blunts gradients; leave the {function} out")


def check_randomness(first: Tensor, second: Tensor, eot: int) -> Check:
    """A network that answers differently each time (n, K) has no gradient that points anywhere."""
    gap = _gap(first, second)
    detail = f"two passes over the same {len(first)} images differ by {gap:.2g} of the largest logit"
    if gap <= MOST_DIFFERENCE:
        return Check("randomness", "PASS", detail)
    if eot > 1:
        return Check("randomness", "WARN", f"{detail}; attacked through the mean of {eot} passes")
    return Check("randomness", "FAIL", f"{detail}; attack the mean of many passes (eot=20)")


def check_batch_coupling(alone: Tensor, together: Tensor, otherwise: Tensor, *, is_random: bool = False) -> Check:
    """Logits (n, K) of images alone, within a batch, and within another must agree."""
    if is_random:
        return Check("batch coupling", "INFO", "not judged, as the network answers differently each time")
    gap = max(_gap(together, alone), _gap(together, otherwise))
    detail = f"images alone and in batches differ by {gap:.2g} of the largest logit"
    if gap <= MOST_COUPLING:
        return Check("batch coupling", "PASS", detail)
    return Check("batch coupling", "FAIL", f"{detail}: an attack on one image changes the verdict on another")


def _gap(first: Tensor, second: Tensor) -> float:
    gap = logit_gap(first, second)
    return gap if gap == gap else torch.inf
