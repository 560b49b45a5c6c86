"""The group of commands, and how a run of one of them ends."""

from __future__ import annotations

import os
import sys
import warnings
from io import TextIOWrapper

import rich_click as click
from click.exceptions import Exit

from robustprune._version import __version__
from robustprune.cli import terminal
from robustprune.cli.command import Command
from robustprune.errors import RobustPruneError
from robustprune.runtime.files import ERRORS
from robustprune.runtime.launch import once_each, read_launch, silence_others, take_the_floor
from robustprune.runtime.threads import quiet_threads

click.rich_click.MAX_WIDTH = 110

SHARED = ("train", "evaluate")
"""Commands whose work several processes share."""


def main() -> None:
    """Run the command line; every failure is one paragraph and an exit code."""
    warnings.showwarning = once_each(terminal.say)
    silence_others()
    if "torch" not in sys.modules:  # where Python calls this, it may be, and the caller has decided
        quiet_threads()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names that are no UTF-8, and signs that a terminal does not have
            stream.reconfigure(errors=ERRORS)
    try:
        commands(standalone_mode=False)
    except Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        take_the_floor()
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail(
            "interrupted; sweep, lottery, ablate and variance go on after what is finished when called again, other "
            "commands where they have --resume"
        )
    except RobustPruneError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of a pipe (head, a pager) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ROBUSTPRUNE_DEBUG"):
            take_the_floor()
            raise
        _fail(
            f"an error that should not happen: {type(error).__name__}: {error}. Please report it, with the "
            "traceback that ROBUSTPRUNE_DEBUG=1 shows"
        )


def _fail(message: str) -> None:
    take_the_floor()
    terminal.say(f"Error: {' '.join(message.split())}")
    sys.exit(1)


# Panels of the help, in its order.
PRUNE_AND_TRAIN, EVALUATE, COMPARE = "Prune and train", "Evaluate", "Compare and report"
SWEEPS, TABLES, INFORMATION = "Sweeps", "Tables of tickets", "Information"


class Commands(click.RichGroup):
    """A group of commands, which are checked before they begin."""

    command_class = Command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.command_panel(PRUNE_AND_TRAIN)
@click.command_panel(EVALUATE)
@click.command_panel(COMPARE)
@click.command_panel(SWEEPS)
@click.command_panel(TABLES)
@click.command_panel(INFORMATION)
@click.version_option(__version__, prog_name="robustprune")
@click.pass_context
def commands(context: click.Context) -> None:
    """Cut whole layers out of a network before training it, and measure what that does.

    `robustprune demo` shows everything on a small data set; `robustprune COMMAND --help` explains a command.
    """
    if read_launch().count > 1 and context.invoked_subcommand not in SHARED:
        raise click.UsageError(
            f"of several processes, as torchrun starts them, only {' and '.join(SHARED)} make use; call "
            f"robustprune {context.invoked_subcommand} without torchrun"
        )


def every_command() -> dict[str, click.Command]:
    """Return all commands by what is typed to call them: ``evaluate``, ``table build``."""
    found: dict[str, click.Command] = {}
    for name, command in commands.commands.items():
        below = command.commands if isinstance(command, click.Group) else None
        found |= {name: command} if below is None else {f"{name} {each}": own for each, own in below.items()}
    return found
