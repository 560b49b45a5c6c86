"""A command: refused before it begins where a value is missing or doubled, or where something would be lost.

No command writes over what it reads, nor over a file of another kind.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.options import KeyValue
from robustprune.cli.paths import Read, Target, named_paths, published_files
from robustprune.errors import RobustPruneError
from robustprune.runtime.kinds import TICKET, Kind, check_replaceable, overwriting

_LONGEST_NAME = 255  # bytes, on all common file systems
_IMAGES = re.compile(r"\.(png|jpe?g|jfif|bmp|gif|tiff?|webp|p[bgnp]m|npy)", re.IGNORECASE)
"""Endings of what image sets are made of."""


@dataclass(frozen=True)
class _Output:
    option: str
    path: Path
    kind: Kind | None
    marks: tuple[str, ...] = ()
    is_folder: bool = False


class Command(click.RichCommand):
    """A command that checks all it is given before it begins."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Add ``--overwrite`` where something is written."""
        super().__init__(*args, **options)
        if any(isinstance(each.type, Target) for each in self.params):
            place = next((i for i, each in enumerate(self.params) if each.name == "as_json"), len(self.params))
            self.params.insert(place, _overwrite_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, refuse what is empty or set twice, and say which of two values counts.

        Raises:
            UsageError: An option or argument is empty, or two of its name=value set the same name.
        """
        given = list(args)
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            for param in self.params:
                _refuse_empty(param, ctx)
            _, _, order = self.make_parser(ctx).parse_args(given)
            for param in dict.fromkeys(order):
                _refuse_names_twice(param, ctx)
                _say_what_counts(param, order.count(param), ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Check what is read and written, then run."""
        overwrite = ctx.params.pop("overwrite", False)
        with overwriting(overwrite):
            if outputs := list(_outputs(self, ctx)):
                _check(outputs, list(_inputs(self, ctx)), overwrite)
            return super().invoke(ctx)


def _refuse_empty(param: click.Parameter, ctx: click.Context) -> None:
    value = ctx.params.get(param.name or "")
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, str) and not each.strip():
            raise click.UsageError(
                f"{_called(param)} is empty; was a variable of the shell unset? Give it a value, or leave it out", ctx
            )


def _refuse_names_twice(param: click.Parameter, ctx: click.Context) -> None:
    if isinstance(param.type, KeyValue):
        names = [name for name, _ in ctx.params[param.name or ""]]
        for name in names:
            if names.count(name) > 1:
                raise click.UsageError(f"{_called(param)} {name}=… is given more than once; give it once", ctx)


def _say_what_counts(param: click.Parameter, times: int, ctx: click.Context) -> None:
    if times > 1 and isinstance(param, click.Option) and not (param.multiple or param.is_flag or param.count):
        counts = ctx.params[param.name or ""]
        terminal.say(f"Warning: {_called(param)} is given {times} times; the last one, {counts}, counts")


