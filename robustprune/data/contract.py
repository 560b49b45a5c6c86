"""What an image-set loader is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from robustprune.errors import DataError
from robustprune.runtime.files import user_path

if TYPE_CHECKING:
    from robustprune.data.splits import Split


@dataclass(frozen=True)
class DatasetRequest:
    """What the user asked of `load_data`, as far as a loader may need to know it."""

    name: str  # as typed, "imagefolder:photos"
    root: Path | None = None  # folder the user pointed to; None for the usual places
    image_size: int | None = None  # side the images will be resized to
    channels: int | None = None  # number they will be converted to
    seed: int = 0
    download: bool = False
    workers: int = 0

    @property
    def argument(self) -> str:
        """What follows the first colon of the name; empty when there is none."""
        return self.name.partition(":")[2]

    def argument_path(self) -> Path:
        """Return the argument as an absolute path."""
        if not self.argument.strip():
            raise DataError(f"data set {self.name!r} needs a path: write {self.name.strip().rstrip(':')}:PATH")
        return user_path(self.argument).resolve()


@dataclass(frozen=True, eq=False)
class RawData:
    """An image set as published: no validation part taken out, nothing limited, converted or resized.

    Raises:
        DataError: A split is empty, a label is outside the classes, all training images are of one class, or the
            splits' images differ in shape.
    """

    classes: tuple[str, ...]
    train: Split | None = None
    val: Split | None = None  # only when the set ships its own
    test: Split | None = None
    flips: bool = False  # whether a mirrored image keeps its label
    notes: Mapping[str, Any] = field(default_factory=dict)  # JSON-able; enters the provenance

    def __post_init__(self) -> None:
        """Check the splits against each other and the classes."""
        splits = self.splits()
        if not splits:
            raise DataError("the image set has no split")
        for name, split in splits.items():
            if len(split) == 0:
                raise DataError(f"the {name} split has no images")
            lowest, highest = int(split.labels.min()), int(split.labels.max())
            if lowest < 0 or highest >= len(self.classes):
                raise DataError(
                    f"the {name} split has labels from {lowest} to {highest}; "
                    f"with {len(self.classes)} classes they must lie in 0 … {len(self.classes) - 1}"
                )
            if split is self.train and lowest == highest:
                raise DataError(
                    f"all {len(split)} training images are of one class, {self.classes[lowest]!r}, nothing to tell "
                    "apart; training takes images of two classes or more, and an out-of-distribution set needs only a "
                    "test split"
                )
        shapes = {name: split.shape for name, split in splits.items()}
        if len(set(shapes.values())) > 1:
            raise DataError(f"the splits hold images of different shapes: {shapes}")

    def splits(self) -> dict[str, Split]:
        """Return the splits there are, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


class DatasetLoader(Protocol):
    """A data set plug-in: a function from a request to the raw set.

    A loader reads what is on disk and says what it is. Holding out a validation split, limiting, converting
    channels, resizing, statistics and provenance are done for it, so most loaders look only at ``root`` and
    ``argument``. One that makes its images up may honour ``image_size``, ``channels`` and ``seed`` itself.
    One that reads many files returns `StreamedSplit`; they are turned into tensors if they fit. Whatever is
    wrong with the files is raised as `DataError`. The first line of the docstring is what ``robustprune list
    datasets`` shows.

    It is found under the entry-point group ``robustprune.datasets``, or in the user's own script by::

        @register_dataset("stripes")
        def load_stripes(request: DatasetRequest) -> RawData:
            '''Black and white stripes.'''
            return RawData(classes=("across", "along"), test=InMemorySplit(images, labels))
    """

    def __call__(self, request: DatasetRequest) -> RawData:
        """Return the set the request names."""
