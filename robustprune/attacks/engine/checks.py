"""Whether an attack's number can be believed: one small function per check, each returning a `Check`.

Some judge by what the attack met with, others look at the model with a few passes on clean images: is it one function
of one image at a time?
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.attack_counts import Counts
from robustprune.attacks.engine.attack_result import Check
from robustprune.attacks.engine.indicators import check_stability
from robustprune.attacks.engine.samples import Samples
from robustprune.metrics import wilson_interval
from robustprune.models import logit_gap, model_device, run_model, run_uncompiled, to_unit_range

# A share of zero gradients up to which the attack is only annotated.
MOST_ZERO_GRADIENTS = 0.05
# What another attack may find in addition without a word.
MOST_FURTHER = 0.005
# Relative slack of the budget, for the rounding of its norm.
BUDGET_SLACK = 1e-5


def check_range() -> Check:
    """Images outside [0, 1] never get as far as a check; say that these were looked at."""
    return Check("range", "PASS", "all images lie in [0, 1]")


def check_mode(training_before: list[str], training_during: list[str]) -> Check:
    """Dropout and batch statistics make a moving target: no submodule may train while attacked."""
    if training_during:
        n, names = len(training_during), ", ".join(training_during[:3])
        detail = f"{n} submodules stayed in training mode, or went back to it, while attacked: {names}"
        return Check("mode", "FAIL", detail)
    if training_before:
        detail = f"{len(training_before)} submodules came in training mode; attacked in evaluation mode"
        return Check("mode", "INFO", detail)
    return Check("mode", "PASS", "every submodule was in evaluation mode")


def check_graph(counts: Counts) -> Check:
    """A gradient attack without gradients finds nothing, whatever the model."""
    if counts.without_graph:
        detail = (
            f"{counts.without_graph} of {counts.gradients} gradients do not exist: the logits are cut off from "
            f"the input (detach, no_grad, or a step autograd cannot follow)"
        )
        return Check("graph", "FAIL", detail)
    if counts.not_finite:
        return Check("graph", "FAIL", f"{counts.not_finite} logits or input gradients were NaN or infinite")
    if counts.gradients == 0:
        return Check("graph", "INFO", "no gradient was computed")
    return Check("graph", "PASS", f"all {counts.gradients} input gradients exist and are finite")


def check_zero_gradient(counts: Counts) -> Check:
    """A gradient of exactly zero at the start hides a sample from the attack; it is not robust for that.

    Judged on the loss in use: a saturated cross-entropy is found out, a margin loss may well pass. Of an attack
    in several parts, the part that sees best counts, as the samples are attacked by all of them.
    """
    starts = {stage: start for stage, start in counts.starts.items() if start.gradients}
    if not starts:
        return Check("zero gradient", "INFO", "no gradient was computed")
    shares = {stage: start.zeros / start.gradients for stage, start in starts.items()}
    worst, best = max(shares, key=lambda stage: shares[stage]), min(shares.values())
    where = f" in {worst}" if worst else ""
    detail = (
        f"{starts[worst].zeros} of {starts[worst].gradients} samples ({shares[worst]:.1%}) have an input gradient of "
        f"exactly zero{where}"
    )
    if shares[worst] == 0:
        return Check("zero gradient", "PASS", detail)
    detail += "; attack with loss='margin' as well, or without gradients"
    return Check("zero gradient", "FAIL" if best > MOST_ZERO_GRADIENTS else "WARN", detail)


def check_containment(adversarial: Tensor, sizes: Tensor, epsilon: float) -> Check:
    """The returned points (N, …) and the norms (N,) of perturbations are measured: ‖δ‖ ≤ ε(1 + 1e-5), in the box."""
    largest = float(sizes.max())
    low, high = (float(bound) for bound in adversarial.aminmax())
    if not (largest <= epsilon * (1 + BUDGET_SLACK) and low >= 0 and high <= 1):
        detail = (
            f"the largest perturbation is {largest:g} with epsilon {epsilon:g}, pixels run from {low:g} to {high:g}"
        )
        return Check("containment", "FAIL", detail)
    return Check("containment", "PASS", f"the largest perturbation is {largest:.6g}, epsilon {epsilon:.6g}")


def check_clean_agreement(is_right: Tensor, expected: float, *, draws_at_random: bool = False) -> Check:
    """The attack and the evaluator must look at the same model and data: normalization, split, label order.

    From 1000 samples on, one of them, or 0.05 points where that is more, may differ with a warning: batches of another
    size round differently. Of fewer, none may. Two passes of a network that draws at random may differ by what chance
    does to two samples of N, three deviations of it.
    """
    n, measured = len(is_right), float(is_right.double().mean())
    difference = abs(measured - expected)
    detail = f"clean accuracy is {measured:.4f} here and {expected:.4f} in the evaluation"
    if draws_at_random:
        mean = (measured + expected) / 2
        is_chance = difference <= 3 * math.sqrt(2 * mean * (1 - mean) / n) + 1 / n
        return Check("clean agreement", "PASS" if is_chance else "FAIL", f"{detail}, in one pass each")
    if difference * n < 0.5:
        return Check("clean agreement", "PASS", detail)
    is_rounding = difference * n < max(1.5, 0.0005 * n)
    return Check("clean agreement", "WARN" if is_rounding and n >= 1000 else "FAIL", detail)


def check_sample_size(broken: Tensor) -> Check:
    """State how far the robust accuracy is known: models inside each other's interval are not ranked."""
    n = len(broken)
    low, high = wilson_interval(n - int(broken.sum()), n)
    return Check("sample size", "INFO", f"{n} samples: robust accuracy in [{low:.4f}, {high:.4f}] (95 % Wilson)")


