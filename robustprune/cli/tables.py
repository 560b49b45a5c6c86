"""Tables that several commands draw."""

from __future__ import annotations

from typing import Any

from robustprune import terminal


def cost_table(own: Any, dense: Any | None, headings: tuple[str, str], caption: str = "") -> None:
    """Draw a network's cost, beside the dense network's and with what is saved if there is one."""
    saved = own.saved_percent(dense) if dense else {}
    names = {"parameters": "parameters", "macs": "MACs per image", "filters": "filters"}
    rows = [
        [label, *([f"{getattr(dense, name):,}"] if dense else []), f"{getattr(own, name):,}"]
        + ([f"{saved[name]:.2f} %"] if dense else [])
        for name, label in names.items()
    ]
    columns = ["", *(f">{heading}" for heading in headings if heading), *([">saved"] if dense else [])]
    terminal.table("Cost", columns, rows, caption)


def interval_text(interval: tuple[float, float]) -> str:
    """Return an interval of shares in percent."""
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %"
