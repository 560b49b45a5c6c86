from __future__ import annotations

import csv
import io
import re

import pytest

from robustprune.report.table import Table

TABLE = Table(
    "100 % of $x_1$ & more",
    ["network", "accuracy (%)", "difference"],
    [["a_b & c|d", 91.23456789, "+0.33 ± 0.12"], ["<script>\n#1", None, "−0.50"], [r"\x{y}~^", 7, ""]],
    note="Two seeds.",
)


def test_csv_is_read_back() -> None:
    found = list(csv.reader(io.StringIO(TABLE.to_csv(), newline="")))
    assert found[0] == list(TABLE.columns)
    assert found[1] == ["a_b & c|d", "91.23456789", "+0.33 ± 0.12"]
    assert found[2] == ["<script>\n#1", "", "−0.50"]
    assert len(found) == 4


def test_markdown_has_as_many_cells_in_each_line() -> None:
    lines = TABLE.to_markdown().splitlines()
    assert len(lines) == 5
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(each) for each in cells} == {3}
    assert [each.strip() for each in cells[1]] == ["---", "---:", "---:"]
    assert cells[2][0].strip() == r"a\_b & c\|d"
    assert cells[2][1].strip() == "91.235"
    assert cells[3][0].strip() == r"\<script\> #1"


def test_latex_has_as_many_cells_in_each_line() -> None:
    text = TABLE.to_latex()
    assert r"\begin{tabular}{lrr}" in text
    assert r"\caption{100 \% of \$x\_1\$ \& more}" in text
    assert "% Two seeds." in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 4
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {2}
    assert r"a\_b \& c\textbar{}d & 91.235 & +0.33 $\pm$ 0.12 \\" in text
    assert r"\textless{}script\textgreater{} \#1 &  & $-$0.50 \\" in text
    assert r"\textbackslash{}x\{y\}\textasciitilde{}\textasciicircum{} & 7 &  \\" in text
    assert text.count("{") == text.count("}")


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells under 2 headings"):
        Table("", ["a", "b"], [[1]])


def test_a_name_in_brackets_is_no_option_of_the_row_before() -> None:
    rows = Table("t", ["a"], [["x"], ["[2em] y"]]).to_latex().splitlines()
    assert rows[rows.index(r"    x \\") + 1] == r"    {}[2em] y \\"