def _called(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name


def _overwrite_option() -> click.Option:
    return click.RichOption(
        ["--overwrite"], is_flag=True, help="Replace files of other kinds, too; what is read is never replaced."
    )


def _values(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the type and every single value of each option and argument."""
    for each in command.params:
        value = ctx.params.get(each.name or "")
        option = each.opts[0] if isinstance(each, click.Option) else str(each.metavar or each.name)
        if isinstance(each, click.Option):
            option = next((name for name in each.opts if name.startswith("--")), option)
        several = each.multiple if isinstance(each, click.Option) else each.nargs != 1
        for one in (value or ()) if several else [value]:
            if one is not None:
                yield option, each.type, one


def _outputs(command: click.Command, ctx: click.Context) -> Iterator[_Output]:
    for option, kind, value in _values(command, ctx):
        if isinstance(kind, Target):
            path = Path(value)
            if not (kind.file_okay and kind.dir_okay):  # of what may be either, ``beside`` says which it is
                yield _Output(option, path, kind.kind, kind.marks, is_folder=kind.dir_okay)
            for further, own in kind.beside(path, ctx.params):
                yield _Output(option, further, own)


def _inputs(command: click.Command, ctx: click.Context) -> Iterator[tuple[str, Read]]:
    """Yield what is read, after the name of the option that says so."""
    for option, kind, value in _values(command, ctx):
        if not hasattr(kind, "reads"):
            continue
        try:
            found = list(kind.reads(value))
        except RobustPruneError:
            continue  # there is nothing to read, which the command says
        for read in found:
            yield option, read
            if TICKET.recognizes(read.path):
                yield from ((f"{option} {value}", each) for each in _remembered(read.path))


def _remembered(path: Path) -> Iterator[Read]:
    """Yield the files and folders that a ticket speaks of: its image set and the code of its network."""
    from robustprune.errors import DamagedFileError
    from robustprune.runtime.files import read_sealed
    from robustprune.tickets.ticket import FORMAT

    try:
        header = read_sealed(path, FORMAT).get("header")
    except DamagedFileError:
        return
    if not isinstance(header, dict):
        return
    data, architecture = header.get("data") or {}, header.get("architecture") or {}
    options = architecture.get("options") or {}
    if isinstance(data.get("name"), str):
        yield from published_files([data["name"]], data.get("root"))
    for text in (data.get("name"), architecture.get("name"), options.get("weights_file")):
        if isinstance(text, str):
            yield from named_paths(text, plain=text == options.get("weights_file"))


def _check(outputs: list[_Output], inputs: list[tuple[str, Read]], overwrite: bool) -> None:
    """Raise a usage error where an output is an input, lies in one, is another output, or of another kind."""
    for place, output in enumerate(outputs):
        for option, source in inputs:
            _check_against(output, option, source)
        for other in outputs[:place]:
            if _are_one(output.path, other.path) and not (output.is_folder and other.is_folder):
                raise click.UsageError(
                    f"{output.option} and {other.option} would both write {output.path}; write to different files"
                )
        if len(os.fsencode(output.path.name)) > _LONGEST_NAME:
            raise click.UsageError(f"{output.option} {output.path}: the file's name is too long; choose a shorter one")
        if output.is_folder:
            _check_folder(output, overwrite)
            continue
        try:
            check_replaceable(output.path, output.kind)
        except OSError as error:
            raise click.UsageError(f"{output.option} {output.path}: {error.strerror}") from error


def _check_against(output: _Output, option: str, source: Read) -> None:
    if _are_one(output.path, source.path) and (source.kind is None or source.kind.recognizes(source.path)):
        raise click.UsageError(
            f"{output.option} {output.path} is the {'folder' if output.is_folder else 'file'} that {option} "
            "names; write to another one"
        )
    if not (source.whole and source.path.is_dir()):
        return
    place = Path(os.path.realpath(output.path))
    within = [parent for parent in place.parents if _are_one(parent, source.path)]
    # A record beside the folders of the classes, say, is no matter of the set.
    is_beside = place.parent in within and not output.is_folder and not _IMAGES.fullmatch(place.suffix)
    if within and not is_beside:
        raise click.UsageError(
            f"{output.option} {output.path} lies in {source.path}, which {option} reads; write to another folder"
        )


def _check_folder(output: _Output, overwrite: bool) -> None:
    try:
        names = os.listdir(output.path)
    except OSError:
        return  # it is not there yet
    if overwrite or not output.marks or not any(not name.startswith(".") for name in names):
        return
    if not set(output.marks) & set(names):
        raise click.UsageError(
            f"{output.option} {output.path} holds something else; name a new or an empty folder, or add --overwrite to "
            "write beside what is there"
        )


def _are_one(first: Path, second: Path) -> bool:
    """Return whether two paths lead to one file or folder, however they are spelled, which needs not exist."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)
