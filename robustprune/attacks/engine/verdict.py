"""What a network says when it is asked once, as whoever uses it asks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.batching import Batches
from robustprune.models import run_model
from robustprune.runtime.randomness import derive_seed, isolated_generators


def predict_once(model: nn.Module, images: Tensor, sample_ids: Sequence[int], *, seed: int, batches: Batches) -> Tensor:
    """Return logits (N, K) of one pass, without gradients.

    Draws are keyed by the seed and by the first sample of each batch, apart from those that an attack has seen: a
    network that draws from the generators of torch, NumPy or Python draws for an image and for what attacks made of
    it the same. A sample that is broken by one of several points is so no victim of being asked several times. A
    network with a generator of its own, or after memory ran out in between, draws afresh.

    Args:
        model: In evaluation mode.
        images: (N, …) in [0, 1], on the device of the model.
        sample_ids: N integers.
        seed: Of the attack.
        batches: How much goes through the network at once.
    """
    logits: list[Tensor] = []

    def compute(part: Tensor) -> None:
        with torch.no_grad(), isolated_generators(derive_seed(seed, "verdict", sample_ids[int(part[0])])):
            logits.append(run_model(model, images[part]))

    batches.run(torch.arange(len(images), device=images.device), compute)
    return torch.cat(logits)
