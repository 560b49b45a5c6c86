"""Containers of tensors in one file that knows when it was damaged.

The file is what ``torch.save`` writes (any PyTorch opens it), with the SHA-256 of those bytes in the zip
archive's comment. Reading checks the digest first and then loads with ``weights_only=True``: a flipped bit
is found wherever it is, and nothing in a file is ever executed.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from robustprune.errors import DamagedFileError
from robustprune.runtime.files import write_atomically
from robustprune.runtime.kinds import Kind

_PREFIX = b"robustprune:sha256:"
_COMMENT_LENGTH = len(_PREFIX) + 64
_END_RECORD = b"PK\x05\x06"


def write_sealed(path: Path, content: Mapping[str, Any], kind: Kind | None = None) -> None:
    """Write plain containers and tensors to ``path``, atomically, and over no file of another kind."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    archive = buffer.getvalue()
    comment = _PREFIX + hashlib.sha256(archive).hexdigest().encode()
    # The last two bytes of a zip archive without a comment are the comment's length, zero.
    write_atomically(path, archive[:-2] + struct.pack("<H", len(comment)) + comment, kind)


def read_sealed(path: Path, kind: str) -> dict[str, Any]:
    """Return what :func:`write_sealed` wrote.

    Args:
        path: The file.
        kind: The value that the content has to hold under "format", such as ``robustprune-ticket``.

    Raises:
        DamagedFileError: The file is missing, unreadable, damaged, foreign, or of another kind.
    """
    if path.is_dir():
        raise DamagedFileError(f"{path} is a folder, not a file")
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
    if not isinstance(content, dict) or content.get("format") != kind:
        found = content.get("format") if isinstance(content, dict) else None
        what = repr(found[:50]) if isinstance(found, str) else "other content"
        raise DamagedFileError(f"{path} holds {what}, not {kind!r}")
    return content


def _guess(raw: bytes) -> str:
    """Return what a file without a digest seems to be."""
    if raw.lstrip().startswith(b"{"):
        return "is JSON, such as a record or a report's data, and not a file of tensors; name the file it is about"
    is_torch = raw.startswith(b"PK\x03\x04") or raw.startswith(b"\x80")
    hint = "a PyTorch file of some other program, or a truncated one" if is_torch else "some other file"
    return f"was not written by robustprune, or is cut short: it looks like {hint}"


def _unseal(raw: bytes, path: Path) -> bytes:
    """Return the archive within the file after checking its digest."""
    archive, length, comment = (
        raw[: -_COMMENT_LENGTH - 2],
        raw[-_COMMENT_LENGTH - 2 : -_COMMENT_LENGTH],
        raw[-_COMMENT_LENGTH:],
    )
    if not raw:
        raise DamagedFileError(f"{path} is empty")
    if not comment.startswith(_PREFIX):
        raise DamagedFileError(f"{path} {_guess(raw)}")
    archive += b"\x00\x00"
    digest = hashlib.sha256(archive).hexdigest().encode()
    if comment != _PREFIX + digest or struct.unpack("<H", length)[0] != _COMMENT_LENGTH:
        raise DamagedFileError(f"{path} is damaged: its content does not match the SHA-256 stored in it")
    return archive
