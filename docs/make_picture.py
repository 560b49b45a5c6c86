"""Draws README's picture from the folder that `robustprune demo` wrote.

    python docs/make_picture.py demo docs/demo.svg

Top: the fifteen blocks of each network, those removed before training struck out. Bottom: accuracy, clean and
under PGD, against what the network costs.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path

from robustprune.records import Record, load_record
from robustprune.runtime.files import write_atomically

WIDTH, ROW, BOX, LEFT = 790, 74, 22, 120
INK, FAINT, KEPT, GONE, CLEAN, ATTACKED = "#1f2933", "#52606d", "#3e7cb1", "#d64545", "#3e7cb1", "#e0a100"
NAMES = {"dense": "dense", "layer": "4 removed by GraSP", "random": "4 removed at random"}


def text(x: float, y: float, content: str, *, size: int = 13, anchor: str = "start", colour: str = INK) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(content)}</text>'
    )


def box(x: float, y: float, width: float, height: float, colour: str, *, hollow: bool = False) -> str:
    fill = f'fill="none" stroke="{colour}" stroke-dasharray="3 2"' if hollow else f'fill="{colour}"'
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" {fill}/>'


def network(record: Record, y: float) -> list[str]:
    """Draw the three stages of a network as boxes, higher where the block has more filters."""
    parts = []
    for stage in range(3):
        for position in range(5):
            x = LEFT + 110 + stage * 170 + position * (BOX + 6)
            height = 14 + 6 * stage
            removed = f"layer{stage + 1}.{position}" in record.model.removed
            parts.append(box(x, y - height / 2, BOX, height, GONE if removed else KEPT, hollow=removed))
            if removed:
                parts.append(
                    f'<path d="M{x - 2:g} {y + height / 2 + 2:g} L{x + BOX + 2:g} {y - height / 2 - 2:g}" '
                    f'stroke="{GONE}" stroke-width="2"/>'
                )
    return parts


def row(name: str, record: Record, y: float) -> list[str]:
    pgd = next(entry for entry in record.attacks if entry.name == "pgd" and abs(entry.epsilon - 8 / 255) < 1e-9)
    parts = [text(16, y + 4, NAMES.get(name, name)), *network(record, y)]
    for offset, share, colour, label in (
        (26, record.clean.accuracy, CLEAN, "clean"),
        (38, pgd.robust_accuracy, ATTACKED, "PGD 8/255"),
    ):
        length = 400 * share
        parts.append(box(LEFT + 110, y + offset - 8, length, 9, colour))
        parts.append(text(LEFT + 116 + length, y + offset, f"{100 * share:.1f} % {label}", size=11))
    parts.append(
        text(
            16,
            y + 22,
            f"{record.model.macs / 1e6:.2f} M MACs, {record.model.parameters / 1e3:.0f} k parameters",
            size=11,
            colour=FAINT,
        )
    )
    return parts


def main(folder: Path, out: Path) -> None:
    records = {name: load_record(folder / f"{name}.json") for name in NAMES}
    height = 34 + len(records) * (ROW + 14)
    parts = [text(16, 24, "ResNet32 on digits: four of fifteen blocks cut out before training", size=16)]
    for index, (name, record) in enumerate(records.items()):
        parts += row(name, record, 62 + index * (ROW + 14))
    description = "; ".join(
        f"{NAMES[name]}: {100 * record.clean.accuracy:.1f} % clean" for name, record in records.items()
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(description)}" font-family="system-ui, sans-serif">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )
    write_atomically(out, svg.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
