"""Images of any form as (N, C, H, W), in uint8 unless asked for as they are, once their scale is certain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustprune.data.given_forms import is_picture
from robustprune.data.pixels import convert_channels, in_parts
from robustprune.errors import DataError
from robustprune.models.forward import to_unit_range
from robustprune.runtime.arrays import to_tensor

_ROUNDING = 2e-3  # levels of 255 by which float32 misses a whole level, however it was normalized and undone
_OVERSHOOT = 0.25  # as resizing with negative lobes gives it; normalized images lie further out
_NORMALIZED = 8.0  # deviations from the mean that a normalized image hardly reaches, and one of 0 … 16 or 255 does

Undo = tuple[Sequence[float], Sequence[float]]
"""Mean and deviation by channel that images were normalized with."""


class ImageReader:
    """Takes images batch by batch, and remembers how many values lie between the levels of uint8.

    Attributes:
        values: How many values floating-point images had.
        rounded: How many of them were no multiples of 1/255.
        repeated: How many grey images were given three channels, to go with others in colour.
    """

    def __init__(self, what: str, undo: Undo | None = None, *, exact: bool = False) -> None:
        """Begin with none; ``what`` names them in errors.

        Where ``exact``, floats stay floats, and what is not of the shape of images stays as it is: (N, …).
        """
        self.what = what
        self.undo = undo
        self.exact = exact
        self.held = 0  # bytes, since the last call of `take`
        self.values = self.rounded = self.repeated = 0
        self._parts: list[Tensor] = []
        self._highest = 0.0

    def add(self, images: Any, *, is_batch: bool) -> int:
        """Take images (N, H, W), (N, H, W, C), (N, C, H, W), a list of single ones, or one; return how many.

        Raises:
            DataError: They are no images, not in [0, 1] or 0 … 255, or not of one shape.
        """
        if is_batch and isinstance(images, list | tuple) and images and _is_image(images[0]):
            return sum(self.add(each, is_batch=False) for each in images)
        if is_batch and _is_collated(images):
            raise DataError(f"{self.what}: images come as lists of arrays; let the Dataset return each as one tensor")
        values = to_tensor(self._decoded(images) if is_picture(images) else images, self.what, DataError)
        values = values.detach().cpu()
        values = self._channels_first(values if is_batch else values.unsqueeze(0))
        for part in in_parts(values):
            self._parts.append(self._checked(part) if self.exact else self._to_levels(part))
            self.held += self._parts[-1].nbytes
        return len(values)

    def take(self) -> Tensor:
        """Return all images since the last call, (N, C, H, W); grey ones in colour where others are.

        Raises:
            DataError: None came, or their sizes differ.
        """
        parts, self._parts, self.held = self._parts, [], 0
        if not parts:
            raise DataError(f"{self.what}: there are no images")
        sizes = list(dict.fromkeys(tuple(part.shape[2:]) for part in parts))
        if len(sizes) > 1:
            raise DataError(
                f"{self.what}: images are of {len(sizes)} sizes, such as {sizes[0][0]}×{sizes[0][1]} and "
                f"{sizes[1][0]}×{sizes[1][1]}; resize them to one, as in the Dataset's transform"
            )
        if len(parts) == 1:
            return parts[0]
        if len({part.dtype for part in parts}) > 1:  # only where they are exact
            parts = [to_unit_range(part) for part in parts]
        channels = max(part.shape[1] for part in parts)
        self.repeated += sum(len(part) for part in parts if part.shape[1] != channels)
        whole = parts[0].new_empty((sum(map(len, parts)), channels, *sizes[0]))
        filled = 0
        parts.reverse()
        while parts:  # each goes as soon as it is copied, so that memory never holds all of them twice
            part = parts.pop()
            whole[filled : filled + len(part)] = convert_channels(part, channels)
            filled += len(part)
        return whole

    def check_brightness(self) -> None:
        """Check that the brightest value of all is not the darkest but black."""
        if 0 < self._highest <= 1.001 / 255:
            raise DataError(
                f"{self.what}: the brightest value is 1 of 255, so they were divided by 255 twice, or are masks of 0 "
                "and 1 in uint8; give floats in [0, 1], or uint8 from 0 to 255"
            )

    def _decoded(self, image: Any) -> np.ndarray[Any, Any]:
        """Return the pixels of an image of PIL: grey, or colour without transparency, as image files are read."""
        if image.mode[0] in "IF":
            raise DataError(f"{self.what}: an image has more than 8 bits a channel (mode {image.mode}); convert it")
        is_clear = image.mode == "P" and "transparency" in image.info
        image = image.convert("RGBA") if is_clear else image
        return np.array(image.convert("L" if image.mode in ("L", "1") else "RGB"))

    def _channels_first(self, images: Tensor) -> Tensor:
        if images.ndim == 3 and 0 not in images.shape[1:]:
            return images.unsqueeze(1)
        if self.exact and not (images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3)):
            return images
        first, last = (images.ndim == 4 and images.shape[axis] in (1, 3) for axis in (1, 3))
        if first and last:
            raise DataError(
                f"{self.what}: of shape {tuple(images.shape)} either the second or the last axis may be the channels; "
                "give larger images"
            )
        if not (first or last) or 0 in images.shape[1:]:
            raise DataError(
                f"{self.what}: expected shape (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3, got "
                f"{tuple(images.shape)}, N being 1 for images that come one by one"
            )
        return images if first else images.permute(0, 3, 1, 2)

    def _to_levels(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            if self.undo is not None:
                raise DataError(f"{self.what}: uint8 images are not normalized; leave out mean and std")
            self._highest = max(self._highest, float(images.max()) / 255 if len(images) else 0)
            return images.clone(memory_format=torch.contiguous_format)  # whoever gave them may write into them
        self._check_type(images)
        exact, spread = images.to(torch.float64, copy=True), torch.finfo(images.dtype).eps
        if self.undo is not None:
            exact = self._undone(exact)
        slack = min(0.25, max(_ROUNDING, 255 * spread))
        self._check_range(exact, max(_ROUNDING / 255, 2 * spread) if self.undo else _ROUNDING / 255)
        scaled = exact.mul_(255)
        levels = scaled.round().clamp_(0, 255)
        self.values += scaled.numel()
        self.rounded += int((scaled.sub_(levels).abs_() > slack).sum())
        return levels.to(torch.uint8).contiguous()

    def _checked(self, images: Tensor) -> Tensor:
        """Return images as they are, once it is certain that they are in [0, 1], or uint8."""
        if images.dtype == torch.uint8:
            return images
        self._check_type(images)
        self._check_range(images.double(), _ROUNDING / 255)
        return images.clamp(0, 1)

    def _check_type(self, images: Tensor) -> None:
        if not images.is_floating_point():
            kind = str(images.dtype).removeprefix("torch.")
            raise DataError(
                f"{self.what}: {kind} may be on any scale; convert to uint8 (0 to 255) or to floats in [0, 1]"
            )

    def _undone(self, images: Tensor) -> Tensor:
        assert self.undo is not None
        mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in self.undo)
        if len(mean) not in (1, images.shape[1]):
            raise DataError(f"{self.what}: mean and std are of {len(mean)} channels, the images have {images.shape[1]}")
        return images * std + mean

    def _check_range(self, images: Tensor, slack: float) -> None:
        if not images.numel():
            return
        low, high = (float(end) for end in torch.aminmax(images))
        self._highest = max(self._highest, 0 if self.undo else high)
        if not np.isfinite([low, high]).all():
            raise DataError(f"{self.what}: there are values that are not finite")
        if -slack <= low and high <= 1 + slack:
            return
        found = f"{self.what}: values run from {low:.4g} to {high:.4g}, not within [0, 1]"
        if self.undo is not None:
            raise DataError(f"{found}, once mean and std are undone: they were normalized with others, or with none")
        if low >= 0 and high > _NORMALIZED:
            raise DataError(f"{found}; divide them by 255 (or what the greatest value can be), or give uint8")
        clamp = " If resizing overshot, clamp them." if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT else ""
        raise DataError(
            f"{found}, as those do that were normalized: say with what, as_data(…, mean=, std=), which undoes it; "
            f"rp.normalized(model, mean, std) puts it into the network, which is given images in [0, 1] here.{clamp}"
        )


def _is_image(each: Any) -> bool:
    return is_picture(each) or isinstance(each, Tensor | np.ndarray)


def _is_collated(images: Any) -> bool:
    """Return whether arrays lie in lists of lists, as collating images that are lists leaves them: axes in disorder."""
    is_list = isinstance(images, list | tuple)
    while isinstance(images, list | tuple) and images:
        images = images[0]
    return is_list and isinstance(images, Tensor | np.ndarray)
