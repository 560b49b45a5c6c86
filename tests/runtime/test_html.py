"""Tables as HTML: well-formed, and what is in a cell is what was given."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from robustprune.runtime.html import html_paragraphs, html_table

# What XML, by which the tables are read here, can hold: no control characters.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff"))


def texts(element: ElementTree.Element, tag: str) -> list[str]:
    return ["".join(found.itertext()) for found in element.iter(tag)]


@given(TEXT, st.lists(st.tuples(TEXT, TEXT.filter(bool)), max_size=4), st.lists(TEXT, max_size=2))
def test_cells_are_read_as_they_were_given(title: str, rows: list[tuple[str, str]], notes: list[str]) -> None:
    found = ElementTree.fromstring(html_table(title, ["<b>left", ">right & wrong"], rows, notes))
    assert texts(found, "caption") == [title]
    assert texts(found, "th") == ["<b>left", "right & wrong"]
    assert texts(found, "td") == [cell for row in rows for cell in row]
    assert texts(found, "p") == notes


def test_numbers_are_on_the_right_and_headings_are_as_wide_as_the_table() -> None:
    rows = [["group", "", None], ["  name", 3, 0.5]]
    found = ElementTree.fromstring(html_table("t", ["name", ">n", ">share"], rows))
    sides = [str(cell.get("style")).removeprefix("text-align:") for cell in found.iter("td")]
    assert sides == ["left", "right", "right"]
    (heading,) = [cell for cell in found.iter("th") if cell.get("colspan")]
    assert (heading.text, heading.get("colspan")) == ("group", "3")


def test_there_are_no_colours_but_those_of_the_page() -> None:
    table = html_table("t", ["a"], [["b"]], ["c"])
    assert "background" not in table
    assert table.count("color:") == table.count("color:inherit") == 2


def test_names_that_are_no_utf8_can_be_written() -> None:
    assert html_paragraphs(["caf\udce9"]) == "<p>caf\\xe9</p>"
