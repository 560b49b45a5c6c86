"""Where given images can be asked for again: rows of an array, items of a Dataset, or what a loader makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from robustprune.data.given_forms import array_of_images, failed_reading, is_array, is_map_style, unpack
from robustprune.data.given_images import ImageReader
from robustprune.data.pixels import images_at_a_time
from robustprune.errors import DataError, RobustPruneError
from robustprune.runtime.randomness import isolated_generators

_LOOKED_AT = 8  # images that are read twice, to see whether they come out alike; flips spare one in two


@dataclass(frozen=True, eq=False)
class GivenSource:
    """Images that can be asked for one by one, in any order and any number of times."""

    given: Any  # what one pass is read from: as it was given, or a loader like it whose choices are noted
    held: Any  # an array of images, or a map-style Dataset of (image, label), mappings or the like
    places: Sequence[Any]  # what the pass reads of it, in its order; of a loader, what it has read so far
    collate: Callable[[list[Any]], Any] | None = None  # what a loader makes a batch of items by
    workers: int = 0  # processes that it reads with

    @classmethod
    def of(cls, given: Any, what: str) -> GivenSource | None:
        """Return where the images of a Dataset, a loader of one, or a pair come from; None where that is not known.

        Raises:
            DataError: A mapping has no images.
        """
        if (images := array_of_images(given, what)) is not None:
            return cls(given, images, range(len(images)))
        if is_map_style(given):
            return cls(given, given, range(len(given)))
        if not isinstance(given, DataLoader) or type(given).__iter__ is not DataLoader.__iter__:
            return None  # what comes of such a loader may be other than what the Dataset holds
        if not is_map_style(given.dataset) or given.batch_sampler is None or not getattr(given, "in_order", True):
            return None
        noted = _Noted(given.batch_sampler)
        noting = copy(given)
        vars(noting)["batch_sampler"] = noted  # which loaders let nobody set
        return cls(noting, given.dataset, noted.places, given.collate_fn, given.num_workers)

    def __len__(self) -> int:
        """Return how many images a pass will give, as far as can be told before it."""
        sampler: Any = self.given.sampler if self.collate else None
        return len(sampler) if hasattr(sampler, "__len__") else len(self.held)

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self.held).__name__

    def read(self, places: Sequence[Any], reader: ImageReader) -> Tensor:
        """Return the images (N, C, H, W) at some places, as the reader makes them.

        Raises:
            DataError: Reading fails, or images are other than they may be.
        """
        # A process of its own has generators of its own.
        with isolated_generators() if get_worker_info() is None else nullcontext():
            return self._read(places, reader)

    def draws_at_random(self, reader: Callable[[], ImageReader]) -> bool:
        """Return whether it gives another image when it is asked again, as a Dataset with augmentation does."""
        if is_array(self.held):
            return False
        places = list(self.places[:_LOOKED_AT])
        try:
            first, again = (self._read(places, reader()) for _ in range(2))
        except DataError:  # what the pass itself went through without; nothing is known then
            return False
        return not first.equal(again)

    def _read(self, places: Sequence[Any], reader: ImageReader) -> Tensor:
        if is_array(self.held):
            size = images_at_a_time(self.held.shape)
            for start in range(0, len(places), size):
                reader.add(_rows(self.held, places[start : start + size]), is_batch=True)
        elif self.collate is None:
            for place in places:
                reader.add(unpack(self._item(place), self.name)[0], is_batch=False)
        elif self._collated(places, reader) != len(places):
            raise DataError(f"{self.name}: collate_fn gave other than {len(places)} images for as many items")
        return reader.take()

    def _collated(self, places: Sequence[Any], reader: ImageReader) -> int:
        assert self.collate is not None
        items = [self._item(place) for place in places]
        try:
            batch = self.collate(items)
        except (RobustPruneError, Warning, MemoryError):
            raise
        except Exception as error:  # of the user's code
            raise failed_reading(f"{self.name}: collating {len(items)} items", error) from error
        return reader.add(unpack(batch, self.name)[0], is_batch=True)

    def _item(self, place: Any) -> Any:
        try:
            return self.held[place]
        except (RobustPruneError, Warning, MemoryError):
            raise
        except Exception as error:  # of the user's code
            raise failed_reading(f"{self.name}: reading item {place}", error) from error


class _Noted:
    """A batch sampler that notes which places it has chosen."""

    def __init__(self, chosen: Any) -> None:
        self.chosen, self.places = chosen, list[Any]()

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in self.chosen:
            self.places += (listed := list(batch))
            yield listed

    def __len__(self) -> int:
        return len(self.chosen)


def _rows(images: Any, places: Sequence[int]) -> Any:
    """Return rows of an array, of which some kinds take no list of places."""
    if isinstance(images, Tensor | np.ndarray):
        return images[list(places)]
    return np.stack([np.asarray(images[place]) for place in places])
