"""SVHN files written by scipy in the published layout."""

import numpy as np
import pytest
from scipy.io import savemat

from robustprune.data import load_data
from robustprune.errors import DataError


def write_svhn(root, **overrides):
    generator = np.random.default_rng(0)
    written = {}
    for name, count in (("train", 30), ("test", 20)):
        content = {
            "X": generator.integers(256, size=(32, 32, 3, count), dtype=np.uint8),
            "y": (np.arange(count) % 10 + 1).astype(np.uint8).reshape(-1, 1),
        }
        written[name] = content
        savemat(root / f"{name}_32x32.mat", {**content, **overrides}, do_compression=True)
    return written


def test_svhn_is_read_as_written_and_ten_is_zero(tmp_path):
    written = write_svhn(tmp_path)
    data = load_data("svhn", root=tmp_path, validation_fraction=0)
    assert data.train.shape == (3, 32, 32)
    for number in (0, 7, 29):
        picture = written["train"]["X"][:, :, :, number]  # height, width, colour
        np.testing.assert_array_equal(data.train.images[number].permute(1, 2, 0).numpy(), picture)
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    assert not data.flips


@pytest.mark.parametrize(
    "overrides",
    [
        {"y": np.full((30, 1), 11, np.uint8)},
        {"y": np.full((30, 1), 0.5)},
        {"y": np.ones((4, 1), np.uint8)},
        {"X": np.zeros((32, 32, 3, 30))},
        {"X": np.zeros((32, 30, 3, 30), np.uint8)},
    ],
)
def test_contents_that_are_not_svhn(tmp_path, overrides):
    write_svhn(tmp_path, **overrides)
    with pytest.raises(DataError, match=r"train_32x32\.mat does not hold X, uint8"):
        load_data("svhn", root=tmp_path)


@pytest.mark.parametrize("keep", [0, 60, 200, 5000])
def test_truncated_files(tmp_path, keep):
    write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train_32x32\.mat"):
        load_data("svhn", root=tmp_path)


def test_a_file_without_the_arrays(tmp_path):
    write_svhn(tmp_path)
    savemat(tmp_path / "test_32x32.mat", {"Z": np.zeros(3)})
    with pytest.raises(DataError, match="not a MATLAB file of arrays X and y"):
        load_data("svhn", root=tmp_path)
