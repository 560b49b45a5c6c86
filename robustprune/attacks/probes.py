"""Looking at a model before its numbers are believed: is it one function of one image at a time?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustprune.attacks.ledger import Tally
from robustprune.attacks.result import Check
from robustprune.attacks.settings import Samples, Settings
from robustprune.inference import logit_gap, run_model, to_unit_range

PROBES = 16
# Of the largest logit: more than rounding does between runs, less than any defence does on purpose.
MOST_DIFFERENCE = 1e-4
# Rounding may go other ways in a batch of another size.
MOST_COUPLING = 1e-3


def probe_model(
    model: nn.Module, samples: Samples, clean_logits: Tensor, settings: Settings, place: torch.device, tally: Tally
) -> list[Check]:
    """Return the checks that take a few forward passes on clean images."""
    images = to_unit_range(samples.images[:PROBES].to(place)).clone()
    with torch.no_grad():
        first, second = run_model(model, images), run_model(model, images)
        alone = torch.cat([run_model(model, image[None]) for image in images[:2]])
        # The company an image keeps: a batch of other images around the same two.
        again = run_model(model, torch.cat([images[:2], images[2:].flip(0), 1 - images[:2]]))[:2]
    tally.forwards += 3 * len(images) + 2 * len(alone)
    return [
        check_logits(clean_logits),
        check_randomness(first, second, settings.eot),
        check_batch_coupling(alone, first[:2], again, is_random=_gap(first, second) > MOST_DIFFERENCE),
    ]


def check_logits(logits: Tensor) -> Check:
    """Probabilities in place of logits (N, K) are squeezed twice by cross-entropy, whose gradients then vanish."""
    sums = logits.double().exp().sum(dim=1)
    is_probability = (logits.min() >= 0) & ((logits.double().sum(dim=1) - 1).abs() < 1e-4).all()
    if bool(is_probability):
        return Check("logits", "WARN", "the outputs are probabilities, which blunt gradients; leave the softmax out")
    if bool(((sums - 1).abs() < 1e-4).all()):
        return Check("logits", "WARN", "the outputs are log-probabilities; leave the log-softmax out")
    return Check("logits", "PASS", "the outputs are no probabilities")


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
