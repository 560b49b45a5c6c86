"""How plug-ins are named with their options: ``NAME:key=value,key=value``, several with commas between."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robustprune.errors import RobustPruneError
from robustprune.registry import read_options, read_value, split_names, split_options, with_options

KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_characters=",", blacklist_categories=("Cs",)), min_size=1).filter(
    lambda text: text == text.strip() != ""
)
PLAIN = st.lists(st.text("abcXYZ0189-._/\\", min_size=1, max_size=6), min_size=1, max_size=3).map(":".join)
NAMED = st.tuples(PLAIN, st.dictionaries(KEYS, VALUES, max_size=3))


@given(st.lists(NAMED, min_size=1, max_size=4))
def test_what_is_written_is_read_back(named: list[tuple[str, dict[str, str]]]) -> None:
    written = [with_options(*each) for each in named]
    assert [split_options(each) for each in written] == named
    assert split_names(",".join(written)) == written


@given(PLAIN, st.dictionaries(KEYS, st.integers() | st.booleans() | st.floats(allow_nan=False), max_size=3))
def test_numbers_and_truth_values_are_read_back_as_such(name: str, options: dict[str, Any]) -> None:
    plain, found = read_options(with_options(name, options))
    own = {key: str(value) if key in ("weights_file", "threat_model") else value for key, value in options.items()}
    assert (plain, found) == (name, own)
    assert [type(each) for each in found.values()] == [type(each) for each in own.values()]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pgd,fgsm", [("pgd", {}), ("fgsm", {})]),
        ("pgd:steps=40,loss=margin", [("pgd", {"steps": "40", "loss": "margin"})]),
        ("fgsm, pgd: steps = 4 , loss=ce ,noise", [("fgsm", {}), ("pgd", {"steps": "4", "loss": "ce"}), ("noise", {})]),
        ("knn:k=5,odin:temperature=100", [("knn", {"k": "5"}), ("odin", {"temperature": "100"})]),
        ("torchattacks:PGD,fgsm", [("torchattacks:PGD", {}), ("fgsm", {})]),
        ("torchattacks:PGD:steps=4,fgsm", [("torchattacks:PGD", {"steps": "4"}), ("fgsm", {})]),
        ("file:C:\\nets\\net.py:Net:width=3", [("file:C:\\nets\\net.py:Net", {"width": "3"})]),
        ("file:runs/lr=0.1/net.py:Net:width=3", [("file:runs/lr=0.1/net.py:Net", {"width": "3"})]),
        ("npz:runs/lr=0.1/set.npz", [("npz:runs/lr=0.1/set.npz", {})]),
        ("frost:folder=C:\\ice,all", [("frost", {"folder": "C:\\ice"}), ("all", {})]),
        ("fog,severity=5", [("fog", {"severity": "5"})]),
        ("lr=0.1.pt", [("lr=0.1.pt", {})]),
    ],
)  # fmt: skip
def test_names_by_hand(text: str, names: list[tuple[str, dict[str, str]]]) -> None:
    assert [split_options(each) for each in split_names(text)] == names


@pytest.mark.parametrize(
    "text", ["pgd,", ",pgd", "pgd,,fgsm", "pgd:steps=", "pgd:steps=4,loss=", "pgd:steps=4,steps=5"]
)
def test_nothing_and_doubles_are_refused(text: str) -> None:
    with pytest.raises(RobustPruneError, match=r"empty name|has no value|given twice"):
        split_names(text)


@given(st.integers() | st.floats(allow_nan=False) | st.booleans())
def test_what_is_written_as_a_number_or_truth_value_is_one(value: float | bool) -> None:
    found = read_value(str(value))
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["007", "1_000", "1.2.3", "0x10", "1e", "e5", "00", "-", "2024-01-01", "１２", "1/0", "a/2", "1/2/3"]
)
def test_what_only_looks_like_a_number_is_text(text: str) -> None:
    assert read_value(text) == text


@pytest.mark.parametrize(
    ("text", "number"), [("1e-5", 1e-5), (".5", 0.5), ("+3", 3), ("2.", 2.0), ("-0", 0), ("8/255", 8 / 255)]
)
def test_other_ways_to_write_a_number(text: str, number: float) -> None:
    assert read_value(text) == number
