"""``NAME=RECORDS`` whose paths hold commas and equal signs, as those of Hydra do."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Run, check_failure
from synthetic_records import make_record

from robustprune.comparison.sources import is_named, split_named
from robustprune.errors import ComparisonError

NAME = st.text("ab1.=", min_size=1, max_size=3).filter(lambda text: text.strip("."))


@given(st.lists(NAME, min_size=1, max_size=6, unique=True), st.text("xyz", min_size=1, max_size=3))
def test_all_that_is_named_is_there_and_nothing_is_left_over(names: list[str], name: str) -> None:
    with TemporaryDirectory() as folder:
        files = [str(Path(folder, own)) for own in names]
        for file in files:
            Path(file).touch()
        found_name, places = split_named(f"{name}={','.join(files)}")
        assert found_name == name
        assert places == files


@pytest.mark.parametrize(
    ("there", "text", "name", "places"),
    [
        (["d0", "d1"], "dense=d0,d1", "dense", ["d0", "d1"]),
        (["d0", "d1", "d0,d1"], "dense=d0,d1", "dense", ["d0,d1"]),  # a file that is there wins
        (["lr=0.1,seed=0"], "dense=lr=0.1,seed=0", "dense", ["lr=0.1,seed=0"]),
        (["lr=0.1,seed=0"], "a,b=lr=0.1,seed=*", "a,b", ["lr=0.1,seed=*"]),
        (["d0"], "dense=d0,", "dense", ["d0"]),
        ([], "dense=nowhere", "dense", ["nowhere"]),  # reading it says that it is not there
    ],
)
def test_by_hand(run: Run, there: list[str], text: str, name: str, places: list[str]) -> None:
    for each in there:
        Path(each).touch()
    assert split_named(text) == (name, places)


@pytest.mark.parametrize("text", ["=d0", "dense=", "dense", "dense=,"])
def test_what_is_of_another_form(run: Run, text: str) -> None:
    Path("d0").touch()
    with pytest.raises(ComparisonError, match="not of the form name=FILE"):
        split_named(text)


def test_what_is_not_there_is_named(run: Run) -> None:
    Path("seed=0").touch()
    with pytest.raises(ComparisonError, match=r"no 'lr=0\.1,seed=0', nor 'lr=0\.1'; .* dense=FILE dense=FILE"):
        split_named("dense=lr=0.1,seed=0")


def test_commands_take_such_paths(run: Run) -> None:
    for lr, kind in (("0.1", "dense"), ("0.2", "layer")):
        make_record(kind=kind).save(f"runs/lr={lr},seed=0/d.json")
    dense, layer = (f"runs/lr={lr},seed=0/d.json" for lr in ("0.1", "0.2"))
    assert run("compare", f"dense={dense}", f"layer={layer}").code == 0
    assert run("compare", "dense=runs/lr=0.1*/d.json", f"x={layer}").code == 0
    named = run("report", f"dense={dense}", f"layer={layer}", "--out", "named.html")
    assert named.code == 0, named.err
    for unnamed in ([dense, layer], ["runs/lr=*/d.json"], ["runs"]):
        assert not any(map(is_named, unnamed))
        # All are read, and none is of a pruned network.
        check_failure(run("report", *unnamed, "--out", "page.html"), 1, "no record of a pruned network")
    check_failure(run("compare", "dense=runs/lr=0.3,seed=0/d.json", f"layer={layer}"), 2, "'runs/lr=0.3'")


@pytest.mark.parametrize("text", [" =d.json", "dense= ", "dense= , "])
def test_blank_names_and_places_are_none(text: str) -> None:
    with pytest.raises(ComparisonError, match="not of the form name=FILE"):
        split_named(text)


def test_a_file_called_like_somebodys_home_and_like_a_picture_is_shown_and_read(run: Run) -> None:
    make_record(kind="dense").save("~nobody:a:.json")
    check_failure(run("report", "dense=~nobody:a:.json", "--out", "r.html"), 1, "no record of a pruned network")
    check_failure(run("report", "~nobody:b:.json", "--out", "r.html"), 1, "~nobody:b:.json")
