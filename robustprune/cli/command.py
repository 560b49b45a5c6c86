"""A command: refused before it begins where a value is missing or doubled, or where something would be lost.

No command writes over what it reads, nor over a file of another kind.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from robustprune.cli import terminal
from robustprune.cli.paths import Read, Target, named_paths, published_files
from robustprune.errors import DamagedFileError, RobustPruneError
from robustprune.runtime.file_kinds import TICKET, FileKind, check_replaceable, overwriting

_LONGEST_NAME = 255  # bytes, on all common file systems
_IMAGES = re.compile(r"\.(png|jpe?g|jfif|bmp|gif|tiff?|webp|p[bgnp]m|npy)", re.IGNORECASE)
"""Endings of what image sets are made of."""


_REST = "Options"
_LONGEST_SENTENCE = 300


def write_panel(formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Write a table of names and texts under a heading; what colours it click leaves out where there is no terminal."""
    with formatter.section(click.style(title, bold=True)):
        formatter.write_dl([(click.style(name, fg="cyan"), text) for name, text in rows])


class _Output(NamedTuple):
    option: str
    path: Path
    kind: FileKind | None
    marks: tuple[str, ...] = ()
    is_folder: bool = False

    @property
    def named(self) -> str:
        """What was asked for, for messages."""
        return f"{self.option} {self.path}"


class Command(click.Command):
    """A command that checks all it is given before it begins, and whose help has its options in panels."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        """Add ``--overwrite`` where something is written; ``examples`` end the help."""
        super().__init__(*args, **options)
        self.examples = examples
        if any(isinstance(each.type, Target) for each in self.params):
            place = next((i for i, each in enumerate(self.params) if each.name == "as_json"), len(self.params))
            text = (
                "Replace whatever is at the places to write to, but never a file that is read. Without this, only "
                "files "
                "of the same kind are replaced."
            )
            self.params.insert(place, click.Option(["--overwrite"], is_flag=True, help=text))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each panel, and last those that are in none."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (row := param.get_help_record(ctx)):
                panels.setdefault(vars(param).get("panel") or _REST, []).append(row)
        rest = panels.pop(_REST)
        for title, rows in panels.items():
            write_panel(formatter, title, rows)
        write_panel(formatter, _REST, rest)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each in a line that can be copied."""
        if self.examples:
            with formatter.section(click.style("Examples", bold=True)):
                formatter.write("".join(f"  $ robustprune {_typed(ctx)} {each}\n" for each in self.examples))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, refuse what is empty, and say which of two values counts."""
        given = list(args)
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return rest
        for param, value in _values(ctx):
            if isinstance(value, str) and not value.strip():
                raise click.UsageError(
                    f"{_called(param)} is empty; was a variable of the shell unset? Give it a value, or leave it out",
                    ctx,
                )
        order = self.make_parser(ctx).parse_args(given)[2]
        for param in dict.fromkeys(order):
            is_one = isinstance(param, click.Option) and not (param.multiple or param.is_flag)
            if is_one and order.count(param) > 1:
                called, counts = _called(param), ctx.params[param.name or ""]
                terminal.say(f"Warning: {called} is given {order.count(param)} times; the last one, {counts}, counts")
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Check what is read and written, then run."""
        overwrite = ctx.params.pop("overwrite", False)
        with overwriting(overwrite):
            if outputs := list(_outputs(ctx)):
                _check(outputs, list(_inputs(ctx)), overwrite)
            return super().invoke(ctx)


class CommandGroup(click.Group):
    """A group of such commands, whose help has a whole sentence on each."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands."""
        self.write_commands(formatter, "Commands", sorted(self.commands))

    def write_commands(self, formatter: click.HelpFormatter, title: str, names: Iterable[str]) -> None:
        """Write some of the commands under a heading."""
        rows = [(name, self.commands[name].get_short_help_str(_LONGEST_SENTENCE)) for name in names]
        write_panel(formatter, title, rows)


