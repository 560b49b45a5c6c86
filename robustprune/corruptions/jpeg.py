"""JPEG compression of many small images at once, bit for bit as Pillow does it one by one.

JPEG codes a channel in blocks of 8×8 that do not know of each other. So the luma planes of all images are laid side
by side and saved as one grey picture, and so are the halved colour planes, with the quantization tables that colour
pictures have. What happens around the blocks (colour conversion, halving and doubling of the colour planes: 4:2:0)
is done here with the integer arithmetic of libjpeg (ITU-T T.81 and T.871; jccolor.c, jcsample.c, jdsample.c and
jdcolor.c of libjpeg-turbo).
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.corruptions.arrays import Bytes

Integers = NDArray[np.int32]

_BLOCK = 8
_LONGEST = 1 << 15  # side of a picture; JPEG ends at 65,535
# Colour conversion with 16 fractional bits; the chroma ones are centred on 128.
_TO_LUMA = (19595, 38470, 7471)
_TO_BLUE, _TO_RED = (-11059, -21709, 32768), (32768, -27439, -5329)
_HALF = 1 << 15


def compress(images: Bytes, quality: int) -> Bytes:
    """Return uint8 images (N, C, H, W) as JPEG gives them back."""
    luma_table, chroma_table = _tables(quality)
    if images.shape[1] == 1:
        return _code_planes(images[:, 0], luma_table)[:, None]
    red, green, blue = images.astype(np.int32).transpose(1, 0, 2, 3)

    def mixed(weights: tuple[int, int, int], offset: int) -> Bytes:
        total: NDArray[np.int32] = red * weights[0] + green * weights[1] + blue * weights[2] + offset
        return (total >> 16).astype(np.uint8)

    luma = _code_planes(mixed(_TO_LUMA, _HALF), luma_table).astype(np.int32)
    centre = (128 << 16) + _HALF - 1
    chroma = np.concatenate([_halved(mixed(weights, centre)) for weights in (_TO_BLUE, _TO_RED)])
    doubled = _doubled(_code_planes(chroma, chroma_table), *images.shape[2:]) - 128
    to_blue, to_red = np.split(doubled, 2)
    result = np.empty(images.shape, dtype=np.int32)
    result[:, 0] = luma + ((91881 * to_red + _HALF) >> 16)
    result[:, 1] = luma + ((-22554 * to_blue - 46802 * to_red + _HALF) >> 16)
    result[:, 2] = luma + ((116130 * to_blue + _HALF) >> 16)
    return np.clip(result, 0, 255).astype(np.uint8)


@lru_cache(maxsize=8)
def _tables(quality: int) -> tuple[list[int], list[int]]:
    """Return libjpeg's quantization tables of luma and chroma for a quality, in the order Pillow writes them."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (_BLOCK, _BLOCK)).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as picture:
        found: dict[int, list[int]] = picture.quantization  # type: ignore[attr-defined]
    return found[0], found[1]


def _halved(planes: Bytes) -> Bytes:
    """Return planes of half the size: means of four, rounded down and up in turn along the columns.

    Columns go on to the end of the last block before they are halved, rows only to an even number.
    """
    height, width = planes.shape[1:]
    margins = [(0, 0), (0, height % 2), (0, -width % (2 * _BLOCK))]
    whole: NDArray[Any] = np.pad(planes, margins, mode="edge").astype(np.uint16)
    rows = whole[:, ::2] + whole[:, 1::2]
    total: NDArray[np.uint16] = rows[:, :, ::2] + rows[:, :, 1::2]
    total += (1 + np.arange(total.shape[2]) % 2).astype(np.uint16)
    return (total >> 2).astype(np.uint8)


def _doubled(planes: Bytes, height: int, width: int) -> Integers:
    """Return planes of twice the size, cut to (height, width): three parts of the nearer, one of the next."""
    known = planes[:, : (height + 1) // 2, : (width + 1) // 2]
    rows = _between(known.astype(np.int32), 1)
    columns = _between(rows, 2)
    # The mean over sixteen is rounded up at even columns and down at odd ones.
    columns[:, :, ::2] += 8
    columns[:, :, 1::2] += 7
    return columns[:, :height, :width] >> 4


def _between(values: Integers, axis: int) -> Integers:
    """Return four times the values read a quarter before and after each, along an axis."""
    first, last = (np.take(values, [end], axis=axis) for end in (0, -1))
    inner = [slice(None)] * 3
    inner[axis] = slice(None, -1)
    before = np.concatenate([first, values[tuple(inner)]], axis=axis)
    inner[axis] = slice(1, None)
    after = np.concatenate([values[tuple(inner)], last], axis=axis)
    shape = list(values.shape)
    shape[axis] *= 2
    return np.stack([3 * values + before, 3 * values + after], axis=axis + 1).reshape(shape)


def _code_planes(planes: Bytes, table: list[int]) -> Bytes:
    """Return planes (n, H, W) coded and decoded block by block with a quantization table."""
    count, height, width = planes.shape
    padded = np.pad(planes, [(0, 0), (0, -height % _BLOCK), (0, -width % _BLOCK)], mode="edge")
    _, tall, wide = padded.shape
    across = min(count, max(1, _LONGEST // wide))
    down = -(-count // across)
    # The last row of a full sheet may want planes; any will do.
    filled = np.concatenate([padded, padded[: across * down - count]])
    sheet = filled.reshape(down, across, tall, wide).swapaxes(1, 2).reshape(down * tall, across * wide)
    decoded = _code(np.ascontiguousarray(sheet), table)
    coded = decoded.reshape(down, tall, across, wide).swapaxes(1, 2).reshape(-1, tall, wide)
    return coded[:count, :height, :width]


def _code(sheet: Bytes, table: list[int]) -> Bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "JPEG", qtables=[table])
    with Image.open(stream) as picture:
        return np.asarray(picture)
