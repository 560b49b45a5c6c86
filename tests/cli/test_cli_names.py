"""Names of files that are no UTF-8, through every command that takes or leaves files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import TINY, Run

from robustprune.records import load_record
from robustprune.runtime.files import all_printable, printable

ODD = os.fsdecode(b"caf\xe9")  # as Latin-1 has it
SHOWN = "caf\\xe9"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [(b"a.json", "a.json"), ("café".encode(), "café"), (b"caf\xe9", "caf\\xe9"), (b"\xff\x80", "\\xff\\x80")],
)
def test_bytes_that_are_no_utf8_are_shown_as_bytes(raw: bytes, shown: str) -> None:
    assert printable(os.fsdecode(raw)) == shown == raw.decode("utf-8", "backslashreplace")
    assert all_printable({os.fsdecode(raw): [os.fsdecode(raw), 1.5, None]}) == {shown: [shown, 1.5, None]}
    assert printable("\ud800") == "\\ud800"


@pytest.fixture
def odd(run: Run) -> Run:
    rows = np.random.default_rng(0)
    images, labels = rows.integers(0, 255, (30, 8, 8), dtype=np.uint8), np.arange(30) % 3
    np.savez(f"{ODD}.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    own, dense = f"{ODD}.pt", (*TINY, "--dataset", f"npz:{Path.cwd()}/{ODD}.npz")
    done = [
        ("prune", *TINY, "--dataset", f"npz:{ODD}.npz", "--criterion", "random", "--blocks", "1", "--out", f"{ODD}.pt"),
        ("evaluate", "--model", own, "--attack", "fgsm", "--save-adversarial", f"{ODD}.npy", "--out", f"{ODD}.json"),
        ("evaluate", *dense, "--attack", "fgsm", "--out", f"dense{ODD}.json"),
    ]
    for arguments in done:
        found = run(*arguments)
        assert found.code == 0, found.err
    return run


@pytest.mark.slow
def test_records_of_such_files_are_read(odd: Run) -> None:
    record = load_record(f"{ODD}.json")
    assert record.samples is not None
    assert record.model.path == f"{SHOWN}.pt"
    assert json.loads(Path(f"{ODD}.json").read_bytes().decode())["dataset"].endswith(f"{SHOWN}.npz")
    assert "\\ud" not in Path(f"{ODD}.json").read_text()
    found = odd("compare", f"dense=dense{ODD}.json", f"{ODD}={ODD}.json", "--json").json
    assert {row["candidate"] for row in found["rows"]} == {SHOWN}
    done = odd("report", f"dense=dense{ODD}.json", f"{ODD}={ODD}.json", "--out", f"{ODD}.html", "--title", ODD)
    assert done.code == 0, done.err
    assert f"<h1>{SHOWN}</h1>" in Path(f"{ODD}.html").read_text("utf-8")
    rows = odd("query", ".", "--where", f"run == '{ODD}'", "--json").json
    assert [row["run"] for row in rows] == [SHOWN]
    assert odd("query", ".", "--format", "csv", "--out", f"{ODD}.csv").code == 0
    with Path(f"{ODD}.csv").open(newline="") as stream:
        assert {row["run"] for row in csv.DictReader(stream)} == {SHOWN, f"dense{SHOWN}"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--model", f"{ODD}.pt", "--epochs", "1", "--no-energy", "--out", f"t{ODD}.pt", "--json"),
        ("cost", "--model", f"{ODD}.pt", "--json"),
        ("blocks", "--model", f"{ODD}.pt", "--json"),
        ("export", "--model", f"{ODD}.pt", "--format", "torch-export", "--out", f"{ODD}.pt2", "--json"),
        ("corrupt", "--dataset", f"npz:{ODD}.npz", "--corruption", "fog", "--out", ODD, "--limit", "3", "--json"),
        ("evaluate", "--model", f"{ODD}.pt", "--extra-model", "resnet20", "--out", f"f{ODD}", "--json"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_json_is_json(odd: Run, arguments: tuple[str, ...]) -> None:
    found = odd(*arguments)
    assert found.code == 0, found.err
    assert "\\ud" not in found.out
    assert json.loads(found.out)


@pytest.mark.slow
def test_a_terminal_that_has_no_such_letters(odd: Run) -> None:
    command = [sys.executable, "-m", "robustprune", "evaluate", "--model", f"{ODD}.pt", "--limit", "9", "--out", ODD]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"record in caf\\xe9" in done.stdout