def _typed(ctx: click.Context) -> str:
    """Return what is typed to call a command: ``prune``, ``table build``."""
    above = ctx.parent
    return f"{_typed(above)} {ctx.info_name}" if above and above.parent else str(ctx.info_name)


def _called(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name


def _values(ctx: click.Context) -> Iterator[tuple[click.Parameter, Any]]:
    """Yield every single value of each option and argument."""
    for param in ctx.command.params:
        value = ctx.params.get(param.name or "")
        if isinstance(value, tuple):
            yield from ((param, each) for each in value)
        elif value is not None:
            yield param, value


def _outputs(ctx: click.Context) -> Iterator[_Output]:
    for param, value in _values(ctx):
        kind, option = param.type, _called(param)
        if isinstance(kind, Target):
            path = Path(value)
            if not (kind.file_okay and kind.dir_okay):  # of what may be either, ``beside`` says which it is
                yield _Output(option, path, kind.kind, kind.marks, is_folder=kind.dir_okay)
            yield from (_Output(option, further, own) for further, own in kind.beside(path, ctx.params))


def _inputs(ctx: click.Context) -> Iterator[tuple[str, Read]]:
    """Yield what is read, after the name of the option that says so."""
    for param, value in _values(ctx):
        try:
            found = list(param.type.reads(value)) if hasattr(param.type, "reads") else []
        except RobustPruneError:
            continue  # there is nothing to read, which the command says
        for read in found:
            yield _called(param), read
            if TICKET.recognizes(read.path):
                yield from ((f"{_called(param)} {value}", each) for each in _remembered(read.path))


def _remembered(path: Path) -> Iterator[Read]:
    """Yield the files and folders that a ticket speaks of: its image set and the code of its network."""
    from robustprune.runtime.files import read_sealed
    from robustprune.tickets.ticket import FORMAT

    try:
        header = read_sealed(path, FORMAT).get("header")
    except DamagedFileError:
        return
    if not isinstance(header, dict):
        return
    data, architecture = header.get("data") or {}, header.get("architecture") or {}
    weights = (architecture.get("options") or {}).get("weights_file")
    if isinstance(data.get("name"), str):
        yield from published_files([data["name"]], data.get("root"))
    for text in (data.get("name"), architecture.get("name"), weights):
        if isinstance(text, str):
            yield from named_paths(text, plain=text == weights)


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
            raise click.UsageError(f"{output.named}: the file's name is too long; choose a shorter one")
        if output.is_folder:
            names = {each.name for each in output.path.glob("*")}
            is_taken = any(not name.startswith(".") for name in names) and not names & set(output.marks)
            if output.marks and is_taken and not overwrite:
                raise click.UsageError(
                    f"{output.named} holds something else; name a new or an empty folder, or add --overwrite to write "
                    "beside what is there"
                )
            continue
        try:
            check_replaceable(output.path, output.kind)
        except OSError as error:
            raise click.UsageError(f"{output.named}: {error.strerror}") from error


def _check_against(output: _Output, option: str, source: Read) -> None:
    if _are_one(output.path, source.path) and (source.kind is None or source.kind.recognizes(source.path)):
        what = "folder" if output.is_folder else "file"
        raise click.UsageError(f"{output.named} is the {what} that {option} names; write to another one")
    if source.whole and source.path.is_dir():
        place = Path(os.path.realpath(output.path))
        within = [parent for parent in place.parents if _are_one(parent, source.path)]
        # A record beside the folders of the classes, say, is no matter of the set.
        is_beside = place.parent in within and not output.is_folder and not _IMAGES.fullmatch(place.suffix)
        if within and not is_beside:
            raise click.UsageError(
                f"{output.named} lies in {source.path}, which {option} reads; write to another folder"
            )


def _are_one(first: Path, second: Path) -> bool:
    """Return whether two paths lead to one file or folder, however they are spelled, which needs not exist."""
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)
