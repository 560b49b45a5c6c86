"""MedMNIST-like archives written by numpy, and everything that may be wrong with one."""

import zipfile

import numpy as np
import pytest

from robustprune.data import load_data
from robustprune.errors import DataError


def medmnist(*, colour=False, column=True, val=True):
    generator = np.random.default_rng(0)
    arrays = {}
    for name, count in (("train", 40), ("val", 8), ("test", 12)):
        if name == "val" and not val:
            continue
        shape = (count, 28, 28, 3) if colour else (count, 28, 28)
        arrays[f"{name}_images"] = generator.integers(256, size=shape, dtype=np.uint8)
        labels = (np.arange(count) % 4).astype(np.uint8)
        arrays[f"{name}_labels"] = labels[:, None] if column else labels
    return arrays


def write(tmp_path, arrays):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, **arrays)
    return f"npz:{path}"


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("column", [False, True])
def test_an_archive_is_read_as_written(tmp_path, colour, column):
    arrays = medmnist(colour=colour, column=column)
    data = load_data(write(tmp_path, arrays))
    for name in ("train", "val", "test"):
        images = data.require(name).images.permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(images if colour else images[..., 0], arrays[f"{name}_images"])
        np.testing.assert_array_equal(data.require(name).labels.numpy(), arrays[f"{name}_labels"].reshape(-1))
    assert data.channels == (3 if colour else 1)
    assert data.classes == ("0", "1", "2", "3")
    assert not data.flips
    assert data.provenance["validation"] == "shipped with the set"


def test_without_a_validation_part_one_is_held_out(tmp_path):
    data = load_data(write(tmp_path, medmnist(val=False)), validation_fraction=0.2)
    assert (len(data.train), len(data.val), len(data.test)) == (32, 8, 12)
    assert data.val.labels.bincount().tolist() == [2] * 4


def test_images_and_labels_alone_are_a_test_set(tmp_path):
    arrays = {"images": np.full((5, 9, 11), 51, np.uint8), "labels": np.arange(5)}
    data = load_data(write(tmp_path, arrays))
    assert set(data.splits()) == {"test"}
    assert data.image_size == (9, 11)
    assert data.mean == (0.2,)
    with pytest.raises(DataError, match="no train split, only test"):
        data.require("train")


def changed(**changes):
    return {name: array for name, array in {**medmnist(), **changes}.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (changed(test_images=None), "it holds test_labels, train_images"),
        (changed(test_images=None, test_labels=None), "must hold"),
        ({"pictures": np.zeros(3)}, "it holds pictures"),
        ({"images": np.zeros((2, 8, 8), np.uint8)}, "it holds images"),
        (changed(train_images=np.zeros((40, 28, 28))), "train_images in .* are float64"),
        (changed(train_images=np.zeros((40, 784), np.uint8)), r"\(40, 784\)"),
        (changed(train_images=np.zeros((40, 28, 28, 4), np.uint8)), r"\(40, 28, 28, 4\)"),
        (changed(train_images=np.zeros((0, 28, 28), np.uint8)), r"\(0, 28, 28\)"),
        (changed(train_labels=np.zeros(39, np.int64)), "expected 40 whole numbers"),
        (changed(train_labels=np.zeros((40, 2), np.int64)), "expected 40 whole numbers"),
        (changed(train_labels=np.zeros(40)), "labels in .* are float64"),
        (changed(train_labels=np.full(40, -1)), "run from -1"),
        (changed(train_labels=np.full(40, 2**40)), "run from"),
        (changed(test_labels=np.full(12, 4)), "4 classes"),
        (changed(test_images=np.zeros((12, 30, 28), np.uint8)), "different shapes"),
        (changed(train_labels=np.array([None] * 40, dtype=object)), "cannot be read"),
    ],
)
def test_deviations_are_named(tmp_path, arrays, message):
    with pytest.raises(DataError, match=message):
        load_data(write(tmp_path, arrays))


@pytest.mark.parametrize("keep", [0, 3, 100, 4000, -1, -30])
def test_truncated_archives(tmp_path, keep):
    name = write(tmp_path, medmnist())
    path = tmp_path / "set.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"set\.npz"):
        load_data(name)


def test_a_flipped_byte_is_noticed(tmp_path):
    name = write(tmp_path, medmnist())
    path = tmp_path / "set.npz"
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="cannot be read"):
        load_data(name)


def test_files_that_are_no_archive(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        load_data(f"npz:{tmp_path / 'array.npy'}")
    with pytest.raises(DataError, match="there is no file"):
        load_data(f"npz:{tmp_path / 'nothing.npz'}")
    with pytest.raises(DataError, match="cannot be read"):
        load_data(f"npz:{tmp_path}")
    (tmp_path / "cut.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match="cannot be read") as found:
        load_data(f"npz:{tmp_path / 'cut.npz'}")
    assert "unsafely" not in str(found.value)
    with pytest.raises(DataError, match="needs a path"):
        load_data("npz")


def test_what_is_no_array_in_an_archive_is_refused(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, **changed(test_labels=None))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("test_labels", "0, 1, 2")
    with pytest.raises(DataError, match=r"test_labels in .* are \|S7"):
        load_data(f"npz:{path}")
