"""Badges of verdicts and checks: legible in light and dark, and distinct for readers who do not see red and green."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from robustprune.comparison.verdict import VERDICTS
from robustprune.report.cells import badge

_STYLE = files("robustprune.report").joinpath("web", "page.css").read_text("utf-8")
_CHECKS = ("pass", "info", "warn", "fail")
_KINDS = ("none", "invalid", *_CHECKS, *VERDICTS)
# Machado, Oliveira and Fernandes 2009, Table 1: deuteranopia, on linear RGB.
_DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65

Floats = NDArray[np.float64]


def colours(scheme: str) -> dict[str, str]:
    """Return the colours of the style sheet by name."""
    light, dark = re.findall(r":root \{(.*?)\}", _STYLE, re.DOTALL)[:2]
    text = light + (dark if scheme == "dark" else "")
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text))


def look(kind: str, scheme: str) -> tuple[Floats, Floats]:
    """Return the colours of letters and background of a badge, each as linear RGB."""
    rules = {
        name: rule
        for names, rule in re.findall(r"^(\.[\w.,\s-]+?) \{(.*?)\}", _STYLE, re.MULTILINE)
        for name in names.split(", ")
    }
    both = {}
    for name in (".badge", f".{badge(kind).kind}"):
        both |= dict(re.findall(r"(?<![\w-])(color|background): var\(--([\w-]+)\)", rules.get(name, "")))
    known = colours(scheme)
    return linear(known[both["color"]]), linear(known[both["background"]])


def linear(colour: str) -> Floats:
    values = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: Floats, other: Floats) -> float:
    """Return the contrast ratio of WCAG 2."""
    low, high = sorted(float(colour @ _TO_XYZ[1]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(colour: Floats) -> Floats:
    scaled = (_TO_XYZ @ np.clip(colour, 0, 1)) / _TO_XYZ.sum(axis=1)
    x, y, z = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_contrast_and_distance_are_those_of_black_and_white() -> None:
    black, white = linear("#000000"), linear("#ffffff")
    assert contrast(black, white) == pytest.approx(21)
    assert np.linalg.norm(lab(black) - lab(white)) == pytest.approx(100, abs=0.1)
    assert _DEUTERANOPIA @ white == pytest.approx(white, abs=1e-4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", _KINDS)
def test_words_are_legible(kind: str, scheme: str) -> None:
    assert contrast(*look(kind, scheme)) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kinds", list(combinations(VERDICTS, 2)), ids="-".join)
def test_verdicts_differ_without_red_and_green(kinds: tuple[str, str], scheme: str) -> None:
    (one_ink, one), (other_ink, other) = (look(kind, scheme) for kind in kinds)
    distances = [
        np.linalg.norm(lab(_DEUTERANOPIA @ first) - lab(_DEUTERANOPIA @ second))
        for first, second in ((one, other), (one_ink, other_ink))
    ]
    assert max(distances) >= 10  # 2.3 are just noticeable (Mahy, Van Eycken and Oosterlinck 1994)


def test_each_verdict_has_a_sign_and_a_word_of_its_own() -> None:
    found = [badge(verdict) for verdict in VERDICTS]
    assert len({each.sign for each in found}) == len({each.word for each in found}) == len(VERDICTS)
    assert len({badge(check).sign for check in _CHECKS}) == len(_CHECKS)
