"""Records three commands in a terminal and draws what they print, as an animated SVG without scripts.

    python docs/make_recording.py docs/recording.svg

Everything shown is what the commands printed; waits are cut short. Readers who ask for less motion see the last screen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.text import Text

from robustprune.runtime.files import write_atomically

SCREENS = (  # the commands that share a screen
    ("robustprune prune --model resnet20 --criterion grasp --blocks 2 --out ticket.pt",),
    (
        "robustprune train --model ticket.pt --epochs 10 --out trained.pt",
        "robustprune evaluate --model trained.pt --attack fgsm,pgd --eps 8/255 --out record.json",
    ),
)
COLUMNS, CELL, LINE, EDGE, BAR = 92, 8.4, 16, 16, 34
TYPING, RUNNING, READING = 0.22, 3.0, 5.0  # seconds a word, a command at most, and the result
STEPS = 12  # screens shown of a command at work
COLOURS = {"prompt": "#7ee787", "text": "#e6edf3", "dim": "#8b949e"}
Screen = tuple[str, ...]  # rows, colours as escape sequences


def read(command: str, folder: Path) -> Iterator[bytes]:
    """Run a command in a terminal and yield what it writes, a burst at a time."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    words = [sys.executable, "-m", *shlex.split(command)]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    burst, last = b"", time.monotonic()
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if time.monotonic() - last > 0.03 and burst:
            yield burst
            burst = b""
        burst, last = burst + part, time.monotonic()
    yield burst
    if process.wait():
        raise SystemExit(f"{command}: {burst.decode()}")


def screens(bursts: Iterator[bytes]) -> Iterator[Screen]:
    """Yield the rows after each burst. Bars erase a row before they write it, so that nothing is written over."""
    rows, at = [""], 0
    for burst in bursts:
        for part in re.split(r"(\r|\n|\x1b\[\d*[AK]|\x1b\[\?25[lh])", burst.decode()):
            if part == "\n":
                at += 1
                rows.extend([""] * (at + 1 - len(rows)))
            elif part.endswith("A") and part.startswith("\x1b["):
                at -= int(part[2:-1] or 1)
            elif part.endswith("K") and part.startswith("\x1b["):
                rows[at] = ""
            elif part != "\r" and not part.startswith("\x1b[?"):
                rows[at] += part
        yield tuple(row.rstrip() for row in rows)


def film(command: str, folder: Path, above: Screen) -> list[tuple[float, Screen]]:
    """Return the screens of one command with how long each is shown: typed, at work, done."""
    words = command.split()
    typed = [(TYPING, (*above, "$ " + " ".join(words[:count]))) for count in range(1, len(words) + 1)]
    *working, done = dict.fromkeys((*above, f"$ {command}", *screen) for screen in screens(read(command, folder)))
    kept = dict.fromkeys(working[round(index * (len(working) - 1) / (STEPS - 1))] for index in range(STEPS))
    return [*typed, *((RUNNING / STEPS, screen) for screen in kept), (READING, done)]


def draw_row(row: str, y: float) -> str:
    """Draw one row, each run of a style where its first cell is, so that columns meet in any font."""
    console = Console(width=COLUMNS, color_system="truecolor", force_terminal=True)
    text = Text.from_ansi(row)
    if row.startswith("$ "):
        text.stylize(COLOURS["prompt"], 0, 1)
        text.stylize("bold", 2)
    parts, column = [], 0
    for segment in text.render(console):
        if segment.text.strip():
            style, length = segment.style, len(segment.text)
            colour = style.color.get_truecolor().hex if style and style.color else COLOURS["text"]
            weight = ' font-weight="bold"' if style and style.bold else ""
            parts.append(
                f'<tspan x="{EDGE + column * CELL:.1f}" textLength="{length * CELL:.1f}" fill="{colour}"{weight}>'
                f"{escape(segment.text)}</tspan>"
            )
        column += len(segment.text)
    return f'<text y="{y:g}">{"".join(parts)}</text>' if parts else ""


def draw(film: list[tuple[float, Screen]], label: str) -> str:
    """Draw the screens one after the other; a row that stays is drawn once and shown as long as it stands."""
    starts = [0.0]
    for seconds, _ in film:
        starts.append(starts[-1] + seconds)
    whole, height = starts[-1], BAR + LINE * (max(len(screen) for _, screen in film) + 1)
    shown: dict[tuple[int, int], list[str]] = {}  # rows by the first screen that has them and the first that does not
    for index in range(height // LINE):
        rows = [screen[index] if index < len(screen) else "" for _, screen in film]
        edges = [0, *(at for at, (one, other) in enumerate(pairwise(rows), 1) if one != other), len(rows)]
        for first, end in pairwise(edges):
            if row := draw_row(rows[first], BAR + LINE * (index + 1)):
                shown.setdefault((first, end), []).append(row)
    css, groups = [], []
    for number, ((first, end), rows) in enumerate(sorted(shown.items())):
        ends = f"{100 * starts[end] / whole:.2f}%{{visibility:hidden}}" if end < len(film) else ""
        css.append(
            f"@keyframes k{number}{{0%{{visibility:hidden}}"
            f"{100 * starts[first] / whole:.2f}%{{visibility:visible}}{ends}}}#k{number}{{animation-name:k{number}}}"
        )
        still = "" if end < len(film) else ' class="last"'
        groups.append(f'<g id="k{number}"{still}>{"".join(rows)}</g>')
    width = 2 * EDGE + COLUMNS * CELL
    dots = "".join(f'<circle cx="{EDGE + 6 + 18 * n}" cy="17" r="5" fill="{COLOURS["dim"]}"/>' for n in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" '
        f'aria-label="{escape(label)}">'
        "<style>text{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre}"
        "g{visibility:hidden}g.last{visibility:visible}@media(prefers-reduced-motion:no-preference)"
        f"{{g,g.last{{visibility:hidden;animation:{whole:.2f}s step-end infinite}}}}{''.join(css)}</style>"
        f'<rect width="100%" height="100%" rx="10" fill="#0d1117" stroke="#30363d"/>{dots}{"".join(groups)}</svg>\n'
    )


def main(out: Path) -> None:
    whole: list[tuple[float, Screen]] = []
    with tempfile.TemporaryDirectory() as folder:
        for commands in SCREENS:
            above: Screen = ()
            for command in commands:
                whole += film(command, Path(folder), above)
                above = whole[-1][1]
    label = "A terminal: " + "; ".join(command for commands in SCREENS for command in commands)
    write_atomically(out, draw(whole, label).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
