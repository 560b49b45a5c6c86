"""The IDX reader against files written here byte by byte, and Fashion-MNIST where Debian puts it."""

import gzip
import struct

import numpy as np
import pytest
import torch

from robustprune.data import load_data
from robustprune.data.published import read_idx
from robustprune.data.registry import PLACES
from robustprune.errors import DataError

DEBIAN = PLACES["fashion-mnist"].system[0]


def idx_bytes(array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture(autouse=True)
def _no_other_places(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUSTPRUNE_DATA", str(tmp_path / "usual"))
    place = PLACES["fashion-mnist"]
    monkeypatch.setitem(PLACES, "fashion-mnist", place.__class__(**{**vars(place), "system": ()}))


def write_fashion(folder, *, gzipped, train=40, test=20):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    written = {}
    for prefix, count in (("train", train), ("t10k", test)):
        images = generator.integers(256, size=(count, 28, 28))
        labels = np.arange(count) % 10
        written[prefix] = images, labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            content = idx_bytes(array)
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' if gzipped else ''}"
            path.write_bytes(gzip.compress(content) if gzipped else content)
    return written


@pytest.mark.parametrize("gzipped", [True, False])
@pytest.mark.parametrize("subfolder", ["", "FashionMNIST/raw"])
def test_fashion_mnist_is_read_as_written(tmp_path, gzipped, subfolder):
    written = write_fashion(tmp_path / subfolder, gzipped=gzipped)
    data = load_data("fashion-mnist", root=tmp_path, validation_fraction=0)
    for split, prefix in ((data.train, "train"), (data.test, "t10k")):
        np.testing.assert_array_equal(split.images[:, 0].numpy(), written[prefix][0])
        np.testing.assert_array_equal(split.labels.numpy(), written[prefix][1])
    assert data.val is None
    assert data.flips
    assert (data.classes[0], data.classes[9]) == ("T-shirt/top", "Ankle boot")


def test_the_usual_folder_comes_from_the_environment(tmp_path):
    write_fashion(tmp_path / "usual", gzipped=True)
    assert len(load_data("fashion-mnist").require("test")) == 20


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_fashion_mnist_has_its_published_statistics():
    data = load_data("fashion-mnist", root=DEBIAN, validation_fraction=0)
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.train.labels.bincount().tolist() == [6000] * 10
    # The mean and deviation of the training pixels that are in general use for this set.
    assert data.mean[0] == pytest.approx(0.2860, abs=5e-5)
    assert data.std[0] == pytest.approx(0.3530, abs=5e-5)


def test_files_that_are_not_what_they_should_be(tmp_path):
    good = idx_bytes(np.zeros((3, 4, 5)))
    cases = {
        "wrong magic": (b"\x00\x01" + good[2:], "starts with 00010803"),
        "signed type": (b"\x00\x00\x09" + good[3:], "starts with 00000903"),
        "two dimensions": (idx_bytes(np.zeros((3, 40))), "in 3 dimensions"),
        "empty": (b"", "not an IDX file"),
        "header cut": (good[:9], "not an IDX file"),
        "one byte short": (good[:-1], "not an IDX file"),
        "one byte over": (good + b"\0", "not an IDX file"),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_idx(path, 3)


@pytest.mark.parametrize("cut", [5, 20, -4])
def test_truncated_gzip_files(tmp_path, cut):
    path = tmp_path / "images.gz"
    content = np.random.default_rng(0).integers(256, size=(3, 4, 5))
    path.write_bytes(gzip.compress(idx_bytes(content))[:cut])
    with pytest.raises(DataError, match=r"images\.gz"):
        read_idx(path, 3)


def test_a_corrupt_gzip_stream(tmp_path):
    path = tmp_path / "images.gz"
    content = bytearray(gzip.compress(idx_bytes(np.random.default_rng(0).integers(256, size=(30, 4, 5)))))
    content[200] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="fetch it again"):
        read_idx(path, 3)


def test_counts_and_labels_that_do_not_fit(tmp_path):
    write_fashion(tmp_path, gzipped=False)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(39)))
    with pytest.raises(DataError, match=r"40 images and .* 39 labels"):
        load_data("fashion-mnist", root=tmp_path)
    labels.write_bytes(idx_bytes(np.full(40, 10)))
    with pytest.raises(DataError, match="10 classes"):
        load_data("fashion-mnist", root=tmp_path)


def test_resizing_fashion_is_recorded(tmp_path):
    write_fashion(tmp_path, gzipped=True)
    data = load_data("fashion-mnist", root=tmp_path, image_size=32, channels=3)
    assert data.image_size == (32, 32)
    assert data.channels == 3
    assert data.train.images.dtype == torch.uint8
    recorded = data.provenance
    assert recorded["resized_from"] == [28, 28]
    assert recorded["resized_to"] == [32, 32]
    assert recorded["interpolation"] == "bilinear, antialiased"
    assert (recorded["channels_from"], recorded["channels_to"]) == (1, 3)
