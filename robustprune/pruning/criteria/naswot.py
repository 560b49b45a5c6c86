r"""NASWOT: how well the network's ReLUs distinguish images, and how much less well where the block goes.

.. math:: s(b) = \log |K(f)| - \log |K(f_{-b})|, \qquad K(f)_{ij} = N_A - d_H(c_i, c_j)

with c_i the code of image i, one bit for each of the N_A rectified units: whether it is above zero, d_H the Hamming
distance, f the network and f₋b the network without block b. Mellor, Turner, Storkey and Crowley, "Neural architecture
search without training", ICML 2021 (arXiv:2006.04647). Their score of an architecture is log |K| of a
minibatch, 128 images; a block is worth what the ticket's score lacks without it. A block without ReLUs can change the
codes behind it, but takes no bits along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from robustprune.errors import PruningError
from robustprune.pruning.criteria import Batches, BatchNormMode
from robustprune.pruning.criteria.without_block import RemovalCriterion

_RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
_COLUMNS = 1 << 16  # units whose bits are multiplied at a time; sums of ±1 over them are exact in float32


class Naswot(RemovalCriterion):
    """Fall of log |K|, K the agreement of the ReLU codes of images, where the block goes."""

    bn_mode: BatchNormMode = Field(
        default="batch", description="batch normalization by the batch's statistics or the running ones"
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        default=128, description="un-augmented training images, classes in proportion"
    )

    def look(self, network: nn.Module, batches: Batches, step: Callable[[], None], seed: int) -> float:
        """Return log |K|."""
        codes = []
        with torch.no_grad():
            for images, _ in batches:
                with ReluCodes(len(images)) as seen:
                    network(images)
                codes.append(seen.codes)
                step()
        if not any(codes):
            raise PruningError(
                "naswot: no ReLU was seen in the network, and its codes are made of these alone, not of GELU, SiLU or "
                "ReLU6; use cka, kl or a gradient criterion"
            )
        return log_determinant(np.block([[agreement(one, other) for other in codes] for one in codes]))

    def compare(self, whole: float, without: float) -> float:
        """Return how much lower the score is without the block."""
        return whole - without


class ReluCodes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, while it is entered, which units every ReLU lets through, be it a module, a function or in place."""

    def __init__(self, count: int) -> None:
        """Take how many images there are."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = count
        self.codes: list[Tensor] = []
        """(n, units) of each ReLU."""

    def __torch_dispatch__(
        self, function: Any, _types: Any, values: Sequence[Any] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, and note what a ReLU let through."""
        output = function(*values, **(keywords or {}))
        if function in _RELUS:
            if len(output) % self.count:
                raise PruningError(
                    f"naswot: a ReLU returns {tuple(output.shape)} for {self.count} images, so its first dimension "
                    "does not count images, and no code is that of one image; use cka, kl or a gradient criterion"
                )
            self.codes.append((output > 0).reshape(self.count, -1).cpu())
        return output


def agreement(first: Sequence[Tensor], second: Sequence[Tensor]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return N_A − d_H of each code of one batch and each of another, (n, m); codes are (n, units) of each ReLU."""
    total = np.zeros((len(first[0]), len(second[0])))
    for one, other in zip(first, second, strict=True):
        for start in range(0, one.shape[1], _COLUMNS):
            signs = [2 * codes[:, start : start + _COLUMNS].float() - 1 for codes in (one, other)]
            # Of ±1, the product is N_A − 2·d_H.
            total += (signs[0].shape[1] + (signs[0] @ signs[1].T).double().numpy()) / 2
    return total


def log_determinant(matrix: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return log |K| of a symmetric matrix (N, N).

    Raises:
        PruningError: It is singular.
    """
    values = np.linalg.eigvalsh(matrix)
    if values[0] <= len(values) * np.finfo(np.float64).eps * values[-1]:
        raise PruningError(
            f"naswot: |K| is 0 for {len(values)} images, with a block or without it, as the ReLU codes of some follow "
            "from those of others; take fewer images (samples), or use cka, kl or a gradient criterion"
        )
    return float(np.log(values).sum())
