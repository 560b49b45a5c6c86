"""Lists that import nothing, against what everything says when it is asked."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from robustprune.cli.listed import FILE, KINDS, as_written, list_rows
from robustprune.cli.listings import LISTINGS


def test_what_is_written_down_is_what_is_there() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == as_written(), "run `make lists`"


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_asking(kind: str) -> None:
    assert list_rows(kind) == json.loads(json.dumps(LISTINGS[kind]()))


def test_lists_load_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from robustprune.cli.listed import KINDS, list_rows\n"
        "assert all(list_rows(kind) for kind in KINDS)\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'pydantic'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
