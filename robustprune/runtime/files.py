"""Files that are either wholly there or not there at all, what their paths are written as, and hashes of contents."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustprune.runtime.kinds import Kind, check_replaceable

if TYPE_CHECKING:
    import numpy as np


def user_path(text: str | Path) -> Path:
    """Return a path as a user writes it: ``~`` is the home folder."""
    return Path(os.path.expanduser(text))  # Path.expanduser raises where there is no home


def write_atomically(path: Path, content: bytes, kind: Kind | None = None) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, never sees half of it.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the final name in
    one rename. Missing parent folders are made. What killed writers of the same file left behind is removed.

    Args:
        path: The file.
        content: All of it.
        kind: What it is; a file of another kind is not replaced. None for files whose names nobody else gives.

    Raises:
        OSError: The folder cannot be written, or something of another kind is there; nothing is left behind.
    """
    check_replaceable(path, kind)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"{path.parent} is a file, not a folder", str(path.parent)) from None
    _remove_leftovers(path)
    temporary = path.with_name(f"{_temporary_prefix(path)}{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary_prefix(path: Path) -> str:
    # The host, as a process id says nothing about the other machines that share a disk.
    return f".{path.name[:40]}.{socket.gethostname()}."


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files for ``path`` whose writer, a process of this machine, is no more."""
    pattern = re.compile(re.escape(_temporary_prefix(path)) + r"(\d+)\.[0-9a-f]{8}\.tmp")
    for name in os.listdir(path.parent):
        match = pattern.fullmatch(name)
        if match and not _is_running(int(match[1])):
            path.with_name(name).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere os.kill ends the process it is asked about
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, independent of key order, as 64 hexadecimal digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def hash_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of arrays, in the order of their names."""
    import numpy as np  # late, as this module is for all who write files

    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def printable(text: str | Path) -> str:
    r"""Return a text or path fit for every output: bytes of a name that are no UTF-8 are written as ``\xe9``.

    Python holds such bytes as lone surrogates, which JSON, HTML and terminals refuse.
    """
    return re.sub("[\ud800-\udfff]", lambda found: _escape(ord(found[0])), str(text))


def _escape(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _escape_what_fails(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_escape(ord(letter)) for letter in error.object[error.start : error.end]), error.end


ERRORS = "robustprune.printable"
"""Handler of errors of a stream that writes what it cannot encode as :func:`printable` does."""
codecs.register_error(ERRORS, _escape_what_fails)


def all_printable(value: Any) -> Any:
    """Return plain containers with every text in them :func:`printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {all_printable(name): all_printable(each) for name, each in value.items()}
    return [all_printable(each) for each in value] if isinstance(value, list | tuple) else value
