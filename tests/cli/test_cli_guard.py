"""No command replaces what it reads, by whatever option and spelling, nor a file of another kind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from support import TINY, Run, check_failure

from robustprune.cli import every_command
from robustprune.cli.paths import Naming, Records, Source, Target
from robustprune.data import ImageData, load_data
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.tables.table_file import write_table_file
from robustprune.tickets.ticket import Ticket

# Options that take a text and read no file by it; a new one is either added here, or given a type of cli/paths.py.
WORDS = {
    *(
        "against",
        "images",
        "metric",
        "seeds",
        "attacks",
        "blocks",
        "certify",
        "decide_by",
        "replace",
        "search",
        "searches",
        "columns",
        "corruptions",
        "country",
        "criteria",
        "criterion",
        "detectors",
        "device",
        "eligibility",
    ),
    *(
        "eps",
        "epsilon",
        "budget",
        "budgets",
        "criteria",
        "measures",
        "removed",
        "methods",
        "metrics",
        "names",
        "ood_attack",
        "order",
        "ray_address",
        "recipe",
        "rewind",
        "table",
        "title",
    ),
    *("tolerance", "where"),
}
PLAIN = (click.types.IntParamType, click.types.FloatParamType, click.types.BoolParamType, click.Choice)

NETWORK = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, channels):
        super().__init__(nn.Flatten(), nn.LazyLinear(num_classes))
"""


def parameters(kind: Any) -> list[tuple[str, click.Parameter]]:
    return [
        (name, each) for name, command in sorted(every_command().items()) for each in command.params if kind(each.type)
    ]


def writes(kind: Any) -> bool:
    return isinstance(kind, Target)


def reads(kind: Any) -> bool:
    return hasattr(kind, "reads")


PAIRS = [
    pytest.param(name, writer, reader, id=f"{name} {writer.opts[0]} over {reader.opts[0]}")
    for name, writer in parameters(writes)
    for other, reader in parameters(reads)
    if name == other
]


