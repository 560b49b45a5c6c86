"""The control groups by which Linux, and so a container, limits a process. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the folders of a process's control group and of those above it, each of which limits it (man 7 cgroups).

    In a container the group's own folder may not be there, and its limits stand in the folder that all are mounted in.

    Args:
        controller: ``cpu`` or ``memory``.
        root: Of the file system.
    """
    mounted = root / "sys/fs/cgroup"
    for line in read(root / "proc/self/cgroup").splitlines():
        _number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        # Version 2 has one tree, and names no controllers; version 1 one for each set of them.
        if not group or (controllers and controller not in controllers.split(",")):
            continue
        top = mounted / controllers
        own = top / group.lstrip("/")
        yield own
        if own != top:
            yield from (folder for folder in own.parents if folder.is_relative_to(top))


def read(file: Path) -> str:
    """Return what stands in a file, and nothing where it cannot be read."""
    try:
        return file.read_text()
    except OSError:
        return ""
