"""Prune whole layers before training, and measure what that does to accuracy, cost and robustness.

The names below are imported when they are first used: ``import robustprune`` itself loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from robustprune import errors as _errors
from robustprune._version import __version__ as __version__
from robustprune.errors import *  # noqa: F403

if TYPE_CHECKING:  # the same names once more, for type checkers and editors; a test holds the two to each other
    from robustprune.attacks import Attack as Attack
    from robustprune.attacks import Attacks as Attacks
    from robustprune.attacks import run_attack as run_attack
    from robustprune.comparison import compare as compare
    from robustprune.comparison.power import plan_seeds as plan_seeds
    from robustprune.corruptions import Corruptions as Corruptions
    from robustprune.corruptions import corrupt as corrupt
    from robustprune.cost import measure_cost as measure_cost
    from robustprune.data import ImageData as ImageData
    from robustprune.data import as_data as as_data
    from robustprune.data import build_model as build_model
    from robustprune.data import load_data as load_data
    from robustprune.evaluation import Evaluation as Evaluation
    from robustprune.evaluation import Shift as Shift
    from robustprune.evaluation import evaluate as evaluate
    from robustprune.evaluation import evaluate_models as evaluate_models
    from robustprune.evaluation.cost_summary import describe_cost as describe_cost
    from robustprune.evaluation.similarity import compare_representations as compare_representations
    from robustprune.inference import Certify as Certify
    from robustprune.inference import certify as certify
    from robustprune.inference import freeze as freeze
    from robustprune.lottery import ablate as ablate
    from robustprune.lottery import run_lottery as run_lottery
    from robustprune.metrics.spreads import Spreads as Spreads
    from robustprune.models import load_weights as load_weights
    from robustprune.models import normalized as normalized
    from robustprune.ood import OOD as OOD
    from robustprune.ood import evaluate_ood as evaluate_ood
    from robustprune.pruning import find_blocks as find_blocks
    from robustprune.pruning import prunable_convolutions as prunable_convolutions
    from robustprune.pruning import score_blocks as score_blocks
    from robustprune.pruning import score_filters as score_filters
    from robustprune.pruning import score_tickets as score_tickets
    from robustprune.pruning import score_weights as score_weights
    from robustprune.records import Record as Record
    from robustprune.records import load_record as load_record
    from robustprune.report import show as show
    from robustprune.report import write_report as write_report
    from robustprune.runtime.progress import progress_bar as progress_bar
    from robustprune.runtime.threads import quiet_threads as quiet_threads
    from robustprune.runtime.work import Work as Work
    from robustprune.tables.criterion_rank import rank_criterion as rank_criterion
    from robustprune.tables.search_rank import rank_searches as rank_searches
    from robustprune.tables.ticket_comparison import compare_tickets as compare_tickets
    from robustprune.tables.ticket_table import load_table as load_table
    from robustprune.tickets import Ticket as Ticket
    from robustprune.tickets import load_ticket as load_ticket
    from robustprune.tickets import prune_filters as prune_filters
    from robustprune.tickets import prune_layers as prune_layers
    from robustprune.tickets import prune_weights as prune_weights
    from robustprune.tickets import replace_linear as replace_linear
    from robustprune.tickets import rewind as rewind
    from robustprune.tickets.export import export_model as export_model
    from robustprune.tickets.requests import Pruning as Pruning
    from robustprune.training import Recipe as Recipe
    from robustprune.training import train as train

_HOMES = {
    name: home
    for home, names in {
        "attacks": "Attack Attacks run_attack",
        "comparison": "compare",
        "comparison.power": "plan_seeds",
        "corruptions": "Corruptions corrupt",
        "cost": "measure_cost",
        "data": "ImageData as_data build_model load_data",
        "evaluation": "Evaluation Shift evaluate evaluate_models",
        "evaluation.cost_summary": "describe_cost",
        "evaluation.similarity": "compare_representations",
        "inference": "Certify certify freeze",
        "lottery": "ablate run_lottery",
        "metrics.spreads": "Spreads",
        "models": "load_weights normalized",
        "ood": "OOD evaluate_ood",
        "pruning": "find_blocks prunable_convolutions score_blocks score_filters score_tickets score_weights",
        "records": "Record load_record",
        "report": "show write_report",
        "runtime.progress": "progress_bar",
        "runtime.threads": "quiet_threads",
        "runtime.work": "Work",
        "tables.criterion_rank": "rank_criterion",
        "tables.search_rank": "rank_searches",
        "tables.ticket_comparison": "compare_tickets",
        "tables.ticket_table": "load_table",
        "tickets": "Ticket load_ticket prune_filters prune_layers prune_weights replace_linear rewind",
        "tickets.export": "export_model",
        "tickets.requests": "Pruning",
        "training": "Recipe train",
    }.items()
    for name in names.split()
}

__all__ = ["__version__", *_HOMES, *(name for name, each in vars(_errors).items() if isinstance(each, type))]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustprune' has no attribute {name!r}")
    value = getattr(import_module(f"robustprune.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
