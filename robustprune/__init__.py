"""Prune whole layers before training, and measure what that does to accuracy, cost and robustness.

The names below are imported when they are first used: ``import robustprune`` itself loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from robustprune._version import __version__

if TYPE_CHECKING:
    from robustprune.attacks import run_attack
    from robustprune.comparison import compare
    from robustprune.cost import measure_cost
    from robustprune.data import load_data
    from robustprune.errors import RobustPruneError
    from robustprune.evaluation import evaluate
    from robustprune.evaluation.cost_summary import describe_cost
    from robustprune.evaluation.similarity import compare_representations
    from robustprune.inference import freeze
    from robustprune.lottery import run_lottery
    from robustprune.models import build_model
    from robustprune.pruning import find_blocks, first_convolutions, score_blocks, score_filters, score_weights
    from robustprune.records import load_record
    from robustprune.report import write_report
    from robustprune.runtime.work import Work
    from robustprune.tickets import Ticket, load_ticket, prune_filters, prune_layers, prune_weights, rewind
    from robustprune.tickets.export import export_model
    from robustprune.tickets.requests import Pruning
    from robustprune.training import Recipe, train

_HOMES = {
    "Pruning": "tickets.requests",
    "Recipe": "training",
    "RobustPruneError": "errors",
    "Ticket": "tickets",
    "Work": "runtime.work",
    "build_model": "models",
    # Not "compare": a module of that name would hide the function.
    "compare": "comparison",
    "compare_representations": "evaluation.similarity",
    "describe_cost": "evaluation.cost_summary",
    "evaluate": "evaluation",
    "export_model": "tickets.export",
    "find_blocks": "pruning",
    "first_convolutions": "pruning",
    "freeze": "inference",
    "load_data": "data",
    "load_record": "records",
    "load_ticket": "tickets",
    "measure_cost": "cost",
    "prune_filters": "tickets",
    "prune_layers": "tickets",
    "prune_weights": "tickets",
    "rewind": "tickets",
    "run_attack": "attacks",
    "run_lottery": "lottery",
    "score_blocks": "pruning",
    "score_filters": "pruning",
    "score_weights": "pruning",
    "train": "training",
    "write_report": "report",
}

__all__ = [
    "Pruning",
    "Recipe",
    "RobustPruneError",
    "Ticket",
    "Work",
    "__version__",
    "build_model",
    "compare",
    "compare_representations",
    "describe_cost",
    "evaluate",
    "export_model",
    "find_blocks",
    "first_convolutions",
    "freeze",
    "load_data",
    "load_record",
    "load_ticket",
    "measure_cost",
    "prune_filters",
    "prune_layers",
    "prune_weights",
    "rewind",
    "run_attack",
    "run_lottery",
    "score_blocks",
    "score_filters",
    "score_weights",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustprune' has no attribute {name!r}")
    value = getattr(import_module(f"robustprune.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
