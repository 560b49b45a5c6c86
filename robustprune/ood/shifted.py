"""Corrupted images of the network's own kind: in-distribution by content, shifted in looks.

With full-spectrum detection (Yang et al. 2023, "Full-Spectrum Out-of-Distribution Detection", arXiv:2204.05306) they
count as in-distribution: a detector that flags them tells looks, not content. As a foreign set called ``corrupted``
they show what a detector makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robustprune.corruptions import HEADLINE, SEVERITIES, corrupt, expand_names
from robustprune.errors import EvaluationError
from robustprune.runtime.randomness import derive_seed

NAME = "corrupted"


def is_corrupted(name: str) -> bool:
    """Return whether a foreign set's name stands for corrupted images."""
    return name.partition(":")[0] == NAME


def parse_corrupted(name: str) -> tuple[list[str], list[int]]:
    """Return the corruptions and severities that a name stands for: all by default.

    Args:
        name: ``corrupted``, or with any of them after a colon: ``corrupted:fog,gaussian_noise,5``.

    Raises:
        EvaluationError: No such severity.
        UnknownNameError: No such corruption.
    """
    parts = [part for part in name.partition(":")[2].split(",") if part]
    severities = [int(part) for part in parts if part.isdecimal()]
    if not set(severities) <= set(SEVERITIES):
        raise EvaluationError(f"{name!r}: severities are 1 to 5")
    corruptions = expand_names([part for part in parts if not part.isdecimal()] or list(HEADLINE))
    return corruptions, severities or list(SEVERITIES)


def corrupt_evenly(
    images: Tensor, indices: Tensor, corruptions: Sequence[str], severities: Sequence[int], seed: int
) -> Tensor:
    """Return images (N, C, H, W) uint8, each under one corruption at one severity, drawn with equal chances.

    Args:
        images: uint8 (N, C, H, W).
        indices: (N,) which images they are; an image comes out the same in any subset.
        corruptions: Names.
        severities: 1 to 5.
        seed: Of the choice and of the corruptions.
    """
    cells = [(name, severity) for name in corruptions for severity in severities]
    drawn = torch.tensor([derive_seed(seed, NAME, index) % len(cells) for index in indices.tolist()])
    result = images.clone()
    for number, (name, severity) in enumerate(cells):
        chosen = (drawn == number).nonzero().flatten()
        if len(chosen):
            result[chosen] = corrupt(images[chosen], name, severity, seed=seed, sample_ids=indices[chosen])
    return result
