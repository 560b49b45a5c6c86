"""Draws the pictures of docs/comparing.md, one for each verdict, each with the verdict that `judge` gives.

python docs/make_verdict_pictures.py docs/verdicts
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

from robustprune.comparison.verdict import is_within, judge
from robustprune.runtime.files import write_atomically

WIDTH, HEIGHT, UNIT, MIDDLE = 420, 92, 62, 210
INK, FAINT, ZONE, INTERVAL, BOUNDS = "#1f2933", "#52606d", "#e4edf5", "#3e7cb1", "#3e7cb1"
# Name → interval of 95 %, bounds of 90 %, in units of ξ, and what is seen.
PICTURES = {
    "better": ((0.5, 2.3), (0.64, 2.16), "The whole interval lies above 0."),
    "better-slightly": ((0.12, 0.88), (0.18, 0.82), "Above 0, and by less than ξ."),
    "equivalent": ((-0.75, 0.65), (-0.64, 0.54), "The bounds lie within ±ξ."),
    "no-worse": ((-0.95, 1.75), (-0.75, 1.55), "The bounds lie above −ξ, but not below +ξ."),
    "undecided": ((-2.2, 0.8), (-1.97, 0.57), "−ξ lies between the bounds."),
    "worse": ((-2.6, -1.1), (-2.48, -1.22), "The bounds lie below −ξ."),
}


def text(x: float, y: float, content: str, *, anchor: str = "middle", colour: str = INK, size: int = 13) -> str:
    words = escape(content)
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def line(x: float, y: float, to_x: float, to_y: float, colour: str, *, width: float = 1, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def place(value: float) -> float:
    return MIDDLE + UNIT * value


def draw(interval: tuple[float, float], bounds: tuple[float, float]) -> str:
    """Draw an interval, thin where only that of 95 % reaches, against 0 and ±ξ."""
    parts = [f'<rect x="{place(-1):g}" y="10" width="{2 * UNIT:g}" height="56" fill="{ZONE}"/>']
    for value, label in ((-1, "−ξ"), (0, "0"), (1, "+ξ")):
        parts.append(line(place(value), 10, place(value), 66, FAINT, dash="" if value == 0 else "4 3"))
        parts.append(text(place(value), 84, label, colour=FAINT))
    parts.append(text(12, 84, "worse than dense", anchor="start", colour=FAINT, size=11))
    parts.append(text(WIDTH - 12, 84, "better", anchor="end", colour=FAINT, size=11))
    parts.append(line(place(interval[0]), 38, place(interval[1]), 38, INTERVAL, width=2))
    parts += [line(place(end), 32, place(end), 44, INTERVAL, width=2) for end in interval]
    parts.append(line(place(bounds[0]), 38, place(bounds[1]), 38, BOUNDS, width=9))
    middle = place((bounds[0] + bounds[1]) / 2)
    parts.append(f'<circle cx="{middle:g}" cy="38" r="5" fill="#ffffff" stroke="{INK}" stroke-width="1.5"/>')
    return "\n".join(parts)


def main(folder: Path) -> None:
    for name, (interval, bounds, seen) in PICTURES.items():
        verdict = judge(interval, bounds, 1.0)
        slightly = "-slightly" if verdict == "better" and is_within(bounds, 1.0) else ""
        assert name == verdict.replace(" ", "-") + slightly, f"{name} is drawn where judge says {verdict}"
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" font-family="system-ui, sans-serif" role="img" aria-labelledby="t d">\n<title id="t">'
            f'{escape(verdict)}</title>\n<desc id="d">{escape(seen)}</desc>\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{draw(interval, bounds)}\n</svg>\n'
        )
        write_atomically(folder / f"{name}.svg", svg.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
