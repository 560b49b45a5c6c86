"""Markdown extension: puts every command with its options, as ``--help`` has them, in place of a mark on a page."""

from __future__ import annotations

import click
from markdown import Extension, Markdown
from markdown.preprocessors import Preprocessor

from robustprune.cli import commands, every_command
from robustprune.cli.command import Command

MARK = "<!-- commands -->"


class Commands(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        sections = "\n\n".join(map(section, sorted(every_command()))) if MARK in lines else ""
        return [part for line in lines for part in (sections.splitlines() if line == MARK else [line])]


class CommandLine(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        md.preprocessors.register(Commands(md), "robustprune-commands", 100)  # before fenced blocks are read


def makeExtension(**options: object) -> CommandLine:
    return CommandLine(**options)


def section(name: str) -> str:
    command = every_command()[name]
    context = click.Context(command, info_name=name, parent=click.Context(commands, info_name="robustprune"))
    usage = " ".join(["robustprune", name, *command.collect_usage_pieces(context)])
    rows = [row for parameter in command.params if (row := option_row(parameter, context))]
    text = " ".join((command.help or "").replace("\b", "").split("\f")[0].split())
    assert isinstance(command, Command)
    examples = "\n".join(f"$ robustprune {name} {each}" for each in command.examples)
    blocks = f"```text\n{usage}\n```\n\n```console\n{examples}\n```"
    heading = f"## {name} {{ #{name.replace(' ', '-')} }}"
    return f"{heading}\n\n{text}\n\n{blocks}\n\n| option | |\n|---|---|\n" + "\n".join(rows)


def option_row(parameter: click.Parameter, context: click.Context) -> str | None:
    record = parameter.get_help_record(context)
    if record is None or isinstance(parameter, click.Argument):  # which the usage has
        return None
    option, text = (part.replace("\n", " ") for part in record)  # a bar between backticks parts no cells
    # What stands in brackets or angles would be taken for HTML or a link.
    text = text.replace("|", "\\|")
    return f"| `{option}` | {text.replace('<', '&lt;').replace('[', '&#91;')} |"
