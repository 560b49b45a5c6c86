"""What can be named on the command line, with a line on each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from robustprune.attacks import ATTACKS, attack_options
from robustprune.attacks.registry import is_family
from robustprune.corruptions import CORRUPTIONS, EXTRAS, HEADLINE, corruption_options
from robustprune.data import describe_datasets
from robustprune.models import MODELS
from robustprune.ood import DETECTORS, detector_options
from robustprune.pruning import CRITERIA

Row = dict[str, Any]


def criteria() -> list[Row]:
    """Return the criteria with their options and defaults."""
    found = [(name, CRITERIA.get(name)) for name in CRITERIA.names()]
    return [
        {"name": name, "description": _first_line(criterion), "options": criterion().model_dump()}
        for name, criterion in found
    ]


def attacks() -> list[Row]:
    """Return the attacks with their options and defaults."""
    found = [(name, ATTACKS.get(name)) for name in ATTACKS.names()]
    return [
        {
            "name": f"{name}:NAME" if is_family(attack) else name,
            "description": _first_line(attack),
            "options": {} if is_family(attack) else _with_defaults(attack_options(name)),
        }
        for name, attack in found
    ]


def detectors() -> list[Row]:
    """Return the detectors of foreign images with their options and defaults."""
    return [
        {"name": name, "description": _first_line(DETECTORS.get(name)), "options": detector_options(name)}
        for name in DETECTORS.names()
    ]


def corruptions() -> list[Row]:
    """Return the corruptions, whether they count in the headline figure, and their options."""
    groups = dict.fromkeys(HEADLINE, "headline") | dict.fromkeys(EXTRAS, "extra")
    return [
        {
            "name": name,
            "group": groups.get(name, "own"),
            "description": _first_line(CORRUPTIONS.get(name)),
            "options": corruption_options(name),
        }
        for name in sorted(CORRUPTIONS.names(), key=[*groups, *CORRUPTIONS.names()].index)
    ]


def models() -> list[Row]:
    """Return the models that can be built by name."""
    patterns = {
        "wrn": "wrn:DEPTH-WIDENING",
        "torchvision": "torchvision:NAME",
        "timm": "timm:NAME",
        "robustbench": "robustbench:NAME",
        "file": "file:PATH:NAME",
    }
    return [{"name": patterns.get(name, name), "description": _first_line(MODELS.get(name))} for name in MODELS.names()]


def datasets() -> list[Row]:
    """Return the image sets, whether they are here, and where."""
    return [
        {"name": each.name, "description": each.description, "available": each.available, "where": each.where}
        for each in describe_datasets()
    ]


LISTINGS: dict[str, Callable[[], list[Row]]] = {
    "criteria": criteria,
    "attacks": attacks,
    "corruptions": corruptions,
    "detectors": detectors,
    "models": models,
    "datasets": datasets,
}


def _first_line(plugin: Any) -> str:
    return (inspect.getdoc(plugin) or "").partition("\n")[0].replace("``", "")


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {name: "(to be given)" if value is inspect.Parameter.empty else value for name, value in options.items()}
