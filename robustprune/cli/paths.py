"""The paths of a command: what it reads and what it writes, so that the one never replaces the other.

Every option that takes a path says by its type which of the two it is; `tests/cli/test_cli_guard.py` holds that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.types import StringParamType

from robustprune.runtime.file_kinds import RECORD, FileKind
from robustprune.runtime.files import user_path

Beside = Callable[[Path, dict[str, Any]], Iterable[tuple[Path, FileKind]]]
"""From an output and the command's arguments to what is written in it or beside it, with what that is."""


class Read(NamedTuple):
    """A file or folder that is read.

    Attributes:
        path: Where it is.
        whole: Whether everything in a folder is read, so that nothing may be added to it.
        kind: What is read if it is such a file, as the records among all JSON of a folder; None for whatever it is.
    """

    path: Path
    whole: bool = False
    kind: FileKind | None = None


_MOST_PARTS = 8  # of a text, between its signs, that are put together to one path


class Target(click.Path):
    """A path to write to, checked before hours of work go into what is to be written.

    Attributes:
        kind: Of the file; a file of another kind is not replaced.
        beside: Further files.
        marks: What a folder that was written before has one of; another one has to be empty. Without marks any folder
            will do.
    """

    def __init__(
        self, kind: FileKind | None = None, *, beside: Beside | None = None, marks: tuple[str, ...] = (), **options: Any
    ) -> None:
        """Say what is written, and take the options of :class:`click.Path`."""
        super().__init__(writable=True, **options)
        self.kind, self.marks = kind, marks
        self.beside: Beside = beside or (lambda _path, _options: ())

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Check that the file or folder can be made."""
        path = os.fsdecode(super().convert(value, param, ctx))
        if not path:
            self.fail("it is empty", param, ctx)
        nearest = next(parent for parent in Path(path).absolute().parents if os.path.lexists(parent))
        if not nearest.is_dir():
            self.fail(f"{nearest} is a file, so nothing can be written in it", param, ctx)
        if not os.access(nearest, os.W_OK):
            self.fail(f"nothing may be written in the folder {nearest}", param, ctx)
        return path


OUT_FOLDER = Target(file_okay=False)
"""A folder to which files are added, whatever else is in it."""


class Source(click.Path):
    """A path that is read; ``whole``: a folder to which nothing may be added."""

    def __init__(self, *, whole: bool = False, **options: Any) -> None:
        """Take the options of :class:`click.Path`."""
        super().__init__(**options)
        self.whole = whole

    def reads(self, value: Any) -> Iterator[Read]:
        """Yield what is read."""
        yield Read(Path(value), self.whole)


class CodeFile(Source):
    """A Python file, or a name in one: ``FILE.py:NAME``."""

    def reads(self, value: Any) -> Iterator[Read]:
        """Yield the file."""
        yield from named_paths(str(value), plain=True)


class DataRoot(Source):
    """A folder to look for published image sets in; other files may be added to it."""

    def reads(self, value: Any) -> Iterator[Read]:
        """Yield the folder, and the files of all image sets in it."""
        yield Read(Path(value))
        yield from published_files(None, value)


class RecordFolder(Source):
    """A folder of records; more may be added."""

    def reads(self, value: Any) -> Iterator[Read]:
        """Yield the records in the folder, and the outcomes beside them."""
        for home, _, names in os.walk(value):
            yield from (Read(Path(home, name), kind=RECORD) for name in names if name.endswith(".json"))
            yield from (Read(Path(home, name)) for name in names if name.endswith(".samples.npz"))


class Naming(StringParamType):
    """A text that may hold a path: ``npz:FILE``, ``file:FILE:NAME``, ``NAME=imagefolder:DIR``.

    That of a network is ``plain``: the whole text may be a file.
    """

    def __init__(self, *, plain: bool = False) -> None:
        """Say whether the whole text may be a file."""
        self.plain = plain

    def reads(self, value: str) -> Iterator[Read]:
        """Yield what is there of all paths that the text may hold, and the files of a published image set."""
        yield from named_paths(value, plain=self.plain)
        if not self.plain:
            yield from published_files([value])


class Records(StringParamType):
    """Records: files, folders, patterns, or ``NAME=RECORDS``."""

    def reads(self, value: str) -> Iterator[Read]:
        """Yield the records, and the outcomes beside them."""
        from robustprune.comparison.sources import find_records, is_named, split_named
        from robustprune.records import recorded_samples, samples_path

        for place in split_named(value)[1] if is_named(value) else [value]:
            for record in find_records(place):
                yield Read(record)
                yield from (Read(path) for path in {samples_path(record), *recorded_samples(record)})


def published_files(names: Iterable[str] | None, root: str | None = None) -> Iterator[Read]:
    """Yield the files of published image sets of these names, or of all, below a folder and where they usually are."""
    from robustprune.data.registry import PLACES, folders

    for name in PLACES.keys() if names is None else PLACES.keys() & set(names):
        for folder in folders(name, None if root is None else Path(root)):
            files = [Path(folder, file + ending) for file in PLACES[name].files for ending in ("", ".gz")]
            yield from (Read(path, whole=True) for path in files if path.exists())


def named_paths(text: str, *, plain: bool) -> Iterator[Read]:
    """Yield what is there of the paths that a text may hold between its colons, equal signs and commas.

    A folder counts after such a sign alone: a network may well be called as a folder is.
    """
    signs = [-1, *(place for place, letter in enumerate(text) if letter in ":=,"), len(text)]
    for start, end in combinations(range(len(signs)), 2):
        part = text[signs[start] + 1 : signs[end]]
        follows, is_all = start > 0, start == 0 and end == len(signs) - 1
        if part and end - start <= _MOST_PARTS and (follows or (plain and is_all)):
            path = user_path(part)
            if os.path.isfile(path) or (follows and os.path.isdir(path)):
                yield Read(path, whole=True)
