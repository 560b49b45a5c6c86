"""What values on the command line may be: not empty, not two where one counts, and of the type that is wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import numpy as np
import pytest
import torch
from PIL import Image
from support import TINY, Run, Shape, check_failure

from robustprune.cli import every_command
from robustprune.models import build_model
from robustprune.pruning import Eligibility
from robustprune.sweep.paper import TABLES
from robustprune.training import Recipe
from robustprune.training.recipes import RECIPES


def texts(command: click.Command) -> list[click.Parameter]:
    """Return the parameters that take a text, and so could be given an empty one."""
    takes_text = (click.types.StringParamType, click.Path)
    return [param for param in command.params if isinstance(param.type, takes_text)]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("name", sorted(every_command()))
def test_every_option_of_every_command_refuses_an_empty_value(run: Run, tmp_path: Path, name: str, empty: str) -> None:
    command = every_command()[name]
    needed: list[str] = []
    for param in command.params:
        if param.required:
            value = str(param.type.choices[0]) if isinstance(param.type, click.Choice) else "x"
            needed += [param.opts[-1], value] if isinstance(param, click.Option) else [value]
    for param in texts(command):
        if isinstance(param, click.Option):
            arguments = [*needed, param.opts[0], empty]
        else:
            arguments = [empty, *needed[needed.index("x") + 1 :]] if param.required else [*needed, empty]
        outcome = run(*name.split(), *arguments)
        assert outcome.code == 2, (arguments, outcome)
        assert "empty" in outcome.err, (arguments, outcome)
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


def test_an_option_of_a_plug_in_set_twice_is_refused(run: Run) -> None:
    check_failure(
        run("blocks", "--model", "resnet20:width=4,width=8"), 1, "resnet20: the option 'width' is given twice"
    )
    done = run("prune", *TINY, "--criterion", "kl:samples=8,samples=9", "--blocks", "1", "--out", "x.pt")
    check_failure(done, 1, "kl: the option 'samples' is given twice")
    check_failure(run("blocks", "--model", "resnet20:width="), 1, "the option 'width' has no value")


OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, title: str = "", wide: bool = True, share: float = 0.5, width: int = 3, free=None):
        super().__init__(nn.Flatten(), nn.Linear(64, num_classes))
        self.given = (title, wide, share, width, free)
"""


def test_options_are_given_as_the_network_s_parameters_want_them(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    typed = "title=50,wide=false,share=1,width=4,free=7"
    network = build_model(f"file:{tmp_path / 'own.py'}:Net:{typed}", Shape(1, (8, 8)))
    assert network.network.given == ("50", False, 1.0, 4, 7)
    assert [type(each) for each in network.network.given] == [str, bool, float, int, int]
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def choices(command: str, name: str) -> list[str]:
    (kind,) = [param.type for param in every_command()[command].params if param.name == name]
    assert isinstance(kind, click.Choice)
    return list(kind.choices)


def test_choices_are_all_that_the_library_takes() -> None:
    fields = {name: list(get_args(field.annotation)) for name, field in Recipe.model_fields.items()}
    assert choices("blocks", "eligibility") == choices("prune", "eligibility") == list(get_args(Eligibility))
    assert choices("train", "recipe") == list(RECIPES)
    assert choices("train", "augmentation") == fields["augmentation"]
    assert ["none", *choices("train", "adversarial")] == fields["adversarial"]
    assert choices("train", "precision") == fields["precision"]
    assert choices("reproduce", "table") == list(TABLES)


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
