"""Votes on disk, so that an interrupted certification is picked up where it was."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import EvaluationError
from robustprune.runtime.environment import hash_weights
from robustprune.runtime.files import hash_arrays, hash_json, write_atomically

FORMAT = 1
SUFFIX = ".votes"
SECONDS_BETWEEN = 2.0
"""A kill loses what was computed in so many seconds, and the image that was being computed."""


class SavedVotes:
    """The class that was chosen of each image and how many votes it has: (n,) each, the first ``done`` of them known.

    As every image has its own noise, what is computed after picking up is what would have been computed without the
    interruption.
    """

    def __init__(self, count: int, path: Path | None) -> None:
        """Begin with nothing of so many images, or where the file left off.

        Raises:
            EvaluationError: The file cannot be read, or is damaged.
        """
        self.classes = torch.full((count,), -1)
        self.votes = torch.zeros(count, dtype=torch.long)
        self.done = 0
        self._path, self._written = path, time.monotonic()
        if path is not None and path.exists():
            self._restore(path)

    def _restore(self, path: Path) -> None:
        try:
            known: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            fits = known["format"] == FORMAT and known["classes"].shape == known["votes"].shape == self.votes.shape
            self.classes, self.votes, self.done = known["classes"], known["votes"], int(known["done"])
        except Exception as error:
            raise EvaluationError(f"{path} holds no votes ({error}); delete it to start anew") from error
        if not fits:
            raise EvaluationError(f"{path} holds votes by another version; delete it to start anew")

    def add(self, chosen: int, votes: int) -> None:
        """Enter the next image, and write the file if it is time, or the last one."""
        self.classes[self.done], self.votes[self.done] = chosen, votes
        self.done += 1
        is_time = time.monotonic() - self._written >= SECONDS_BETWEEN or self.done == len(self.votes)
        if self._path is not None and is_time:
            self._write(self._path)

    def _write(self, path: Path) -> None:
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "classes": self.classes, "votes": self.votes, "done": self.done}, buffer)
        try:
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise EvaluationError(f"votes cannot be written to {path}: {error.strerror}") from error
        self._written = time.monotonic()


def votes_file(folder: Path, model: nn.Module, images: Tensor, ids: Tensor, settings: dict[str, Any]) -> Path:
    """Return where a certification of some images keeps its votes: no other one has this file."""
    arrays = {"images": images.cpu().numpy(), "ids": ids.numpy()}
    # Its text tells apart networks of equal weights, such as one with another activation.
    key = hash_json({"model": [hash_weights(model), str(model)], "data": hash_arrays(arrays), "settings": settings})
    return folder / f"{key}{SUFFIX}"
