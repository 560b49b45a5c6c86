"""A few adversarial images of each attack, to look at later without the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robustprune.attacks import AttackResult
from robustprune.records import AttackEntry, Samples
from robustprune.runtime.arrays import Array

_IMAGES = 8
_NUMBERS = 1 << 19  # pixels × channels of them all: a record is for figures, not for data sets


def add_galleries(
    entries: Sequence[AttackEntry],
    samples: Samples,
    results: Sequence[AttackResult],
    images: Tensor,
    sample_ids: Array | None = None,
) -> None:
    """Add to the outcomes some images that each attack broke at its largest ε, and count them in its entry.

    They are the first in order of the data set that were classified rightly without the attack; none where there are
    no such images.

    Args:
        entries: Of the record, one per result.
        samples: Outcomes per sample of the same record.
        results: The attacks.
        images: (N, C, H, W) uint8, what was attacked.
        sample_ids: (N,) places of the images in the data set; their own order by default.
    """
    ids = torch.arange(len(images)) if sample_ids is None else torch.as_tensor(sample_ids)
    largest = {(result.attack, result.norm): place for place, result in _rising(results)}
    for place in largest.values():
        result = results[place]
        broken = (result.broken & ~result.initially_wrong).nonzero()[:, 0]
        chosen = broken[ids[broken].argsort()][: _limit(images)]
        if len(chosen):
            clean = images[chosen.to(images.device)].cpu()
            added = result.adversarial[chosen].double() - clean.double() / 255
            samples[f"gallery{place}_index"] = ids[chosen].numpy()
            samples[f"gallery{place}_clean"] = clean.numpy()
            samples[f"gallery{place}_perturbation"] = added.numpy().astype(np.float16)
            entries[place].gallery = len(chosen)


def _rising(results: Sequence[AttackResult]) -> list[tuple[int, AttackResult]]:
    return sorted(enumerate(results), key=lambda each: each[1].epsilon)


def _limit(images: Tensor) -> int:
    return max(1, min(_IMAGES, _NUMBERS // images[0].numel()))
