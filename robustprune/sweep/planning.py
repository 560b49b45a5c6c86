"""A sweep's plan: kept once it is made, and made again when anything it was made of may have changed.

Resolving defaults takes torch and the image sets, seconds at best; whether that is needed is found out in milliseconds,
from what the code and the images look like from outside.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from robustprune.errors import SweepError
from robustprune.runtime.files import hash_json, user_path, write_atomically
from robustprune.runtime.kinds import SWEEP_PLAN
from robustprune.sweep.graph import SCHEMAS, SweepPlan
from robustprune.sweep.store import Store

# What results, or lists of image sets and options, come from besides this package.
_PACKAGES = ("torch", "torchvision", "timm", "torchattacks", "robustbench", "scikit-learn", "torch-pruning", "pydantic")


def plan_key(asked: object) -> str:
    """Return the hash of what is asked for, of what the code looks like, and of what its stages mean."""
    code = [look_at(Path(__file__).parent.parent), *map(_version, _PACKAGES)]
    return hash_json([SCHEMAS, hash_json(code), repr(asked)])


def known_plan(store: Store, name: str, key: str) -> SweepPlan | None:
    """Return the plan of a sweep that was made before, if it still holds."""
    try:
        plan = SweepPlan.from_json(store.plan_file(name).read_bytes())
    except (OSError, ValueError):
        return None
    return plan if plan.key == key and all(look_at(path) == seen for path, seen in plan.watched.items()) else None


def keep_plan(plan: SweepPlan, store: Store, name: str) -> None:
    """Write a plan down, unless it is there.

    Raises:
        SweepError: It cannot be written.
    """
    path, content = store.plan_file(name), plan.to_json().encode()
    try:
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content, SWEEP_PLAN)
    except OSError as error:
        raise SweepError(f"the plan cannot be written to {path}: {error.strerror}") from error


def file_name(name: str) -> str:
    """Return a sweep's name as it may stand in a file's."""
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "sweep"


def look_at(path: str | Path) -> str:
    """Return what a file or folder looks like from outside: names, sizes, times; empty where there is nothing."""
    path = user_path(path)
    if not path.exists():
        return ""
    found = [(file.relative_to(path), file.stat()) for file in _files(path)]
    return hash_json([[str(name), looks.st_size, looks.st_mtime_ns] for name, looks in found])


def hash_content(path: str | Path) -> str:
    """Return the SHA-256 over the files at a place, and of those in folders within it over their names and sizes.

    Sets of millions of images lie in such folders; reading them all would take longer than evaluating a network.
    """
    path = user_path(path)
    found = []
    for file in _files(path):
        name = file.relative_to(path)
        if len(name.parts) < 2:
            with file.open("rb") as stream:
                found.append([name.as_posix(), hashlib.file_digest(stream, "sha256").hexdigest()])
        else:
            found.append([name.as_posix(), str(file.stat().st_size)])
    return hash_json(found)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            yield Path(folder) / name
