"""The lists of what can be named, without importing it: what comes with this package is written down in a file.

Importing every attack and detector to ask for its first line takes seconds. ``make lists`` writes the file anew, and a
test holds it to :mod:`robustprune.cli.listings`, which asks them.
"""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from robustprune.data import describe_datasets

KINDS = ("criteria", "attacks", "corruptions", "detectors", "models", "datasets")
FILE = Path(__file__).with_name("listed.json")

Row = dict[str, Any]


def list_rows(kind: str) -> list[Row]:
    """Return a row for everything of a kind that can be named, that of other installed packages included.

    Raises:
        RobustPruneError: Another package's plug-in does not load.
    """
    if entry_points(group=f"robustprune.{kind}"):
        from robustprune.cli.listings import LISTINGS

        return LISTINGS[kind]()
    written = json.loads(FILE.read_text(encoding="utf-8"))
    if kind != "datasets":
        rows: list[Row] = written[kind]
        return rows
    # Whether an image set is here is asked of the machine.
    return [each._asdict() for each in describe_datasets(known=written[kind])]


def as_written() -> dict[str, Any]:
    """Return what the file has to hold, by asking everything, which imports it."""
    from robustprune.cli.listings import LISTINGS

    asked: dict[str, Any] = {kind: LISTINGS[kind]() for kind in KINDS}
    asked["datasets"] = {row["name"].partition(":")[0]: row["description"] for row in asked["datasets"]}
    written: dict[str, Any] = json.loads(json.dumps(asked))
    return written


if __name__ == "__main__":
    FILE.write_text(json.dumps(as_written(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
