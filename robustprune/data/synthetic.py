"""Images of nothing: made up, to see what a network does with input that is far from its training set.

They are made at the size and with the channels asked for, so that they can match any network.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from robustprune.data.contract import DatasetRequest, RawData
from robustprune.data.splits import InMemorySplit

_COUNT, _SIDE, _CHANNELS = 2000, 32, 3
_MID_GREY, _DEVIATION = 127.5, 64.0


def load_noise(request: DatasetRequest) -> RawData:
    """Gaussian noise around mid grey (deviation 64 of 255), 2,000 images, test only, synthetic."""
    values = _random(request).standard_normal(_shape(request), dtype=np.float32)
    pixels = np.clip(np.rint(_MID_GREY + _DEVIATION * values), 0, 255).astype(np.uint8)
    return _test_only("noise", pixels, request)


def load_uniform(request: DatasetRequest) -> RawData:
    """Uniform noise, every pixel and channel on its own, 2,000 images, test only, synthetic."""
    return _test_only("uniform", _random(request).integers(256, size=_shape(request), dtype=np.uint8), request)


def load_constant(request: DatasetRequest) -> RawData:
    """Images of a single random colour each, 2,000 images, test only, synthetic."""
    count, channels, height, width = _shape(request)
    colours = _random(request).integers(256, size=(count, channels, 1, 1), dtype=np.uint8)
    pixels = np.broadcast_to(colours, (count, channels, height, width)).copy()
    return _test_only("constant", pixels, request)


def _random(request: DatasetRequest) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(request.seed))


def _shape(request: DatasetRequest) -> tuple[int, int, int, int]:
    side = request.image_size or _SIDE
    return _COUNT, request.channels or _CHANNELS, side, side


def _test_only(kind: str, pixels: NDArray[np.uint8], request: DatasetRequest) -> RawData:
    labels = torch.zeros(len(pixels), dtype=torch.int64)
    return RawData(
        classes=(kind,),
        test=InMemorySplit(torch.from_numpy(pixels), labels),
        notes={"source": f"synthetic, seed {request.seed}"},
    )
