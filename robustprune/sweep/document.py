"""From a YAML file, overlays and ``a.b=c`` to a document, not yet checked."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from robustprune.errors import SweepError, in_one_line

SHORT = {
    "data": "name",
    "recipe": "name",
    "pruning": "method",
    "attacks": "names",
    "corruptions": "names",
    "certify": "sigma",
    "until": "verdict",
}
"""Group of settings → the one that a bare value stands for: ``recipe: paper`` is ``recipe: {name: paper}``."""


def read_document(
    path: str | Path, overlays: Sequence[str | Path] = (), settings: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a sweep's file as a mapping, not yet checked.

    Args:
        path: A YAML file.
        overlays: YAML files whose settings take the place of the file's, one after the other; mappings are merged.
        settings: ``a.b=value``, the value in YAML, in place of all of them.

    Raises:
        SweepError: A file that is missing or no YAML mapping, or a setting of another form.
    """
    document = _read(Path(path))
    for overlay in overlays:
        document = merge(document, _read(Path(overlay)))
    given = [text.partition("=")[0].strip() for text in settings]
    for name, text in zip(given, settings, strict=True):
        value = text.partition("=")[2].strip()
        if "=" not in text or not name:
            raise SweepError(f"--set {text!r} is not of the form a.b=value, such as recipe.epochs=5")
        if not value:
            raise SweepError(f"--set {text!r} gives no value; write {name}=null for none")
        put(document, name, _parse(value, f"--set {text!r}: the value"))
    refuse_twice(given, "--set")
    return document


class _Loader(yaml.SafeLoader):
    """YAML of which the last of two equal keys does not win in silence; what ``<<`` merges may be overridden."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in lines:
                where = f"line {line}" if line == lines[name] else f"lines {lines[name]} and {line}"
                raise SweepError(f"{key.value!r} is given twice, in {where}; give it once")
            lines[name] = line
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text, read = str(node.value), super().construct_yaml_int(node)
        # YAML 1.1 has 12:30 for 750 and 010 for 8, which nobody means.
        if ":" in text or re.fullmatch("[-+]?0[0-7_]+", text):
            raise SweepError(
                f"{text} in line {node.start_mark.line + 1} is {read} in YAML; write that, or put a text in quotes"
            )
        return read


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``under`` with what ``over`` says in its place; mappings are merged, lists are not."""
    merged = dict(under)
    for name, value in over.items():
        own = _spelled_out(name, merged.get(name))
        both = isinstance(value, Mapping) and isinstance(own, Mapping)
        merged[name] = merge(own, value) if both else copy.deepcopy(value)
    return merged


def _spelled_out(name: str, value: Any) -> Any:
    """Return the value of a group of settings as a mapping, where it was given as that of its first setting."""
    is_short = name in SHORT and value is not None and not isinstance(value, Mapping)
    return {SHORT[name]: value} if is_short else value


def refuse_twice(names: Sequence[str], where: str) -> None:
    """Refuse settings, as paths with dots, of which one is another or holds it, so that the last would win."""
    for one, other in combinations(names, 2):
        if f"{other}.".startswith(f"{one}.") or f"{one}.".startswith(f"{other}."):
            pair = f"{one} twice" if one == other else f"{one} and {other}, of which one holds the other"
            raise SweepError(f"{where} gives {pair}; give each setting once")


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Set ``a.b`` of a document, unless what holds it is no mapping."""
    *parents, last = path.split(".")
    if parents[:1] == ["grid"]:  # whose settings are paths themselves
        parents, last = ["grid"], path.removeprefix("grid.")
    for name in parents:
        group = document[name] = _spelled_out(name, document.get(name, {}))
        if not isinstance(group, dict):
            raise SweepError(f"{path}: {name!r} is no group of settings but {group!r}")
        document = group
    document[last] = value


def _read(path: Path) -> dict[str, Any]:
    try:
        document = _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SweepError(f"the sweep {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SweepError(f"{path} is no YAML: {in_one_line(error, 200)}") from error
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        raise SweepError(f"{path} holds no settings: a sweep is a YAML mapping such as model: resnet32")
    return document


def _parse(text: str, what: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a safe loader
    except yaml.YAMLError as error:
        raise SweepError(f"{what} is no YAML: {in_one_line(error, 200)}") from error
    except SweepError as error:
        raise SweepError(f"{what}: {error}") from error
