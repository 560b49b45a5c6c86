from __future__ import annotations

import pytest

from robustprune.errors import ReportError
from robustprune.report.svg import mark_safe

FRAME = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{}</svg>'


def test_drawings_pass_unchanged_without_their_prologue() -> None:
    drawing = FRAME.format('<defs><path id="a" d="M0 0"/></defs><use xlink:href="#a" clip-path="url(#b)"/>')
    assert mark_safe(f'<?xml version="1.0"?>\n<!DOCTYPE svg>\n{drawing}') == drawing
    assert mark_safe(FRAME.format('<image href="data:image/png;base64,AAAA"/>'))


@pytest.mark.parametrize(
    "content",
    [
        "<script>alert(1)</script>",
        "<foreignObject/>",
        '<rect onclick="alert(1)"/>',
        '<a href="https://example.org"><text>a</text></a>',
        '<a xlink:href="javascript:alert(1)"/>',
        '<image href="data:image/svg+xml;base64,AAAA"/>',
        '<rect fill="url(https://example.org/#a)"/>',
        "<style>@import 'a.css';</style>",
        "<style>rect {fill: url( 'https://example.org')}</style>",
        "<rect>",
        "<b & c/>",
    ],
)
def test_what_is_more_than_a_drawing_is_refused(content: str) -> None:
    with pytest.raises(ReportError, match="a drawing"):
        mark_safe(FRAME.format(content))


@pytest.mark.parametrize("text", ["", "<html/>", "<b>&lt;svg&gt;</b>"])
def test_what_is_no_drawing_is_refused(text: str) -> None:
    with pytest.raises(ReportError, match="a drawing"):
        mark_safe(text)
