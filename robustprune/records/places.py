"""Where the outcomes per sample of a record lie, and whether they are another record's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from robustprune.runtime.files import printable
from robustprune.runtime.kinds import may_overwrite


def samples_path(record: Path) -> Path:
    """Return the file of outcomes beside a record, named after all of its name, so that no two records share one."""
    return record.with_name(f"{printable(record.name)}.samples.npz")


def recorded_samples(record: Path) -> list[Path]:
    """Return the file of outcomes that a record names, whatever the record is called by now."""
    try:
        name = json.loads(record.read_bytes())["samples_file"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
    return [record.with_name(Path(name).name)] if isinstance(name, str) and Path(name).name else []


def check_samples_are_free(record: Path) -> None:
    """Check that no other record of the folder has its outcomes where those of this one go, as a renamed one has.

    Raises:
        OSError: One has.
    """
    beside = samples_path(record)
    if may_overwrite() or not os.path.exists(beside):
        return
    for other in sorted(record.parent.iterdir()):
        if other.is_symlink() and os.path.realpath(other) == os.path.realpath(record):
            continue  # a link to the record, such as latest.json, is no other one
        if other.name not in (record.name, beside.name) and _names(other, beside.name):
            owned = f"{other} has its outcomes per sample in {beside.name}, which would be lost"
            reason = f"{owned}; choose another name, or add --overwrite"
            raise FileExistsError(errno.EEXIST, reason, str(beside))


def _names(path: Path, samples: str) -> bool:
    """Return whether a file is a record with outcomes in a file of this name."""
    try:
        with path.open("rb") as stream:
            return stream.read(1) == b"{" and f'"samples_file": {json.dumps(samples)}'.encode() in stream.read()
    except OSError:
        return False
