"""From a sweep's file to its runs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from robustprune.errors import SweepError
from robustprune.sweep.reading import check, merge, put, refuse_twice
from robustprune.sweep.spec import RunRequest, RunSettings, SweepFile

_OF_THE_FILE = ("name", "description", "grid", "include", "exclude", "dense")


def expand(document: Mapping[str, Any], where: str) -> list[RunSettings]:
    """Return the runs of a sweep, each once: those of the grid, those included, and the dense networks beside them.

    Args:
        document: A sweep's file, overlays and settings applied.
        where: Said in errors.

    Raises:
        SweepError: Something in it makes no sense, or it comes to no run.
    """
    file = check(SweepFile, document, where)
    shared = {name: value for name, value in document.items() if name not in _OF_THE_FILE}
    runs: dict[str, RunSettings] = {}
    # Without a grid, a file that includes runs has no others.
    kept = list(_combinations(shared, file.grid, where)) if file.grid or not file.include else []
    for number, entry in enumerate(file.include, start=1):
        grid = entry.get("grid", {})
        if not isinstance(grid, dict) or not all(isinstance(values, list) for values in grid.values()):
            raise SweepError(f"{where}: the grid of include {number} is no mapping of settings to lists of values")
        further = {name: value for name, value in entry.items() if name != "grid"}
        kept += _combinations(merge(shared, further), grid, f"{where}, include {number}")
    excluded = [_as_tree(entry, where) for entry in file.exclude]
    kept = [each for each in kept if not any(_has(check(RunSettings, each, where), entry) for entry in excluded)]
    for settings in kept:
        run: RunSettings = check(RunRequest, settings, where)
        # A dense network that is asked for has no use for the settings of tickets, and is the one beside them.
        own = run.as_dense() if run.method == "dense" else run
        for each in (*([run.as_dense()] if file.dense else []), own):
            runs.setdefault(each.model_dump_json(), each)
    if not runs:
        raise SweepError(f"{where}: nothing is left to run; the grid is empty, or everything in it is excluded")
    return list(runs.values())


def _combinations(shared: Mapping[str, Any], grid: Mapping[str, list[Any]], where: str) -> Iterator[dict[str, Any]]:
    refuse_twice(list(grid), f"{where}: the grid")
    for name, values in grid.items():
        if not values:
            raise SweepError(f"{where}: the grid has no value for {name}; give at least one, or leave it out")
    for chosen in product(*grid.values()):
        settings = copy.deepcopy(dict(shared))
        for name, value in zip(grid, chosen, strict=True):
            put(settings, name, value)
        yield settings


def _as_tree(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings whose names may be paths with dots, as a tree; refuse those that no run has."""
    refuse_twice(list(entry), f"{where}, exclude")
    tree: dict[str, Any] = {}
    for name, value in entry.items():
        put(tree, name, value)
    check(RunSettings, tree, f"{where}, exclude")
    return tree


def _has(run: RunSettings, wanted: Mapping[str, Any]) -> bool:
    return _contains(run.model_dump(mode="json"), wanted)


def _contains(settings: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(settings, Mapping) and all(
            name in settings and _contains(settings[name], value) for name, value in wanted.items()
        )
    return bool(settings == wanted)
