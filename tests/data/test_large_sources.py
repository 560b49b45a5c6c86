"""What is too large for memory is read as it is used, is the same set, and takes no more memory than the bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate

import robustprune as rp
from robustprune.data import InMemorySplit, Split

PIXELS = torch.randint(256, (40, 3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(40) % 4
PAIRS = TensorDataset(PIXELS, LABELS)


class OnDisk:
    """Rows of an array as HDF5's: by number or slice, and with no list of places."""

    def __init__(self, rows: np.ndarray[Any, Any]) -> None:
        self.rows, self.shape = rows, rows.shape

    def __len__(self) -> int:
        return len(self.rows)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray[Any, Any]:
        raise AssertionError("all of it was asked for")

    def __getitem__(self, place: int | slice) -> np.ndarray[Any, Any]:
        assert isinstance(place, int | slice)
        return self.rows[place]


def turned(batch: list[Any]) -> tuple[Tensor, Tensor]:
    """Collate and turn images upside down, as only this function does."""
    images, labels = default_collate(batch)
    return images.flip(2), labels


SOURCES: dict[str, Callable[[], Any]] = {
    "loader": lambda: DataLoader(PAIRS, batch_size=7),
    "shuffled": lambda: DataLoader(PAIRS, batch_size=7, shuffle=True),
    "shuffled by its own generator": lambda: DataLoader(
        PAIRS, batch_size=7, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
    "last batch dropped": lambda: DataLoader(PAIRS, batch_size=7, drop_last=True),
    "sampler of some": lambda: DataLoader(PAIRS, batch_size=7, sampler=[5, 3, 8, 30, 31, 32, 33, 34]),
    "sampler of batches": lambda: DataLoader(PAIRS, batch_sampler=[[3, 1], [0, 2, 38], [11, 5]]),
    "collated otherwise": lambda: DataLoader(PAIRS, batch_size=7, collate_fn=turned),
    "processes": lambda: DataLoader(PAIRS, batch_size=7, num_workers=2, collate_fn=turned),
    "subset": lambda: DataLoader(Subset(PAIRS, range(3, 33)), batch_size=4),
    "arrays": lambda: (PIXELS.permute(0, 2, 3, 1).numpy(), LABELS.numpy()),
    "floats": lambda: (PIXELS.numpy().astype(np.float32) / 255, LABELS.tolist()),
    "tensors": lambda: {"image": PIXELS.float() / 255, "label": torch.nn.functional.one_hot(LABELS)},
    "rows on disk": lambda: (OnDisk(PIXELS.numpy()), ["abcd"[label] for label in LABELS]),
}


@pytest.mark.filterwarnings("ignore:train=. the DataLoader gave:robustprune.DataWarning")
@pytest.mark.parametrize("form", SOURCES)
def test_a_large_source_is_the_set_that_a_small_one_is(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.data.pixels._VALUES", 90)
    held = rp.as_data((PIXELS, ["abcd"[label] for label in LABELS]) if "disk" in form else SOURCES[form]())
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 500)
    monkeypatch.setattr("robustprune.data.dataset_split._READ_SIZE", 3)
    monkeypatch.setattr("robustprune.data.chunks._READ_SIZE", 3)
    found = rp.as_data(SOURCES[form]())
    assert isinstance(held.train, InMemorySplit)
    assert isinstance(found.train, Split)
    assert not isinstance(found.train, InMemorySplit)
    assert found.provenance == held.provenance | {"streamed": True}
    assert (found.mean, found.std, found.classes) == (held.mean, held.std, held.classes)
    order = torch.tensor([4, 0, len(held.train) - 1])
    some = found.train.subset(order)
    assert torch.equal(some.images, held.train.images[order])
    assert some.fingerprint() == held.train.subset(order).fingerprint()
    assert torch.equal(found.train.images, held.train.images)
    for batch in found.train.batches(5, order=torch.arange(len(held.train)).flip(0)):
        assert torch.equal(batch.images, held.train.images[batch.indices])
        assert torch.equal(batch.labels, held.train.labels[batch.indices])


class Loader(DataLoader[Any]):
    """A loader that does something to what the Dataset holds."""

    def __iter__(self) -> Any:
        return ((255 - images, labels) for images, labels in super().__iter__())


def test_what_can_be_had_once_is_kept_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    once = {
        "stream": lambda: zip(PIXELS.split(9), LABELS.split(9), strict=True),
        "own loader": lambda: Loader(PAIRS, batch_size=9),
        "without batches": lambda: DataLoader(PAIRS, batch_size=None),
    }
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 500)
    for form, give in once.items():
        found = rp.as_data(give())
        assert torch.equal(found.require("train").images, 255 - PIXELS if form == "own loader" else PIXELS)
        assert not found.provenance["streamed"]
    monkeypatch.setattr("robustprune.data.given.available_memory", lambda device: 0)
    for give in once.values():
        with pytest.raises(rp.DataError, match="fill the memory and can be had only once; give a map-style Dataset"):
            rp.as_data(give())
    assert rp.as_data(PAIRS).provenance["streamed"]


def test_a_loader_that_makes_other_images_each_time_cannot_be_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(batch: list[Any]) -> tuple[Tensor, Tensor]:
        images, labels = default_collate(batch)
        return images ^ torch.randint(2, images.shape, dtype=torch.uint8), labels

    with pytest.warns(rp.DataWarning, match="draw at random"):
        rp.as_data(DataLoader(PAIRS, batch_size=7, collate_fn=noisy))
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 500)
    with pytest.raises(rp.DataError, match="too large to keep"):
        rp.as_data(DataLoader(PAIRS, batch_size=7, collate_fn=noisy))


def test_images_that_do_not_go_one_to_one_with_items_cannot_be_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.data.given.IN_MEMORY_BYTES", 500)

    def twice(batch: list[Any]) -> tuple[Tensor, Tensor]:
        images, labels = default_collate(batch)
        return torch.cat([images, images]), torch.cat([labels, labels])

    with pytest.raises(rp.DataError, match="80 images came of 40 items"):
        rp.as_data(DataLoader(PAIRS, batch_size=7, collate_fn=twice))
