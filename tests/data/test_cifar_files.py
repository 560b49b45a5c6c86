"""CIFAR folders written as published, in both pickle dialects, and pickles with bad intentions."""

import os
import pickle
import struct

import numpy as np
import pytest

from robustprune.data import load_data
from robustprune.data.published import read_array_pickle
from robustprune.errors import DataError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def python2_pickle(data, labels):
    """The bytes Python 2 wrote for ``{'data': array, 'labels': [...]}``: strings of 8 bits, protocol 2."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    content = data.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01" + b"J" + struct.pack("<i", data.shape[0]) + b"J" + struct.pack("<i", data.shape[1]) + b"\x86"
        b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + b"T" + struct.pack("<i", len(content)) + content + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + b"u."


def write_cifar10(root, dialect):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    written = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        data = generator.integers(256, size=(10, 3072), dtype=np.uint8)
        labels = generator.permutation(10).tolist()
        written[name] = data, labels
        if dialect == "python 2":
            content = python2_pickle(data, labels)
        else:
            content = pickle.dumps({b"data": data, b"labels": labels}, protocol=int(dialect[-1]))
        (folder / name).write_bytes(content)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}, protocol=2))
    return folder, written


@pytest.mark.parametrize("dialect", ["python 2", "protocol 2", "protocol 4"])
def test_cifar10_is_read_as_written(tmp_path, dialect):
    _, written = write_cifar10(tmp_path, dialect)
    data = load_data("cifar10", root=tmp_path, validation_fraction=0)
    pixels = np.concatenate([written[f"data_batch_{number}"][0] for number in range(1, 6)])
    np.testing.assert_array_equal(data.train.images.numpy(), pixels.reshape(-1, 3, 32, 32))
    assert data.test.labels.tolist() == written["test_batch"][1]
    # Published order: all red values of an image by rows, then green, then blue.
    assert int(data.train.images[0, 1, 0, 5]) == int(pixels[0, 1024 + 5])
    assert data.classes == tuple(NAMES)
    assert data.flips


def test_the_set_folder_itself_may_be_the_root(tmp_path):
    folder, _ = write_cifar10(tmp_path, "python 2")
    assert len(load_data("cifar10", root=folder).test) == 10


def test_cifar100_uses_the_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 200), ("test", 100)):
        content = {
            "data": np.zeros((count, 3072), dtype=np.uint8),
            "fine_labels": [number % 100 for number in range(count)],
            "coarse_labels": [0] * count,
        }
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    meta = {"fine_label_names": [f"fine {n}" for n in range(100)], "coarse_label_names": ["coarse"]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    data = load_data("cifar100", root=tmp_path, validation_fraction=0)
    assert data.num_classes == 100
    assert data.test.labels.tolist() == list(range(100))
    assert data.classes[42] == "fine 42"


class Runs:
    """Unpickles by calling a function of the system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("hidden_in", ["the whole file", "a label", "an array type"])
def test_a_malicious_pickle_runs_nothing(tmp_path, hidden_in):
    folder, _ = write_cifar10(tmp_path, "python 2")
    trace = tmp_path / "trace"
    payload = Runs(f"touch {trace}")
    content = {
        "the whole file": payload,
        "a label": {"data": np.zeros((1, 3072), np.uint8), "labels": [payload]},
        "an array type": {"data": np.array([payload], dtype=object), "labels": [0]},
    }[hidden_in]
    (folder / "data_batch_3").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_3 is not a pickle of uint8 arrays.*system"):
        load_data("cifar10", root=tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(X\x05\x00\x00\x001 + 1tR.",
        b"cnumpy\nload\n(X\x01\x00\x00\x00xtR.",
        b"cnumpy\nndarray.tofile\n.",
        pickle.dumps(np.array(["a", None], dtype=object), protocol=2),
        pickle.dumps(np.array(["text"]), protocol=2),
        pickle.dumps({"data": np.arange(5)}, protocol=2)[:-9],
        b"",
        b"not a pickle at all",
        b"\x80\x02}(U\x04data",
    ],
)
def test_other_foreign_or_damaged_pickles(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a pickle of uint8 arrays"):
        read_array_pickle(path)


def test_arrays_and_containers_come_back_as_they_were(tmp_path):
    path = tmp_path / "file"
    numbers = np.arange(6, dtype=np.uint8).reshape(2, 3)
    original = {"a": [numbers, (1, 2.5, "x")], "b": np.asfortranarray(numbers)}
    path.write_bytes(pickle.dumps(original, protocol=2))
    read = read_array_pickle(path)
    np.testing.assert_array_equal(read["a"][0], original["a"][0])
    np.testing.assert_array_equal(read["b"], original["b"])
    assert read["a"][1] == [1, 2.5, "x"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": np.zeros((2, 3072), np.uint8)}, "does not hold"),
        ([1, 2], "does not hold"),
        ({"data": np.zeros((2, 3000), np.uint8), "labels": [0, 0]}, "rows of 3072"),
        ({"data": np.zeros((2, 3072), np.int64), "labels": [0, 0]}, "uint8"),
        ({"data": [1, 2], "labels": [0, 0]}, "does not hold"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "does not hold"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "class number"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, "10 classes"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [2**70]}, "class number"),
    ],
)
def test_contents_that_are_not_cifar(tmp_path, content, message):
    folder, _ = write_cifar10(tmp_path, "python 2")
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=message):
        load_data("cifar10", root=tmp_path)
