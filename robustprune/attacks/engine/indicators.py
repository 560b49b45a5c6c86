"""Indicators of attack failure: did the attack do what it could, and did the gradients lead it?

Pintor, Demetrio, Sotgiu, Demontis, Carlini, Biggio & Roli 2022, arXiv:2106.09947, name six. Here are those that take no
attack of their own and that no older check covers; docs/attacks.md says which check is which of the six.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.attack_result import Check
from robustprune.attacks.losses import margin
from robustprune.models import model_type, run_model
from robustprune.runtime.randomness import seeded_generator

STEP = 1 / 255
"""Length of the step that gradients are compared with, in [0, 1] pixels."""
MOVED = 64
"""Entries of an image that it moves: of many more, the margin of a sound network would bend as well."""
MOST_BENT = 0.5
"""Sound networks on digits are off by 0.03 at most, shattered ones by 0.9 and more."""
MOST_LATE = 0.05
"""Share of its whole rise that the loss may still gain at the end (as in the published code of Pintor et al. 2022)."""


def check_stability(model: nn.Module, images: Tensor) -> tuple[Check, int]:
    """A short step along the gradient must change the margin as the gradient says (I1 and I2 there).

    The margin that is reached is compared with the one that is predicted, over images (n, …) in [0, 1], each moved by
    1/255 in up to 64 of its entries. Pintor et al. compare losses at random neighbours instead: that finds networks
    that jump, but not those whose gradients alternate too fast to lead anywhere. Returns the passes that it took, too.
    """
    if model_type(model) not in (torch.float32, torch.float64):
        return Check("stability", "INFO", "not judged, as so short a step is lost in the rounding of the network"), 0
    points = images.detach().clone().requires_grad_()
    logits = run_model(model, points)
    labels = logits.detach().argmax(dim=1)
    slopes = None
    if logits.requires_grad:
        (slopes,) = torch.autograd.grad(margin(logits, labels).sum(), points, allow_unused=True)
    if slopes is None:
        return Check("stability", "INFO", "not judged, as there are no gradients"), len(images)
    generator, size = seeded_generator("stability"), images[0].numel()
    chosen = torch.zeros(size)
    chosen[torch.randperm(size, generator=generator)[:MOVED]] = STEP
    moved = (images + chosen.to(images).reshape(images.shape[1:]) * slopes.sign()).clamp(0, 1)
    with torch.no_grad():
        found = margin(run_model(model, moved), labels) - margin(logits.detach(), labels)
    predicted = (slopes * (moved - images)).flatten(1).sum(dim=1)
    whole = float(predicted.abs().double().sum())
    if whole == 0:
        return Check("stability", "INFO", "not judged, as all gradients are zero"), 2 * len(images)
    bent = float((found - predicted).abs().double().sum()) / whole
    detail = f"a step of 1/255 along the gradient changes the margin by other than the gradient says, {bent:.0%} of it"
    if bent <= MOST_BENT:
        return Check("stability", "PASS", detail), 2 * len(images)
    advice = "gradients lead nowhere; attack without them ('square')"
    return Check("stability", "WARN", f"{detail}: {advice}"), 2 * len(images)


def check_silent_success(was_silent: Tensor | None) -> Check:
    """What was broken on the way must come back broken (I3 there): (N,) bool, the samples of which it did not.

    The best point is kept, unless the selection is the last one. None where the attack keeps points by itself.
    """
    if was_silent is None:
        return Check("silent success", "INFO", "which points the attack tried on its way is not known")
    lost = int(was_silent.sum())
    if lost:
        detail = f"{lost} of {len(was_silent)} samples were broken on the way but not at their last point"
        return Check("silent success", "WARN", f"{detail}; return the best (selection='best')")
    return Check("silent success", "PASS", "no sample was broken on the way and came back unbroken")


def check_convergence(rise: Tensor, late_rise: Tensor, left: Tensor) -> Check:
    """At its end the attack must not gain on the samples that are left (I4 there).

    Args:
        rise: (N,) how far the best margin of each sample rose; NaN where the attack had too few queries to tell.
        late_rise: (N,) how far it did over the last tenth of the queries.
        left: (N,) bool, the samples that were not broken.
    """
    judged = left & rise.isfinite()
    if not bool(judged.any()):
        what = "no sample is left" if not bool(left.any()) else "the attack has no course of several queries"
        return Check("convergence", "INFO", f"not judged, as {what}")
    whole, late = (float(each[judged].double().sum()) for each in (rise, late_rise))
    n = int(judged.sum())
    if whole <= 0:
        detail = f"the margin did not rise on any of the {n} samples that are left"
        return Check("convergence", "WARN", f"{detail}; try another loss, or attack without gradients")
    detail = (
        f"of all that the margin of the {n} samples left rose, {late / whole:.1%} came in the last tenth of the queries"
    )
    if late <= MOST_LATE * whole:
        return Check("convergence", "PASS", detail)
    return Check("convergence", "WARN", f"{detail}: the attack had not ended; give it more steps, or longer ones")


def check_copy(broken_on_copy: Tensor | None) -> Check:
    """What breaks a stand-in must break the network (I5 there): (N,) bool, samples that only broke on the frozen copy.

    None where the attack asked the network itself.
    """
    if broken_on_copy is None:
        return Check("transfer failure", "PASS", "the attack asked the network itself")
    detail = f"{int(broken_on_copy.sum())} of {len(broken_on_copy)} samples broke on the frozen copy alone"
    return Check("transfer failure", "PASS", f"{detail}, and were attacked again on the network itself")
