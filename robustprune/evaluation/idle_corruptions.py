"""Corruptions that change nothing: of some sizes, of grey images, or of images without a pattern.

A network withstands them by doing nothing, so they must not count as withstood.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor


class Idle:
    """Which corruptions left every image as it was, or made the images of a lower severity once more.

    Attributes:
        unchanged: Corruption → severities at which it left every image as it was.
        repeated: Corruption → severities at which its images are those of a lower severity.
    """

    def __init__(self, originals: Tensor, is_paired: bool) -> None:
        """Take the images (n, C, H, W) without corruption, and whether image i of a corruption is made of image i.

        If not, a corruption is idle whose images are all among these.
        """
        self.unchanged: dict[str, list[int]] = {}
        self.repeated: dict[str, list[int]] = {}
        self._own, self._is_paired = fingerprints(originals), is_paired
        self._seen: dict[str, list[Tensor]] = {}

    def look(self, name: str, severity: int, prints: Tensor) -> None:
        """Look at the fingerprints (m,) of the images of a corruption at a severity, in rising order."""
        lower = self._seen.setdefault(name, [])
        if torch.equal(prints, self._own) if self._is_paired else bool(torch.isin(prints, self._own).all()):
            self.unchanged.setdefault(name, []).append(severity)
        elif any(torch.equal(prints, each) for each in lower):
            self.repeated.setdefault(name, []).append(severity)
        lower.append(prints)


def fingerprints(images: Tensor) -> Tensor:
    """Return a checksum (n,) of each of the images (n, …)."""
    return torch.tensor([zlib.crc32(image) for image in images.cpu().contiguous().numpy()], dtype=torch.int64)
