"""Labels that are no class numbers, classes without images, sets of one class, and names that are empty."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import Run, check_failure

import robustprune as rp
from robustprune.data import DATASETS, InMemorySplit, RawData, load_data, register_dataset
from robustprune.errors import DataError, DataWarning, ModelError, UnknownNameError

IMAGES = np.random.default_rng(0).integers(256, size=(60, 16, 16, 3), dtype=np.uint8)


def write(folder: Path, labels: NDArray[np.integer], **further: NDArray[np.generic]) -> str:
    """Write a set with the same images for training and testing; return its name."""
    arrays = {"train_images": IMAGES, "train_labels": labels, "test_images": IMAGES, "test_labels": labels, **further}
    np.savez(folder / "t.npz", **arrays)  # type: ignore[arg-type]
    return f"npz:{folder / 't.npz'}"


@pytest.mark.parametrize(
    ("first", "step", "shown"),
    [
        (1, 1, "from 1 to 3: of the 4"),
        (10, 10, "from 10 to 30: of the 31"),
        (0, 20000, "from 0 to 40000: of the 40001"),
    ],
)
def test_labels_that_do_not_count_from_zero_are_refused(tmp_path: Path, first: int, step: int, shown: str) -> None:
    with pytest.raises(DataError, match=rf"train_labels in .* are 3 numbers {shown} classes.*return_inverse=True"):
        load_data(write(tmp_path, first + step * (np.arange(60) % 3)))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 30), min_size=2, max_size=12))
def test_every_class_without_an_image_is_refused_or_named(tmp_path: Path, numbers: set[int]) -> None:
    labels = np.array(sorted(numbers))[np.arange(60) % len(numbers)]
    absent = sorted(set(range(max(numbers) + 1)) - numbers)
    name = write(tmp_path, labels)
    if min(numbers) > 0 or len(absent) >= len(numbers):
        with pytest.raises(DataError, match=f"{len(absent)} would have no image"):
            load_data(name)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_data(name)
    assert data.num_classes == max(numbers) + 1
    said = [str(each.message) for each in caught]
    expected = f"{len(absent)} of {data.num_classes} classes have no train image: "
    assert [expected + ", ".join(repr(str(number)) for number in absent[:5]) in line for line in said] == (
        [True, False] if absent else []
    )


def test_numbering_with_numpy_as_the_error_says_makes_it_right(tmp_path: Path) -> None:
    _, labels = np.unique(10 * (1 + np.arange(60) % 3), return_inverse=True)
    assert load_data(write(tmp_path, labels)).num_classes == 3


def test_classes_that_a_set_of_another_kind_does_not_show_are_named() -> None:
    images = torch.from_numpy(IMAGES[:, :, :, 0].copy()).unsqueeze(1)

    @register_dataset("few")
    def load_few(_request: object) -> RawData:
        """A plug-in."""
        labels = torch.arange(60) % 2
        return RawData(("a", "b", "c"), InMemorySplit(images, labels), None, InMemorySplit(images, labels))

    try:
        with pytest.warns(DataWarning, match=r"few: 1 of 3 classes have no (train|test) image: 'c'") as caught:
            load_data("few")
        assert len(caught) == 2
    finally:
        del DATASETS._registered["few"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(60) % 3 - 1, "run from -1 to 1"),
        ((np.arange(60) % 3).astype(float), "are float64"),
        (np.arange(60) % 2 == 0, "are bool"),
        (np.eye(3, dtype=int)[np.arange(60) % 3], r"of shape \(60, 3\)"),
        (np.array(["cat", "dog"])[np.arange(60) % 2], "are <U3"),
    ],
)
def test_labels_of_another_kind_are_refused_with_what_to_do(
    tmp_path: Path, labels: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(DataError, match=f"{message}.*return_inverse=True"):
        load_data(write(tmp_path, labels))  # type: ignore[arg-type]


LABELS = np.arange(60) % 3


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:0], r"uint8 of shape \(0, 16, 16, 3\)"),
        (IMAGES.astype(float) / 255, "are float64"),
        (IMAGES.astype(">u2"), "are >u2"),
        (IMAGES.transpose(0, 3, 1, 2), r"of shape \(60, 3, 16, 16\)"),
    ],
)
def test_images_of_another_kind_are_refused_with_what_to_do(
    tmp_path: Path, images: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(DataError, match=f"{message}.*expected uint8, 0 to 255"):
        load_data(write(tmp_path, LABELS, train_images=images, train_labels=LABELS[: len(images)]))


def test_foreign_byte_order_and_strides_are_read_as_they_are(tmp_path: Path) -> None:
    expected = load_data(write(tmp_path, LABELS))
    backwards = np.asfortranarray(IMAGES[::-1])[::-1]
    found = load_data(write(tmp_path, LABELS.astype(">i8"), train_images=backwards))
    assert torch.equal(found.require("train").images, expected.require("train").images)
    assert torch.equal(found.require("train").labels, expected.require("train").labels)


def test_one_class_is_refused_when_loaded_pruned_and_trained(tmp_path: Path, run: Run) -> None:
    name = write(tmp_path, np.zeros(60, int))
    with pytest.raises(DataError, match="all 60 training images are of one class, '0'"):
        load_data(name)
    network = ("--model", "resnet20:width=4", "--dataset", name)
    for command in (
        ("train", *network, "--epochs", "1", "--out", "o.pt"),
        ("prune", *network, "--criterion", "random", "--blocks", "1", "--out", "o.pt"),
        ("evaluate", *network),
    ):
        check_failure(run(*command), 1, "one class")
    assert not (tmp_path / "o.pt").exists()


def test_one_class_for_training_is_said_even_where_others_are_tested(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 60 training images are of one class, '0'"):
        load_data(write(tmp_path, LABELS, train_labels=0 * LABELS))


def test_what_is_no_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, LABELS)
    for name in (None, 3, tmp_path / "t.npz"):
        with pytest.raises(DataError, match=r"named by a text such as digits, npz:FILE"):
            load_data(name)  # type: ignore[arg-type]


def test_one_class_without_training_images_is_a_foreign_set_and_no_network_s_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=IMAGES, labels=np.zeros(60, int))
    data = load_data(f"npz:{tmp_path / 'one.npz'}")
    with pytest.raises(ModelError, match="images of one class"):
        rp.build_model("resnet20", data, width=4)


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_empty_names_are_refused(name: str) -> None:
    digits = load_data()
    with pytest.raises(UnknownNameError):
        load_data(name)
    with pytest.raises(UnknownNameError):
        rp.build_model(name, digits)
    for kind in ("npz", "imagefolder"):
        with pytest.raises(DataError, match="needs a path"):
            load_data(f"{kind}:{name}")
    with pytest.raises(DataError, match="empty name"):
        load_data(root=name)
    with pytest.raises(ModelError, match="names no file"):
        rp.build_model("resnet20", digits, weights_file=name)
