"""Files that are wholly there or not at all, or know when they were damaged; how their paths are written; hashes.

A sealed file is what ``torch.save`` writes (any PyTorch opens it), with the SHA-256 of those bytes in the zip archive's
comment. Reading checks the digest first and then loads with ``weights_only=True``: a flipped bit is found wherever it
is, and nothing in a file is ever executed.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustprune.errors import DamagedFileError
from robustprune.runtime.file_kinds import FileKind, check_replaceable

if TYPE_CHECKING:
    import numpy as np

_SEAL = b"robustprune:sha256:"
_COMMENT_LENGTH = len(_SEAL) + 64


def user_path(text: str | Path) -> Path:
    """Return a path as a user writes it: ``~`` is the home folder."""
    return Path(os.path.expanduser(text))  # Path.expanduser raises where there is no home


def write_atomically(path: Path, content: bytes, kind: FileKind | None = None) -> None:
    """Write ``content`` to ``path`` so that a reader, or a crash, never sees half of it.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the final name in
    one rename. Missing parent folders are made. What killed writers of the same file left behind is removed. A file of
    another kind is not replaced; None is for files whose names nobody else gives.

    Raises:
        OSError: The folder cannot be written, or something of another kind is there; nothing is left behind.
    """
    check_replaceable(path, kind)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"{path.parent} is a file, not a folder", str(path.parent)) from None
    _remove_leftovers(path)
    temporary = path.with_name(f"{_temporary_prefix(path)}{os.getpid()}.{os.urandom(4).hex()}.tmp")
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
    import socket

    return f".{path.name[:40]}.{socket.gethostname()}."


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files for ``path`` whose writer, a process of this machine, is no more."""
    if os.name != "posix":  # elsewhere os.kill ends the process it is asked about
        return
    pattern = re.compile(re.escape(_temporary_prefix(path)) + r"(\d+)\.[0-9a-f]{8}\.tmp")
    for name in os.listdir(path.parent):
        if match := pattern.fullmatch(name):
            try:
                os.kill(int(match[1]), 0)
            except ProcessLookupError:
                path.with_name(name).unlink(missing_ok=True)
            except OSError:
                pass  # it runs, as somebody else's


def write_sealed(path: Path, content: Mapping[str, Any], kind: FileKind | None = None) -> None:
    """Write plain containers and tensors to ``path``, atomically, and over no file of another kind.

    Tensors are written as the processor's, wherever they are: whoever reads them may have no such device.
    """
    import hashlib

    import torch  # late, as all that is not for every command line: this module is for all who name files
    from torch.utils._pytree import tree_map_only

    buffer = io.BytesIO()
    torch.save(tree_map_only(torch.Tensor, lambda tensor: tensor.cpu(), dict(content)), buffer)
    archive = buffer.getvalue()
    comment = _SEAL + hashlib.sha256(archive).hexdigest().encode()
    # The last two bytes of a zip archive without a comment are the comment's length, zero.
    write_atomically(path, archive[:-2] + struct.pack("<H", len(comment)) + comment, kind)


def read_sealed(path: Path, kind: str) -> dict[str, Any]:
    """Return what :func:`write_sealed` wrote, which has to hold ``kind``, as ``robustprune-ticket``, under "format".

    Raises:
        DamagedFileError: The file is missing, unreadable, damaged, or of another kind.
    """
    import torch

    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DamagedFileError(f"there is no file {path}") from None
    except OSError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from error
    archive = _unseal(raw, path)
    try:
        content = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises half a dozen unrelated types here; the digest was right, so the content is to blame.
        raise DamagedFileError(f"{path} holds something other than plain tensors and containers") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != kind:
        what = repr(found[:50]) if isinstance(found, str) else "other content"
        raise DamagedFileError(f"{path} holds {what}, not {kind!r}")
    return dict(content)


def _unseal(raw: bytes, path: Path) -> bytes:
    """Return the archive within the file after checking its digest."""
    import hashlib

    comment = raw[-_COMMENT_LENGTH:]
    if not comment.startswith(_SEAL):
        raise DamagedFileError(
            f"{path} holds no tensors sealed by robustprune: it is of another kind, such as a record or a PyTorch file "
            "of some other program, or cut short"
        )
    archive = raw[: -_COMMENT_LENGTH - 2] + b"\0\0"
    digest = hashlib.sha256(archive).hexdigest().encode()
    if raw[len(archive) - 2 :] != struct.pack("<H", _COMMENT_LENGTH) + _SEAL + digest:
        raise DamagedFileError(f"{path} is damaged: its content does not match the SHA-256 stored in it")
    return archive


def hash_json(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value, independent of key order, as 64 hexadecimal digits."""
    import hashlib

    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def hash_arrays(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of arrays, in the order of their names."""
    import hashlib

    import numpy as np

    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.reshape(-1).data)  # its memory as it is, of which copies may not fit
    return digest.hexdigest()


def printable(text: str | Path) -> str:
    r"""Return a text or path fit for every output: bytes of a name that are no UTF-8 are written as ``\xe9``.

    Python holds such bytes as lone surrogates, which JSON, HTML and terminals refuse.
    """
    shown = re.sub("[\udc80-\udcff]", lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", str(text))
    return shown.encode(errors="backslashreplace").decode()  # what else of surrogates there may be


def _escape_what_fails(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    failed = printable(error.object[error.start : error.end])
    return failed.encode("ascii", "backslashreplace").decode(), error.end


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