def test_every_option_says_whether_it_reads_or_writes() -> None:
    for name, each in parameters(lambda _kind: True):
        is_word = isinstance(each.type, click.types.StringParamType) and each.name in WORDS
        known = writes(each.type) or reads(each.type) or is_word or isinstance(each.type, PLAIN)
        assert known or type(each.type).__name__ == "StepSize", f"{name} {each.opts}: what is read or written by it?"
        assert not (writes(each.type) and reads(each.type))
        assert not isinstance(each.type, click.Path) or writes(each.type) or reads(each.type)
    assert len(PAIRS) > 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a file of every kind that is read."""
    folder = tmp_path_factory.mktemp("made")
    rows = np.random.default_rng(0)
    images, labels = rows.integers(0, 255, (40, 8, 8), dtype=np.uint8), np.arange(40) % 4
    np.savez(
        folder / "base.npz", train_images=images, train_labels=labels, test_images=images[:8], test_labels=labels[:8]
    )
    data: ImageData = load_data(f"npz:{folder / 'base.npz'}")
    ticket = Ticket.from_model(build_model("resnet20", data, width=4), data)
    ticket.save(folder / "dense.pt")
    evaluate(ticket, data).save(folder / "record.json")
    for part in ("train", "test"):
        for name in ("a", "b"):
            (folder / "set" / part / name).mkdir(parents=True)
            (folder / "set" / part / name / "0.png").write_bytes(b"\x89PNG, as far as this matters")
    (folder / "records").mkdir()
    shutil.copy(folder / "record.json", folder / "records")
    write_table_file(folder / "tiny.parquet", [{"seed": 0, "accuracy": 0.5}], {"name": "tiny/images"})
    (folder / "net.py").write_text(NETWORK)
    (folder / "weights.pt").write_bytes(b"weights")
    (folder / "sweep.yaml").write_text(json.dumps({"model": "dense.pt", "data": {"name": "npz:base.npz"}}))
    return folder


@pytest.fixture
def inputs(made: Path, run: Run) -> Path:
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return Path()


def snapshot() -> dict[str, str]:
    found = [path for path in sorted(Path().rglob("*")) if path.is_file() and not path.is_symlink()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def values_for(reader: click.Parameter) -> Iterator[tuple[str, str]]:
    """Yield a value of an option, and a file or folder that is read by it."""
    kind = reader.type
    if isinstance(kind, Source) and kind.whole:
        yield from (("set/train/a", each) for each in ("set/train/a/0.png", "set/train/a", "set/train/a/new.png"))
    elif isinstance(kind, Source):
        yield ("records", "records/record.json") if not kind.file_okay else ("dense.pt", "dense.pt")
    elif isinstance(kind, Records):
        yield from (("dense=record.json", each) for each in ("record.json", "record.json.samples.npz"))
        yield from ((each, "records/record.json") for each in ("records", "dense=record.json,records"))
    elif isinstance(kind, Naming) and kind.plain:
        yield from (("dense.pt", "dense.pt"), ("file:net.py:Net", "net.py"))
    elif isinstance(kind, Naming):
        yield from ((f"{start}npz:base.npz", "base.npz") for start in ("", "other="))
        yield from (
            ("imagefolder:set", each) for each in ("set/test/b/0.png", "set", "set/test/c", "set/train/a/1.png")
        )
    else:
        yield "weights_file=weights.pt", "weights.pt"


def spellings(place: str) -> Iterator[str]:
    """Yield paths that lead to one place."""
    yield place
    Path("elsewhere").mkdir(exist_ok=True)
    yield f"elsewhere/../{place}"
    yield str(Path(place).absolute())
    Path("there").unlink(missing_ok=True)
    Path("there").symlink_to(".")
    yield f"there/{place}"
    if Path(place).exists():
        for link in ("soft.link", "hard.link"):
            Path(link).unlink(missing_ok=True)
        Path("soft.link").symlink_to(place)
        yield "soft.link"
    if Path(place).is_file() and "set/" not in place:  # of an image in a folder, the other name alone would be replaced
        os.link(place, "hard.link")
        yield "hard.link"


def call(name: str, *given: tuple[click.Parameter, str]) -> list[str]:
    """Return a command line with these values, and others where some are required."""
    own = {each.name: [value] for each, value in given}
    arguments, options = [], []
    for each in every_command()[name].params:
        values = own.get(each.name, [])
        if not values and each.required:
            fresh = {"table": "table1", "out": "fresh/out", "model": "resnet20", "folder": "fresh/runs"}
            fresh |= {"criteria": "snip", "name": "tiny.parquet", "spec": "sweep.yaml"}
            is_record = isinstance(each, click.Argument) and each.name not in fresh.keys() - {"folder"}
            values = ["records"] if is_record else [fresh[each.name or ""]]
        if isinstance(each, click.Argument):
            arguments += values
        else:
            option = next((opt for opt in each.opts if opt.startswith("--")), each.opts[0])
            options += [part for value in values for part in (option, value)]
    return [*name.split(), *options, *arguments]


@pytest.mark.quick_cases(30)
@pytest.mark.parametrize(("name", "writer", "reader"), PAIRS)
def test_what_is_read_is_never_written(
    run: Run, inputs: Path, name: str, writer: click.Parameter, reader: click.Parameter
) -> None:
    kind: Any = writer.type
    for value, place in values_for(reader):
        if kind.file_okay is False and not Path(place).is_dir() and Path(place).exists():
            continue  # a folder is asked for, and this is a file
        for spelling in spellings(place):
            before = snapshot()
            for more in ([], ["--overwrite"]):
                outcome = run(*call(name, (writer, spelling), (reader, value)), *more)
                check_failure(outcome, 2, "")
                assert snapshot() == before, outcome
                assert not Path("fresh").exists()


@pytest.mark.parametrize(("name", "writer"), parameters(lambda kind: writes(kind) and not kind.file_okay))
def test_a_folder_with_something_else_in_it_stays_as_it_is(
    run: Run, inputs: Path, name: str, writer: click.Parameter
) -> None:
    if writer.type.marks:  # type: ignore[attr-defined]
        before = snapshot()
        check_failure(run(*call(name, (writer, "set"))), 2, "holds something else")
        assert snapshot() == before


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "prune"])
def test_what_a_ticket_remembers_is_read_too(run: Run, made: Path, command: str) -> None:
    before = (made / "base.npz").read_bytes()
    Path("link").symlink_to(made / "base.npz")
    for out in (str(made / "base.npz"), "link"):
        for more in ([], ["--overwrite"]):
            own = ["--blocks", "1"] if command == "prune" else []
            check_failure(run(command, "--model", str(made / "dense.pt"), *own, "--out", out, *more), 2, out, "--model")
    assert (made / "base.npz").read_bytes() == before


def test_published_image_sets_are_read_where_they_are_found(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("root", "usual"):
        Path(folder, "svhn").mkdir(parents=True)
        for name in ("train_32x32.mat", "test_32x32.mat"):
            Path(folder, "svhn", name).write_bytes(b"images")
    monkeypatch.setenv("ROBUSTPRUNE_DATA", "usual")
    for out, given in (("root/svhn/test_32x32.mat", ["--data-root", "root"]), ("usual/svhn/train_32x32.mat", [])):
        asking = ("train", *TINY, "--dataset", "svhn", *given, "--out", out, "--overwrite")
        check_failure(run(*asking), 2, "is the file that --data")
        assert Path(out).read_bytes() == b"images"


KINDS = {
    "a ticket": "dense.pt",
    "a record": "record.json",
    "outcomes": "record.json.samples.npz",
    "an image set": "base.npz",
    "code": "net.py",
    "other JSON": "settings.json",
    "a picture": "photo.png",
    "a page": "page.html",
    "a table": "numbers.csv",
    "a device": "/dev/null",
    "a folder": "records",
}


@pytest.mark.parametrize("there", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("name", "writer"), parameters(lambda kind: writes(kind) and kind.file_okay))
def test_a_file_of_another_kind_is_never_replaced(
    run: Run, inputs: Path, name: str, writer: click.Parameter, there: str
) -> None:
    own = {"prune": "dense.pt", "train": "dense.pt", "evaluate": "record.json"}
    if own.get(name) == there and writer.name == "out":
        return
    Path("settings.json").write_text('{"model": 1}')
    Path("photo.png").write_bytes(b"\x89PNG of somebody")
    Path("page.html").write_text("<!doctype html><p>robustprune</p>")
    Path("numbers.csv").write_text("x,y\n1,2\n")
    before = snapshot()
    arguments = call(name, (writer, there))
    if name.endswith("query"):
        arguments += ["--format", "json"]
    if name == "evaluate" and writer.name == "save_adversarial":
        arguments += ["--attack", "fgsm"]
    outcome = run(*arguments)
    check_failure(outcome, outcome.code, there)
    assert outcome.code in (1, 2)
    assert snapshot() == before
    assert not Path("/dev/null").is_file()
