"""Figures of records in Python, and what notebooks show of what is compared, attacked and found."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure
from synthetic_records import make_record
from torch import nn

import robustprune as rp
from robustprune.data import ImageData
from robustprune.records import Record

Groups = dict[str, list[Record]]


def read(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<page>{html}</page>")


def text_of(html: str) -> str:
    return "".join(read(html).itertext())


def test_figures_are_those_of_the_report(groups: Groups) -> None:
    found = rp.show(groups)
    assert len(found) > 5
    assert all(type(figure) is Figure for figure in found)
    names = [drawing.name for drawing in found.drawings]
    assert all(figure.axes for figure in found)
    assert len(names) == len(set(names)) == len(found)


def test_a_notebook_shows_pictures_with_words(groups: Groups) -> None:
    found = rp.show({"<b>bold</b>": groups["good"][0], "dense": groups["dense"]})
    page = read(found._repr_html_())
    pictures = list(page.iter("img"))
    assert len(pictures) == len(found)
    for picture, drawing in zip(pictures, found.drawings, strict=True):
        kind, _, content = str(picture.get("src")).partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(b64decode(content)).tag == "{http://www.w3.org/2000/svg}svg"
        assert picture.get("alt") == drawing.alt
    assert {element.tag for element in page.iter()} == {"page", "figure", "img", "figcaption", "b", "p"}
    assert "<b>bold</b>" in " ".join(str(picture.get("alt")) for picture in pictures)
    assert all(reason in "".join(page.itertext()) for reason in found.left_out.values())


@pytest.mark.slow
def test_one_record_or_a_list_is_named_by_what_it_says(records: dict[str, Record]) -> None:
    alone = rp.show(records["dense"])
    several = rp.show(list(records.values()))
    assert 0 < len(alone) < len(several)
    said = " ".join(drawing.alt for drawing in several.drawings)
    assert "layer ticket (l1, 2 blocks)" in said
    assert "layer ticket (random, 2 blocks)" in said


def test_records_of_other_images_and_none_are_refused(groups: Groups) -> None:
    other = groups["dense"][0].model_copy(update={"samples_sha256": "1" * 64, "dataset": "svhn"})
    with pytest.raises(rp.ReportError, match=r"cifar10 \(200 images\).*svhn \(200 images\)"):
        rp.show([groups["dense"][0], other])
    for nothing in ([], {}, {"dense": []}):
        with pytest.raises(rp.ReportError, match="no record to show"):
            rp.show(nothing)
    for wrong in ("dense.json", ["dense.json"], {"dense": "dense.json"}):
        with pytest.raises(rp.ReportError, match=r"got 'dense\.json'; rp\.load_record reads"):
            rp.show(wrong)  # type: ignore[arg-type]


def test_a_comparison_is_its_tables(groups: Groups) -> None:
    hostile = "<b>&"
    found = rp.compare(groups["dense"], {"good": groups["good"], hostile: groups["bad"]})
    text = text_of(found._repr_html_())
    assert all(sentence in text for sentence in found.summary)
    for name in ("good", hostile):
        assert found.title(name, "dense") in text
        _, lines = found.table(name, "dense")
        assert all(cell.strip() in text for line in lines for cell in line)


def test_a_result_of_an_attack_says_whether_it_is_valid() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    images, labels = torch.rand(6, 1, 4, 4), torch.arange(6) % 3
    result = rp.run_attack(model, images, labels, "fgsm", epsilon="8/255")
    text = text_of(result._repr_html_())
    assert "fgsm L∞ 8/255, 6 images" in text
    assert f"{100 * result.clean_accuracy:.1f} %" in text
    assert (f"{100 * result.robust_accuracy:.1f} %" in text) if result.valid else ("not valid" in text)
    assert all(check.name in text and check.detail in text for check in result.checks)


def test_blocks_and_their_scores_are_tables(few_digits: ImageData) -> None:
    model = rp.build_model("resnet20", few_digits, width=4)
    blocks = rp.find_blocks(model)
    scores = rp.score_blocks(model, few_digits, "snip")
    rows = [[cell.text for cell in row] for row in read(blocks._repr_html_()).iter("tr")][1:]
    assert [row[0] for row in rows] == [block.name for block in blocks]
    assert [str(row[3]).startswith("yes") for row in rows] == [block.residue is not None for block in blocks]
    cells: list[list[Any]] = [[cell.text for cell in row] for row in read(scores._repr_html_()).iter("tr")][1:]
    values = [float(score) for _, score in cells]
    assert values == sorted(values)
    assert dict(cells) == {name: f"{score:.4g}" for name, score in scores.items()}
    assert re.match(r"snip scores", text_of(scores._repr_html_()))


def test_ties_are_shown_in_the_order_in_which_they_go(few_digits: ImageData) -> None:
    model = rp.build_model("resnet20", few_digits, width=4)
    scores = rp.score_blocks(model, few_digits, "random")
    for name in scores:
        scores[name] = 1.0
    ticket = rp.prune_layers(model, scores, blocks=1, data=few_digits)
    shown = [row[0].text for row in read(scores._repr_html_()).iter("tr")]
    assert [shown[1]] == list(ticket.plan.removed)


def test_a_record_without_attacks_can_be_shown() -> None:
    assert all(isinstance(figure, Figure) for figure in rp.show(make_record(attacks=())))
