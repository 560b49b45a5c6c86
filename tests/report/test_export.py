from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustprune.errors import ReportError
from robustprune.records import Record
from robustprune.report.figures import draw_all
from robustprune.report.figures.drawing import Drawing, save_figures, to_svg
from robustprune.report.figures.style import INK, new_figure, styled

Groups = dict[str, list[Record]]


@pytest.fixture(scope="module")
def drawings(groups: Groups) -> list[Drawing]:
    return list(draw_all({r"<dense> & $x$": groups["dense"], "good": groups["good"]}))


@pytest.fixture(scope="module")
def vectors(drawings: list[Drawing]) -> dict[str, str]:
    return {drawing.name: to_svg(drawing) for drawing in drawings}


def test_svg_stands_in_a_page(vectors: dict[str, str]) -> None:
    seen: set[str] = set()
    for name, svg in vectors.items():
        root = ET.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        assert {each.partition("-")[0] for each in ids} == {name.partition("-")[0]}
        assert set(re.findall(r'"(https?://[^"]*)"', svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        references = re.findall(r'href="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
        for reference in references:
            assert reference.startswith("data:image/png;base64,") or reference.removeprefix("#") in ids
        assert "<text" not in svg  # letters are shapes: no font is needed


def test_svg_is_told_in_words(drawings: list[Drawing], vectors: dict[str, str]) -> None:
    for drawing in drawings:
        root = ET.fromstring(vectors[drawing.name])
        assert root.attrib["role"] == "img"
        title, words = root[0], root[1]
        assert (title.text, words.text) == (drawing.title, drawing.alt)
        assert root.attrib["aria-labelledby"].split() == [title.attrib["id"], words.attrib["id"]]
        assert r"<dense> & $x$" in drawing.alt or drawing.name in ("block-scores", "corruptions", "costs")


def test_svg_takes_the_colours_of_its_page(vectors: dict[str, str]) -> None:
    svg = vectors["robust-accuracy"]
    for variable in ("--ink", "--muted", "--line", "--series-1"):
        assert re.search(rf"var\({variable}, #[0-9a-f]{{6}}\)", svg)
    assert not re.search(rf": {INK}", svg)
    root = ET.fromstring(svg)
    first = next(root.iter("{http://www.w3.org/2000/svg}path"))  # the background
    assert "fill: none" in first.attrib["style"]


@pytest.mark.slow
def test_equal_figures_are_equal_bytes(groups: Groups, tmp_path: Path) -> None:
    first, second = ([next(draw_all(groups))] for _ in range(2))
    assert to_svg(first[0]) == to_svg(first[0]) == to_svg(second[0])
    one, other = save_figures(first, tmp_path / "a"), save_figures(second, tmp_path / "b")
    assert [path.name for path in one] == [f"accuracy-against-cost.{kind}" for kind in ("pdf", "svg", "png")]
    for path, again in zip(one, other, strict=True):
        assert path.read_bytes() == again.read_bytes()


def test_a_prefix_of_ones_own(drawings: list[Drawing]) -> None:
    svg = to_svg(drawings[0], prefix="s2-cost")
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert len(ids) > 2
    assert all(each.startswith("s2-cost-") for each in ids)


@pytest.mark.parametrize("few", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["two", "all"])
def test_files_for_a_paper(drawings: list[Drawing], tmp_path: Path, few: bool) -> None:
    drawings = drawings[-2:] if few else drawings
    paths = save_figures(drawings, tmp_path / "figures")
    assert len(paths) == 3 * len(drawings)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(path.name for path in paths)
    for drawing in drawings:
        document = (tmp_path / "figures" / f"{drawing.name}.pdf").read_bytes()
        assert document.startswith(b"%PDF")
        assert b"/FontFile2" in document  # TrueType, whole: Type 42
        assert b"/Type3" not in document
        assert b"CreationDate" not in document
        with Image.open(tmp_path / "figures" / f"{drawing.name}.png") as picture:
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            assert picture.width == 2100
            pixels = np.asarray(picture.convert("L"))
        assert 0.005 < (pixels < 250).mean() < 0.9  # something is drawn, and there is air
        assert "var(" not in (tmp_path / "figures" / f"{drawing.name}.svg").read_text()


@pytest.mark.slow
def test_nothing_is_cut_off(drawings: list[Drawing]) -> None:
    for drawing in drawings:
        stream = io.BytesIO()
        with styled():
            drawing.figure.savefig(stream, format="png", dpi=60)
        pixels = np.asarray(Image.open(stream).convert("L"))
        edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
        assert min(edge.min() for edge in edges) > 200, drawing.name


def test_a_folder_that_cannot_be_written(drawings: list[Drawing], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match="cannot be written"):
        save_figures(drawings[:1], tmp_path / "file")


def test_letters_that_the_font_lacks_are_no_reason_to_stop(tmp_path: Path) -> None:
    with styled():
        figure, axes = new_figure(1.0)
        axes[0, 0].set_title("数字 $\\alpha")
    drawing = Drawing("letters", "数字", "caption", "alt.", figure)
    assert len(save_figures([drawing], tmp_path)) == 3
