"""Drawings on their way into the page: checked to be nothing but a drawing."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from markupsafe import Markup

from robustprune.errors import ReportError

_SVG = "{http://www.w3.org/2000/svg}"
_ACTIVE = {"script", "foreignObject", "iframe", "object", "embed", "handler", "set"}
_URL = re.compile(r"url\(\s*['\"]?(?!#)", re.IGNORECASE)


def mark_safe(svg: str) -> Markup:
    """Return a drawing as markup that may stand in a page.

    Raises:
        ReportError: It is not well-formed, no SVG, or would run or fetch something.
    """
    start = svg.find("<svg")
    try:
        root = ElementTree.fromstring(svg[start:])
    except ElementTree.ParseError as error:
        raise ReportError(f"a drawing is no well-formed SVG: {error}; this is a defect, please report it") from error
    if root.tag != f"{_SVG}svg":
        raise ReportError(f"a drawing is no SVG but {root.tag}; this is a defect, please report it")
    for element in root.iter():
        problem = _problem(element)
        if problem:
            raise ReportError(f"a drawing holds {problem}, which no page may; this is a defect, please report it")
    return Markup(svg[start:])


def _problem(element: ElementTree.Element) -> str | None:
    name = str(element.tag).rpartition("}")[2]
    if name in _ACTIVE:
        return f"<{name}>"
    if name == "style" and (_URL.search(element.text or "") or "@import" in (element.text or "")):
        return "a style that fetches"
    for attribute, value in element.attrib.items():
        key = attribute.rpartition("}")[2].lower()
        if key.startswith("on"):
            return f"the attribute {key}"
        if key in ("href", "src") and not value.startswith(("#", "data:image/png;", "data:image/jpeg;")):
            return f"a link to {value[:40]}"
        if _URL.search(value):
            return f"a reference to {value[:40]}"
    return None
