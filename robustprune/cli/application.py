"""The group of commands, and how a run of one of them ends."""

from __future__ import annotations

import os
import sys
import warnings
from io import TextIOWrapper

import click
from click.exceptions import Exit

from robustprune._version import __version__
from robustprune.cli import terminal
from robustprune.cli.command import CommandGroup
from robustprune.errors import RobustPruneError
from robustprune.runtime.files import ERRORS
from robustprune.runtime.launch import once_each, read_launch, silence_others, take_the_floor
from robustprune.runtime.threads import quiet_threads

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
        commands(prog_name="robustprune", standalone_mode=False)
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


PANELS = {
    "Prune and train": ("blocks", "prune", "train", "export", "lottery"),
    "Evaluate": ("evaluate", "cost", "corrupt"),
    "Compare and report": ("compare", "report", "power", "ablate", "variance"),
    "Sweeps": ("sweep", "status", "query", "reproduce"),
    "Tables of tickets": ("table",),
    "Information": ("demo", "list"),
}
"""All commands, as the help has them."""

_SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 110}


class _Commands(CommandGroup):
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands of each panel."""
        for title, names in PANELS.items():
            self.write_commands(formatter, title, names)


@click.group(cls=_Commands, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="robustprune")
@click.pass_context
def commands(context: click.Context) -> None:
    """Remove residual blocks from a network before training it, and measure accuracy, cost and robustness.

    A ticket is the pruned network with the weights that it starts from, and the file that holds it. "The paper" is
    Jordao et al. 2023, arXiv:2301.10835. `robustprune demo` runs an example end to end; `robustprune COMMAND --help`
    explains a command.
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
