"""Lists that import nothing, against what everything says when it is asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

from robustprune.cli import commands
from robustprune.cli.listing import ROOMS, ask, list_rows
from robustprune.registry import read_tables

KINDS = [kind for kind in ROOMS if kind != "datasets"]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_hold_the_options_that_are_taken_and_a_line_on_each(kind: str) -> None:
    for name, entry in read_tables(ROOMS[kind])["PLUGINS"].items():
        assert entry.description.endswith("."), name
        assert "\n" not in entry.description, name
        if kind != "models":  # which do not say themselves what follows the colon
            asked = ask(kind, name)
            assert (entry.options, entry.argument) == (asked.options, asked.argument), name


def test_lists_load_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from robustprune.cli.listing import ROOMS, list_rows\n"
        "assert all(list_rows(kind) for kind in ROOMS)\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'pydantic'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", [(), ("evaluate",)])
def test_help_loads_click_and_little_else(command: tuple[str, ...]) -> None:
    script = (
        "import sys\n"
        "from robustprune.cli import commands\n"
        f"commands([*{command!r}, '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'rich.console', 'importlib.metadata', 'hashlib', 'logging'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "Usage:" in done.stdout
    # Each option stands in one panel, and all of them under a heading.
    if command:
        options = {flag for param in commands.commands[command[0]].params for flag in param.opts}
        shown = [
            line.split()[0] for line in done.stdout.partition("Network:")[2].splitlines() if line.startswith("  --")
        ]
        assert options <= set(shown)
        assert len(shown) == len(set(shown))


def test_headline_corruptions_come_first() -> None:
    groups = [row["group"] for row in list_rows("corruptions")]
    assert groups == ["headline"] * 15 + ["extra"] * 4
