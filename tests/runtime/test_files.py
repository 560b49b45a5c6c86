from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.runtime.files import hash_arrays, hash_json, write_atomically

# Dies with its temporary file written and not yet renamed.
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from robustprune.runtime import files
files.os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(Path(sys.argv[1]), b"half")
"""


def test_whole_file_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_midway_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_interruption_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file.bin", b"new")
    assert os.listdir(tmp_path) == []


def test_leftover_of_a_killed_writer_goes_with_the_next_write(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    [leftover] = [name for name in os.listdir(tmp_path) if name != "file.bin"]
    # Neither what another machine nor what a living process is writing is a leftover.
    of_another_machine = tmp_path / leftover.replace(".file.bin.", ".file.bin.elsewhere.")
    parts = leftover.split(".")
    parts[-3] = str(os.getppid())
    of_the_living = tmp_path / ".".join(parts)
    for kept in (of_another_machine, of_the_living):
        kept.write_bytes(b"kept")
    write_atomically(tmp_path / "other.bin", b"another file")
    assert (tmp_path / leftover).exists()
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert {each.name for each in tmp_path.iterdir()} == {
        "file.bin",
        "other.bin",
        of_another_machine.name,
        of_the_living.name,
    }


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file.bin", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.bin").stat().st_mode) == mode


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        write_atomically(tmp_path / "file" / "below", b"")
    with pytest.raises(NotADirectoryError):
        write_atomically(tmp_path / "file" / "far" / "below", b"")
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", b"")
    assert (tmp_path / "file").read_bytes() == b"kept"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("name", ["x" * 250, "ε" * 120, "spaces and [brackets].json"])
def test_names_as_long_as_the_disk_allows(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, b"content")
    assert os.listdir(tmp_path) == [name]


@given(
    st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False, allow_infinity=False)))
)
def test_json_hash_knows_no_key_order(value: dict[str, object]) -> None:
    reversed_keys = dict(reversed(value.items()))
    assert hash_json(value) == hash_json(reversed_keys)
    assert hash_json(value) == hash_json(json.loads(json.dumps(value)))
    assert hash_json(value) != hash_json({**value, "\0": 0, "\1": 1})


def test_json_hash_by_hand() -> None:
    assert hash_json({"b": [1, 2.5], "a": None}) == hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()
    with pytest.raises(ValueError, match="JSON"):
        hash_json({"a": float("nan")})


def test_array_hash_sees_name_type_shape_and_bytes() -> None:
    zeros = np.zeros((2, 3), dtype=np.float32)
    one_bit = zeros.copy()
    one_bit[1, 2] = -0.0
    variants = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.T},
        {"a": zeros.ravel()},
        {"a": zeros.view(np.int32)},
        {"a": zeros.astype(">f4")},
        {"a": one_bit},
        {"a": zeros, "b": zeros},
    ]
    assert len({hash_arrays(variant) for variant in variants}) == len(variants)
    assert hash_arrays({"a": zeros, "b": one_bit}) == hash_arrays({"b": one_bit, "a": zeros})
    # What an array holds counts, not how it lies in memory.
    strided = np.arange(12, dtype=np.int64).reshape(3, 4)[:, ::2]
    assert hash_arrays({"a": strided}) == hash_arrays({"a": strided.copy()})
