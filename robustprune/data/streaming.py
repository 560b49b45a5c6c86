"""Image files: headers, pixels, and a split of them that stays on disk and is read as it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from robustprune.data.chunks import read_batches, read_images_at
from robustprune.data.pixels import resize_images
from robustprune.data.splits import Batch
from robustprune.errors import DataError
from robustprune.runtime.files import hash_arrays, printable
from robustprune.runtime.progress import counted, shown_progress

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False, repr=False)
class StreamedSplit:
    """Image files and their labels; pixels are decoded, converted and resized when they are asked for."""

    paths: tuple[Path, ...]
    labels: Tensor  # (N,) int64
    channels: int
    image_size: tuple[int, int]  # height, width of what is returned, whatever the files have
    folder: Path  # the set's own folder: names below it enter the fingerprint, its place does not
    workers: int = 0  # reading processes; 0 reads in the calling one

    def __post_init__(self) -> None:
        """Check that every file has a label."""
        if self.labels.dtype != torch.int64 or self.labels.shape != (len(self.paths),):
            raise DataError(f"{len(self.paths)} image files need as many int64 labels, in one dimension")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: channels, height, width."""
        return self.channels, *self.image_size

    @property
    def images(self) -> Tensor:
        """All images at once, (N, C, H, W) uint8; every file is read for it."""
        return self.take(torch.arange(len(self)))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __repr__(self) -> str:
        """Return the size of the split rather than its files."""
        return f"StreamedSplit({len(self)} images of {self.shape} below {self.folder})"

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at ``indices`` (n,), in that order, as (n, C, H, W) uint8.

        Raises:
            DataError: A file is missing or damaged; the message names it.
        """
        return read_images_at(self._load, indices, self.shape, self.workers)

    def batches(
        self, batch_size: int, *, order: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Yield the images at ``order`` (all of them, in their own order, by default), on ``device``.

        Raises:
            DataError: A file is missing or damaged, or a reading process ended; the message says which.
        """
        positions = torch.arange(len(self)) if order is None else order.cpu()
        yield from read_batches(self._load, self.labels, torch.split(positions, batch_size), self.workers, device)

    def subset(self, indices: Tensor) -> StreamedSplit:
        """Return a split of the files at ``indices`` (n,), in that order."""
        chosen = indices.cpu()
        return replace(self, paths=tuple(self.paths[index] for index in chosen.tolist()), labels=self.labels[chosen])

    def fingerprint(self) -> str:
        """Return the SHA-256 over names, file sizes and labels, and the shape the images are given."""
        names = "\0".join(path.relative_to(self.folder).as_posix() for path in self.paths)
        try:
            sizes = [path.stat().st_size for path in self.paths]
        except OSError as error:
            raise DataError(f"an image file went missing: {error}") from error
        return hash_arrays(
            {
                "names": np.frombuffer(names.encode(errors="surrogateescape"), dtype=np.uint8),
                "sizes": np.array(sizes, dtype=np.int64),
                "labels": self.labels.numpy(),
                "shape": np.array(self.shape, dtype=np.int64),
            }
        )

    def _load(self, indices: Tensor) -> Tensor:
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        for target, index in zip(images, indices.tolist(), strict=True):
            image = read_image(self.paths[index], self.channels)
            target.copy_(resize_images(image.unsqueeze(0), self.image_size)[0])
        return images


def stream_files(
    labelled: Sequence[tuple[Path, int]], channels: int, image_size: tuple[int, int], folder: Path, workers: int
) -> StreamedSplit:
    """Return a split of image files, each with its label; the rest as for `StreamedSplit`."""
    labels = torch.tensor([label for _, label in labelled], dtype=torch.int64)
    return StreamedSplit(tuple(path for path, _ in labelled), labels, channels, image_size, folder, workers)


def read_layout(paths: Sequence[Path]) -> tuple[int, dict[tuple[int, int], Path]]:
    """Return the channels of image files, 1 if all are 8-bit grey, else 3, and for each (height, width) one of them.

    No pixels are read.

    Raises:
        DataError: A file is not an image or has more than eight bits a channel.
    """
    is_grey, sizes = True, dict[tuple[int, int], Path]()
    for path in counted(paths, shown_progress(), "looking at image files"):
        with _open(path) as image:
            is_aside = _orientation(image) >= 5
            sizes.setdefault(image.size if is_aside else (image.height, image.width), path)
            is_grey &= image.mode == "L"
    return 1 if is_grey else 3, sizes


def read_image(path: Path, channels: int) -> Tensor:
    """Return the pixels of a file as (C, H, W) uint8, turned as its EXIF orientation says.

    Transparency and all frames but the first are dropped.

    Raises:
        DataError: The file is missing, damaged, or has more than eight bits a channel.
    """
    from PIL import ImageOps

    with _open(path) as image:
        try:
            upright = image if _orientation(image) == 1 else ImageOps.exif_transpose(image)
            if upright.mode == "P" and "transparency" in upright.info:
                upright = upright.convert("RGBA")
            pixels = np.array(upright.convert("L" if channels == 1 else "RGB"))
        except Exception as error:  # a decoder given damaged bytes raises whatever it stumbles over
            raise DataError(f"{printable(path)} is a damaged image file ({error}); replace or remove it") from error
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


def _open(path: Path) -> Image:
    from PIL import Image

    try:
        image = Image.open(path)
    except Exception as error:  # as above: not only OSError comes out of damaged headers
        raise DataError(
            f"{printable(path)} cannot be read as an image ({type(error).__name__}); replace or remove it"
        ) from error
    # Of colours with 16 bits Pillow takes the upper eight, and says so only in how it would decode them.
    tiles: list[Any] = image.tile
    is_deep = any(";16" in str(tile) or (tile[0] == "ppm" and tile[3][1] > 255) for tile in tiles)
    if image.mode[0] in "IF" or is_deep:
        image.close()
        raise DataError(f"{printable(path)} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
    return image


def _orientation(image: Image) -> int:
    """Return how an image is to be turned, as EXIF has it: 1 is upright, 5 to 8 change height and width."""
    # TIFFs are turned by Pillow. Of a PNG it may also stand behind the pixels, which looking there would decode.
    if image.format == "TIFF" or (image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys()):
        return 1
    try:
        value: Any = image.getexif().get(0x0112)  # its tag
    except Exception:  # damaged EXIF data says nothing, and the pixels may be sound
        return 1
    return int(value) if value in range(1, 9) else 1
