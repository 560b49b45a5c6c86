"""Code blocks of the documents, and how they are run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import Run

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


class Block(NamedTuple):
    language: str
    text: str


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page, in order; one within a list loses its indentation."""
    found = re.findall(r"^( *)```(\w+)\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [
        Block(language, re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in found
        if not languages or language in languages
    ]


def commands_in(text: str) -> list[list[str]]:
    """Return the words of each command of robustprune in a text, with or without a prompt, comments left out."""
    whole = text.replace("\\\n", " ")
    lines = re.findall(r"^ *(?:\$ )?(robustprune .*)$", whole, re.MULTILINE)
    return [shlex.split(line.partition("  #")[0]) for line in lines]


def run_page(page: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Do what a page says, from top to bottom, in the current folder; return the names its Python leaves.

    A block that opens with the name of a file becomes that file, other Python is executed, and lines with a prompt
    are run. A package is not installed into the environment of the tests but put where Python looks.
    """
    monkeypatch.syspath_prepend(str(Path.cwd()))
    names: dict[str, Any] = {}
    for language, text in blocks_of(page, "python", "toml", "yaml", "console"):
        title = re.match(r"# ([\w.-]+\.(?:py|toml|yaml))\n", text)
        if title:
            Path(title[1]).write_text(text)
        elif language == "python":
            exec(compile(text, page.name, "exec"), names)
        for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE) if language == "console" else ():
            if line == "pip install --editable .":
                install_here(monkeypatch)
                continue
            program, *words = shlex.split(line.partition("  #")[0])
            assert program == "robustprune", line
            outcome = run(*words)
            assert outcome.code == 0, f"{line}: {outcome.err}"
    return names


def install_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the entry points of the project in this folder known, as its build would."""
    prepare = "from setuptools.build_meta import prepare_metadata_for_build_wheel as p; p('.')"
    subprocess.run([sys.executable, "-W", "ignore", "-c", prepare], check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(Path.cwd()))
