"""What values on the command line may be: not empty, not two where one counts, and of the type that is wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rich_click as click
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import TINY, Run, Shape, check_failure

from robustprune.cli import commands
from robustprune.cli.options import KeyValue, read_value
from robustprune.models import build_model


def texts(command: click.Command) -> list[click.Parameter]:
    """Return the parameters that take a text, and so could be given an empty one."""
    takes_text = (click.types.StringParamType, click.Path, KeyValue)
    return [param for param in command.params if isinstance(param.type, takes_text)]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("name", sorted(commands.commands))
def test_every_option_of_every_command_refuses_an_empty_value(run: Run, tmp_path: Path, name: str, empty: str) -> None:
    command = commands.commands[name]
    needed = [
        each
        for param in command.params
        if param.required
        for each in ([param.opts[-1], "x"] if isinstance(param, click.Option) else ["x"])
    ]
    for param in texts(command):
        if isinstance(param, click.Option):
            arguments = [*needed, param.opts[0], empty]
        else:
            arguments = [empty, *needed[needed.index("x") + 1 :]] if param.required else [*needed, empty]
        outcome = run(name, *arguments)
        assert outcome.code == 2, (arguments, outcome)
        assert "empty" in outcome.err or "is not of the form" in outcome.err, (arguments, outcome)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "first", "last"),
    [("--dataset", "noise", "digits"), ("--image-size", "9", "16"), ("--seed", "1", "2")],
)
def test_an_option_given_twice_says_which_counts(run: Run, option: str, first: str, last: str) -> None:
    outcome = run("blocks", *TINY, option, first, option, last) if option != "--seed" else None
    outcome = outcome or run("evaluate", *TINY, "--limit", "20", option, first, option, last)
    assert outcome.code == 0, outcome
    assert f"{option} is given 2 times; the last one, {last}, counts" in " ".join(outcome.err.split())


def test_a_name_set_twice_is_refused(run: Run) -> None:
    check_failure(
        run("blocks", *TINY, "--model-option", "width=8"), 2, "--model-option width=… is given more than once"
    )
    options = ("--criterion-option", "samples=8", "--criterion-option", "samples=9")
    done = run("prune", *TINY, "--criterion", "kl", "--blocks", "1", *options, "--out", "x.pt")
    check_failure(done, 2, "--criterion-option samples=… is given more than once")
    check_failure(run("blocks", "--model", "resnet20", "--model-option", "width="), 2, "'width' is given nothing")


@given(st.integers() | st.floats(allow_nan=False) | st.booleans())
def test_what_is_written_as_a_number_or_truth_value_is_one(value: float | bool) -> None:
    found = read_value(str(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["007", "1_000", "1.2.3", "0x10", "1e", "e5", "00", "-", "2024-01-01", "１２"])
def test_what_only_looks_like_a_number_is_text(text: str) -> None:
    assert read_value(text) == text


@pytest.mark.parametrize(("text", "number"), [("1e-5", 1e-5), (".5", 0.5), ("+3", 3), ("2.", 2.0), ("-0", 0)])
def test_other_ways_to_write_a_number(text: str, number: float) -> None:
    assert read_value(text) == number


OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, title: str = "", wide: bool = True, share: float = 0.5, width: int = 3, free=None):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.given = (title, wide, share, width, free)
"""


def test_options_are_given_as_the_network_s_parameters_want_them(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    kind = KeyValue()
    typed = ("title=50", "wide=false", "share=1", "width=4", "free=7")
    options = dict(kind.convert(each, None, None) for each in typed)
    network = build_model(f"file:{tmp_path / 'own.py'}:Net", Shape(1, (8, 8)), **options)
    assert network.network.given == ("50", False, 1.0, 4, 7)
    assert [type(each) for each in network.network.given] == [str, bool, float, int, int]
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prune", "sweep"])
def test_what_was_assumed_of_images_is_one_line_on_the_command_line(tmp_path: Path, command: str) -> None:
    for part in ("Train", "Test"):
        for name in "ab":
            (tmp_path / "set" / part / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / name / f"{number}.png")
    settings = "model: resnet20\nmodel_options: {width: 4}\ndata: {name: 'imagefolder:set'}\nrecipe: {epochs: 1}\n"
    (tmp_path / "s.yaml").write_text(f"{settings}pruning: {{criterion: random, blocks: 1}}\ncountry: null\n")
    arguments = {
        "prune": [*TINY, "--dataset", "imagefolder:set", "--criterion", "random", "--blocks", "1", "--out", "p.pt"],
        "sweep": ["s.yaml", "--out", "out", "--workers", "1", "--dry-run"],
    }[command]
    done = subprocess.run(
        [sys.executable, "-m", "robustprune", command, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line for line in done.stderr.splitlines() if "Warning" in line]
    lines = list(dict.fromkeys(found))
    assert len(lines) == 1, done.stderr
    assert len(found) == 1, done.stderr
    assert lines[0].startswith("Warning: ")
    assert lines[0].endswith("set: Train taken as the train split; Test taken as the test split")
    assert "warnings.warn" not in done.stderr
