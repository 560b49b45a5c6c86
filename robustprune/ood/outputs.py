"""What one forward pass over a set leaves behind for all detectors: logits, penultimate features, the last layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from robustprune.errors import DetectorError
from robustprune.inference import NO_FEATURES, LinearHead
from robustprune.runtime.arrays import to_tensor


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a detector may look at, for a set of N images; `need_…` say why when something is not there.

    Attributes:
        logits: (N, K).
        features: z, (N, D), what the last layer receives; None where no such layer was found.
        head: The last layer; None where the logits are not a linear function of the features.
        labels: (N,) int64; None for images without a class of the network's.
        images: (N, …) uint8 or float in [0, 1], for detectors that run the network themselves.
        network: That network, in evaluation mode.
    """

    logits: Tensor
    features: Tensor | None = None
    head: LinearHead | None = None
    labels: Tensor | None = None
    images: Tensor | None = None
    network: nn.Module | None = None

    def __post_init__(self) -> None:
        """Take arrays, and lists of them, for tensors."""
        for name in ("logits", "features", "labels", "images"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, to_tensor(value, name))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.logits)

    def need_features(self) -> Tensor:
        """Return the features, or raise a `DetectorError`."""
        if self.features is None:
            raise DetectorError(NO_FEATURES)
        return self.features

    def need_head(self) -> LinearHead:
        """Return the last layer, or raise a `DetectorError`."""
        self.need_features()
        if self.head is None:
            raise DetectorError("the logits are not a linear function of the features that the last layer receives")
        return self.head

    def need_labels(self) -> Tensor:
        """Return the labels, or raise a `DetectorError`."""
        if self.labels is None:
            raise DetectorError("these images have no labels")
        return self.labels

    def double(self) -> Outputs:
        """Return the same in float64, in which all scores are computed."""
        return replace(
            self,
            logits=self.logits.double(),
            features=None if self.features is None else self.features.double(),
            head=None if self.head is None else self.head.double(),
        )

    def take(self, rows: Tensor | slice) -> Outputs:
        """Return the outputs of some of the images."""
        own = vars(self)
        each = {name: own[name][rows] for name in ("logits", "features", "labels", "images") if own[name] is not None}
        return replace(self, **each)

    def evenly(self, count: int) -> Outputs:
        """Return up to ``count`` of the images, from all over the set: sets are often in the order of their classes."""
        return self.take(torch.linspace(0, len(self) - 1, min(count, len(self))).long())
