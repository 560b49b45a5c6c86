from __future__ import annotations

import csv
import io
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support import HOSTILE

from robustprune.comparison import compare
from robustprune.records import Record
from robustprune.report import write_report

_VOID = ("meta", "br", "img", "path", "use", "rect", "image", "line", "circle")


class Page(HTMLParser):
    """What a page consists of: its elements with their attributes, and the text in each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts[tag][-1] += data

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [have for name, have in self.elements if name == tag and attributes.items() <= have.items()]


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    return report.read_text()


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


@pytest.mark.slow
def test_equal_records_make_equal_pages(hostile_groups: dict[str, list[Record]], text: str, tmp_path: Path) -> None:
    write_report(hostile_groups, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == text


def test_the_answer_comes_first(hostile_groups: dict[str, list[Record]], page: Page, text: str) -> None:
    candidates = {name: found for name, found in hostile_groups.items() if name != "dense"}
    expected = compare(hostile_groups["dense"], candidates)
    answers = [f"{name}: {expected.answer(name, 'dense')}." for name in candidates]
    assert [item for item in page.texts["li"] if item in answers] == answers
    assert text.index('class="answer') < text.index("<table") < text.index("<figure") < text.index('class="record"')


def test_a_limitation_stands_once(hostile_groups: dict[str, list[Record]], page: Page) -> None:
    candidates = {name: found for name, found in hostile_groups.items() if name != "dense"}
    for limitation in compare(hostile_groups["dense"], candidates).limitations:
        assert page.texts["li"].count(f"{limitation.replace('`', '')}.") == 1


def test_contents_lead_to_each_chapter_and_figure(page: Page) -> None:
    links = [have["href"] for tag, have in page.elements if tag == "a"]
    figures = [have["id"] for have in page.having("figure")]
    assert figures
    wanted = ["s1-answer", "s1-figures", *figures, "s1-comparisons", "s1-records"]
    assert [link for link in links if link in {f"#{name}" for name in wanted}][: len(wanted)] == [
        f"#{name}" for name in wanted
    ]


def test_nothing_is_fetched_and_only_its_own_script_runs(page: Page, text: str) -> None:
    outside = set(re.findall(r"https?://[^\s\"'<>\\)]+", text))
    assert {address for address in outside if "www.w3.org" not in address} == set()
    assert not [have for _, have in page.elements if have.get("src", "").startswith(("http", "//", "file"))]
    assert [tag for tag, _ in page.elements if tag in ("link", "iframe", "object", "embed", "base")] == []
    (policy,) = page.having("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.strip().split(" ", 1) for rule in (policy["content"] or "").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].startswith("'sha256-")
    assert rules["img-src"] == "data:"
    assert not [name for _, have in page.elements for name in have if name.startswith("on")]


def test_names_stay_text(page: Page, text: str) -> None:
    assert HOSTILE not in text
    assert any(HOSTILE in found for found in page.texts["th"])
    assert any(HOSTILE in found for found in page.texts["summary"])
    assert len([have for have in page.having("script") if "type" not in have]) == 1


def test_outline(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert {tag for tag, _ in page.elements} >= {"header", "nav", "main", "footer"}
    assert page.having("html", lang="en")


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [have["id"] for _, have in page.elements if "id" in have]
    assert sorted(ids) == sorted(set(ids))
    leads = [have["href"] or "" for tag, have in page.elements if tag == "a"]
    assert {link.removeprefix("#") for link in leads} <= set(ids)
    for attribute in ("popovertarget", "aria-labelledby", "data-payload"):
        wanted = {name for _, have in page.elements for name in (have.get(attribute) or "").split()}
        assert wanted <= set(ids), attribute


def test_tables_say_what_they_are(page: Page) -> None:
    tables = len(page.having("table"))
    assert tables > 4
    assert len(page.having("caption")) == tables
    assert all("scope" in have for tag, have in page.elements if tag == "th")
    regions = page.having("div", **{"class": "scroll"})
    assert all(have["tabindex"] == "0" and have["role"] == "region" and have["aria-label"] for have in regions)


def test_what_is_copied_has_the_numbers_of_the_comparison(hostile_groups: dict[str, list[Record]], page: Page) -> None:
    payloads = [json.loads(found) for found in page.texts["script"] if found.startswith("{")]
    assert all(payload.keys() == {"CSV", "Markdown", "LaTeX"} for payload in payloads)
    candidates = {name: found for name, found in hostile_groups.items() if name != "dense"}
    rows = compare(hostile_groups["dense"], candidates).rows
    (whole,) = [payload["CSV"] for payload in payloads if payload["CSV"].startswith("network,metric,unit,")]
    copied = list(csv.DictReader(io.StringIO(whole)))
    assert [(line["network"], line["metric"], line["verdict"]) for line in copied] == [
        (row.candidate, row.metric, row.verdict or "") for row in rows
    ]
    for line, row in zip(copied, rows, strict=True):
        assert (float(line["value"]) if line["value"] else None) == row.value


def test_invalid_numbers_are_struck_and_say_why(hostile_groups: dict[str, list[Record]], page: Page, text: str) -> None:
    struck = hostile_groups[HOSTILE][0].attacks[-1]
    assert page.texts["s"] == [f"{100 * struck.robust_accuracy:.1f} %"]
    assert "✕ invalid: large budget" in page.texts["small"]
    assert "12 % survive the budget of 1" in text
    assert any("✕ invalid" in found for found in page.texts["button"])


def test_where_numbers_come_from(hostile_groups: dict[str, list[Record]], text: str, page: Page) -> None:
    shown = page.texts["dd"]
    for (record,) in hostile_groups.values():
        assert record.model.sha256 in shown
        assert record.samples_sha256 in shown
        assert record.environment["torch"] in shown
        assert record.environment["command"] in shown
        for entry in record.attacks:
            for check in entry.checks:
                assert any(check.detail in found for found in page.texts["li"])


@pytest.mark.slow
def test_groups_of_other_images_are_parts_of_their_own(records: dict[str, Record], tmp_path: Path) -> None:
    for place, dataset in enumerate(("digits", HOSTILE)):
        for name, record in records.items():
            record.model_copy(update={"dataset": dataset}, deep=True).save(tmp_path / str(place) / f"{name}.json")
    (tmp_path / "other.json").write_text('{"kind": "no record"}')
    parts = write_report([tmp_path], tmp_path / "report.html")
    assert set(parts) == {"resnet20 on digits", f"resnet20 on {HOSTILE}"}
    page = Page((tmp_path / "report.html").read_text())
    assert page.texts["h2"] == sorted(parts)
    assert HOSTILE not in (tmp_path / "report.html").read_text()
    test_ids_are_unique_and_links_lead_somewhere(page)
    test_outline(page)
