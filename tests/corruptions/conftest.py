"""Images the corruptions are tested on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from robustprune.data import load_data


@pytest.fixture(scope="session")
def photographs() -> Tensor:
    """2,000 colour crops of photographs, 32×32."""
    return load_data("photo-patches").require("test").images


@pytest.fixture(scope="session")
def large_photographs() -> Tensor:
    """Three colour crops of photographs, 224×224."""
    picture = np.asarray(load_sample_images().images[0])
    crops = np.stack([picture[top : top + 224, 2 * top : 2 * top + 224] for top in (0, 100, 200)])
    return torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))


@pytest.fixture(scope="session")
def some_photographs(photographs: Tensor) -> np.ndarray:
    """A few photographs, and pictures at the limits: black, white, plain, grey ramps, saturated noise."""
    few = photographs[::100].numpy()
    ramp = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8), (1, 3, 32, 32))
    plain = np.broadcast_to(np.array([12, 128, 250], dtype=np.uint8)[:, None, None], (1, 3, 32, 32))
    random = np.random.default_rng(0)
    wild = random.integers(0, 2, (2, 3, 32, 32)).astype(np.uint8) * 255
    black, white = np.zeros((1, 3, 32, 32), dtype=np.uint8), np.full((1, 3, 32, 32), 255, dtype=np.uint8)
    return np.concatenate([few, ramp, plain, black, white, wild])
