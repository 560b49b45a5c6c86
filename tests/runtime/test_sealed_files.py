"""Files that know when they were damaged: every kind of damage, and foreign and malicious files."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from robustprune.errors import DamagedFileError
from robustprune.runtime.files import read_sealed, write_sealed

KIND = "test-kind"
CONTENT = {
    "format": KIND,
    "weights": {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor([1, 2], dtype=torch.int64)},
    "header": {"numbers": [1, 2.5, None, True], "text": "ε"},
}


class Touches:
    """Unpickled without care, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def seal(archive: bytes) -> bytes:
    """Seal by the description of the format: the digest of a torch archive as the zip archive's comment."""
    comment = b"robustprune:sha256:" + hashlib.sha256(archive).hexdigest().encode()
    return archive[:-2] + struct.pack("<H", len(comment)) + comment


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "file.pt"
    write_sealed(path, CONTENT)
    return path


def refuse(path: Path, content: bytes, match: str = "file") -> None:
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=match) as caught:
        read_sealed(path, KIND)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_read_is_what_was_written(sealed: Path) -> None:
    found = read_sealed(sealed, KIND)
    assert found["header"] == CONTENT["header"]
    for name, tensor in CONTENT["weights"].items():  # type: ignore[attr-defined]
        assert found["weights"][name].dtype == tensor.dtype
        assert torch.equal(found["weights"][name], tensor)


def test_torch_and_zip_tools_open_it(sealed: Path) -> None:
    assert torch.load(sealed, weights_only=True)["header"] == CONTENT["header"]
    with zipfile.ZipFile(sealed) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"robustprune:sha256:")


def test_the_format_is_as_described(tmp_path: Path) -> None:
    path = tmp_path / "by_hand.pt"
    path.write_bytes(seal(saved(CONTENT)))
    assert read_sealed(path, KIND)["header"] == CONTENT["header"]


def test_every_truncation(sealed: Path) -> None:
    whole = sealed.read_bytes()
    lengths = {*range(64), *range(len(whole) - 150, len(whole)), *range(64, len(whole), 37)}
    for length in sorted(lengths):
        refuse(sealed, whole[:length], "no tensors sealed by robustprune.* cut short")
    refuse(sealed, whole + b"\0")
    refuse(sealed, whole + whole)


def test_every_flipped_bit(sealed: Path) -> None:
    whole = sealed.read_bytes()
    positions = {*range(64), *range(len(whole) - 150, len(whole))}
    positions |= set(random.Random(0).sample(range(len(whole)), 200))
    for position in sorted(positions):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            refuse(sealed, bytes(damaged))


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="there is no file"):
        read_sealed(tmp_path / "missing.pt", KIND)
    with pytest.raises(DamagedFileError, match="cannot be read: Is a directory"):
        read_sealed(tmp_path, KIND)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DamagedFileError, match="cannot be read: Not a directory"):
        read_sealed(tmp_path / "file" / "below.pt", KIND)
    refuse(tmp_path / "file", b"", "cut short")


@pytest.mark.parametrize("size", [1, 84, 85, 86, 5000])
def test_random_bytes(tmp_path: Path, size: int) -> None:
    refuse(tmp_path / "file", random.Random(size).randbytes(size), "of another kind")


@pytest.mark.parametrize(
    "content",
    [
        saved(torch.nn.Linear(2, 2).state_dict()),
        saved([1, 2, 3]),
        saved(torch.nn.Linear(2, 2)),
        saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False),
        pickle.dumps({"a": 1}),
    ],
    ids=["state_dict", "list", "module", "legacy", "pickle"],
)
def test_foreign_checkpoints(tmp_path: Path, content: bytes) -> None:
    refuse(tmp_path / "file.pt", content, "a PyTorch file of some other program")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([1, 2], "holds other content, not 'test-kind'"),
        ({"no": "format"}, "holds other content"),
        ({"format": "another-kind"}, "holds 'another-kind', not 'test-kind'"),
        ({"format": torch.zeros(3, 3)}, "holds other content"),
        ({"format": "long\n" * 1000}, "not 'test-kind'"),
    ],
)
def test_valid_seal_on_other_content(tmp_path: Path, content: Any, match: str) -> None:
    refuse(tmp_path / "file.pt", seal(saved(content)), match)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "file.pt"
    malicious = {"format": KIND, "payload": Touches(marker)}
    # The oracle: this really is code that runs when unpickled without care.
    torch.load(io.BytesIO(saved(malicious)), weights_only=False)
    assert marker.exists()
    marker.unlink()
    plain_pickle = pickle.dumps(malicious)
    legacy = saved(malicious, _use_new_zipfile_serialization=False)
    for content in (plain_pickle, legacy, saved(malicious)):
        refuse(path, content, "no tensors sealed by robustprune")
    for content in (plain_pickle, legacy, saved(malicious), saved({"format": KIND, "payload": Touches})):
        # A zip archive ends in two zeros; what follows the end of a pickle is not read.
        refuse(path, seal(content if content[:2] == b"PK" else content + b"\0\0"), "other than plain tensors")
    assert not marker.exists()


def test_what_is_written_has_to_be_plain_to_be_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file.pt", {"format": KIND, "module": torch.nn.Linear(2, 2)})
    with pytest.raises(DamagedFileError, match="other than plain tensors"):
        read_sealed(tmp_path / "file.pt", KIND)