def perturbation_sizes(adversarial: Tensor, images: Tensor, norm: str) -> Tensor:
    """Return ‖adversarial − images‖ (N,) in float64, by torch's own norms rather than the attack's."""
    delta = (adversarial.double() - images.double()).flatten(1)
    order = {"linf": torch.inf, "l2": 2, "l1": 1, "l0": 0}[norm]
    sizes: Tensor = torch.linalg.vector_norm(delta, ord=order, dim=1)
    return sizes


PROBES = 16
# Of the largest logit: more than rounding does between runs, less than any defence does on purpose.
MOST_DIFFERENCE = 1e-4
# How near to ±1 the outputs of a tanh come.
ALMOST_ONE = 0.99
# Rounding may go other ways in a batch of another size.
MOST_COUPLING = 1e-3


def probe_model(model: nn.Module, samples: Samples, clean_logits: Tensor, eot: int, counts: Counts) -> list[Check]:
    """Return the checks that take a few passes on clean images; gradients only of attacks that use them."""
    images = to_unit_range(samples.images[:PROBES].to(model_device(model))).clone()
    with torch.no_grad():
        first, second = run_model(model, images), run_model(model, images)
        alone = torch.cat([run_model(model, image[None]) for image in images[:2]])
        # The company an image keeps: a batch of other images around the same two.
        others = run_model(model, torch.cat([images[:2], images[2:].flip(0), 1 - images[:2]]))
    together, otherwise = (logits[: len(alone)] for logits in (first, others))
    counts.forwards += 3 * len(images) + 2 * len(alone)
    is_random = _gap(first, second) > MOST_DIFFERENCE
    found = [
        check_logits(clean_logits),
        check_randomness(first, second, eot),
        check_batch_coupling(alone, together, otherwise, is_random=is_random),
    ]
    if is_random or not counts.gradients:
        why = "the network answers differently each time" if is_random else "no gradient was computed"
        return [*found, Check("stability", "INFO", f"not judged, as {why}")]
    with run_uncompiled(model):  # a derivative of its own would have to be compiled
        stability, passes = check_stability(model, images)
    counts.forwards += passes
    return [*found, stability]


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
    return Check("logits", "PASS", "the outputs are not probabilities")


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
