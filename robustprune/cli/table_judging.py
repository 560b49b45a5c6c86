"""`robustprune table compare`, `rank` and `predict`: tickets and criteria judged by a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.compare import read_tolerances, tolerance_option
from robustprune.cli.options import given_criteria, given_names, json_option, list_option, stack
from robustprune.cli.table_group import FIGURES_TO, METRICS, NAMED, save_figure, table, write_mean

if TYPE_CHECKING:
    from robustprune.metrics.seeds import SeedMean
    from robustprune.tables.criterion_rank import CriterionRank
    from robustprune.tables.ticket_comparison import TicketDifference
    from robustprune.tables.ticket_table import TicketTable

_PICKED = "Blocks of this table are drawn: what is judged is the ticket of the depth profile that a criterion chooses."
_STANDING = "It stands for all sets of blocks of its profile, which count as its equals."
_FIGURES = {
    "tau_subsets": "τ, tickets",
    "tau_profiles": "τ, profiles",
    "regret": "regret",
    "regret_of_chance": "regret of chance",
    "percentile": "percentile",
    "percentile_within": "within profile",
}


_AGAINST = click.option(
    "--against",
    type=click.Choice(["dense", "random", "filters", "macs", "params"]),
    default="dense",
    help="Reference: the dense network; a random choice of as many blocks; or the filter ticket matched in this cost.",
)
_BY = click.option(
    "--by",
    type=click.Choice(["size", "profile", "ticket"]),
    help="One candidate per number of removed blocks, per depth profile, or per set of blocks.  [default: profile]",
)


@table.command(
    examples=[
        "resnet20/digits --against macs --metric accuracy,pgd_linf_16_255",
        "resnet20/digits --criterion grasp,snip --against random",
    ],
)
@NAMED
@METRICS
@_AGAINST
@_BY
@list_option(
    "--criterion",
    "criteria",
    metavar="NAME,…",
    help="Compare what these criteria pick, by number of removed blocks, instead of all tickets.",
)
@tolerance_option
@FIGURES_TO
@json_option
def compare(
    name: str,
    metrics: tuple[str, ...],
    against: Any,
    by: Any,
    criteria: tuple[str, ...],
    tolerance: tuple[str, ...],
    figures: str | None,
    as_json: bool,
) -> None:
    """Compare the tickets of a table with a reference, paired by seed and image, with the verdicts of `compare`."""
    from robustprune.runtime.work import Work
    from robustprune.tables.ticket_comparison import REFERENCES, compare_tickets
    from robustprune.tables.ticket_table import load_table

    if by and criteria:
        raise click.UsageError(
            "--criterion compares what is picked of each size, and --by groups all tickets; give one of the two"
        )
    read = load_table(name)
    with terminal.progress_bar() as bar:
        found = compare_tickets(
            read,
            given_names(metrics),
            against=against,
            by=by or "profile",
            criteria=given_criteria(criteria),
            tolerance=read_tolerances(tolerance),
            work=Work(progress=bar),
        )
    if figures is not None:
        from robustprune.tables.table_figures import draw_differences

        save_figure(draw_differences(read.name, found), figures)
    if as_json:
        terminal.print_json([vars(each) for each in found])
        return
    note = f" {_PICKED}" if criteria and read.draws_blocks else ""
    _show_differences(f"{read.name}: layer tickets less {REFERENCES[against]}", found, note)


def _show_differences(title: str, found: Sequence[TicketDifference], note: str) -> None:
    from robustprune.comparison.metric import write_difference, write_interval, write_value

    terminal.table(
        title,
        ["ticket", "metric", ">seeds", ">MACs", ">reference", ">ticket", ">difference", "verdict"],
        [
            [
                each.candidate,
                each.metric,
                each.n_seeds,
                terminal.percent(each.macs),
                write_value(each.reference, each.unit),
                write_value(each.value, each.unit),
                f"{write_difference(each.difference, each.unit)} {write_interval(each.interval, each.unit)}",
                each.verdict,
            ]
            for each in found
        ],
        "Differences with 95 % intervals over seeds and images; of AUROC, ECE, NLL and Brier score, over seeds only. "
        f"Verdicts as of `robustprune compare`, not corrected for the number of rows.{note}",
    )


_JUDGED = list_option(
    "--criterion",
    "criteria",
    required=True,
    metavar="NAME,…",
    help="Criteria to judge, see `robustprune list criteria`.",
)
_DRAWS = click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=1,
    help="Scorings per network, each on another random sample of images.",
)
_WITHIN = stack(
    list_option(
        "--budget",
        "budgets",
        metavar="COST<=NUMBER[%],…",
        help="Judge the tickets that searches find within these budgets, 'macs<=80%' of the dense network, instead.",
    ),
    list_option(
        "--search",
        "searches",
        metavar="NAME,…",
        help="With --budget: greedy (one-shot pruning), beam:width=8, evolution, exhaustive.  [default: greedy]",
    ),
)


@table.command(
    examples=[
        "resnet20/digits --criterion grasp",
        "resnet20/digits --criterion my_file.py:MyCriterion",
        "resnet20/digits --criterion grasp,snip --budget 'macs<=80%' --search greedy,beam",
    ],
)
@NAMED
@_JUDGED
@METRICS
@_DRAWS
@_WITHIN
@FIGURES_TO
@json_option
def rank(
    name: str,
    criteria: tuple[str, ...],
    metrics: tuple[str, ...],
    draws: int,
    budgets: tuple[str, ...],
    searches: tuple[str, ...],
    figures: str | None,
    as_json: bool,
) -> None:
    """Judge pruning criteria against a table of trained tickets: rank correlation, regret and percentile.

    TABLE is the name of one that comes with robustprune, or a Parquet file that `table build` wrote. The criterion
    scores the dense network of each seed at initialization; nothing is trained. Random choices have an expected
    τ of 0, a percentile of 50, and the regret in the column "regret of chance". With --budget, the rows called truth
    are of searches that go by the measured means of the metric itself: what they lose comes from the search alone.
    """
    from robustprune.runtime.work import Work
    from robustprune.tables.criterion_rank import rank_criterion
    from robustprune.tables.ticket_table import load_table

    if budgets:
        if figures is not None:
            raise click.UsageError("--figures draws ranks by size, and --budget asks for others; give one of the two")
        _rank_searches(name, criteria, budgets, searches or ("greedy",), metrics, draws, as_json)
        return
    if searches:
        raise click.UsageError("--search looks for tickets within a budget; add --budget 'macs<=80%', for example")

    read, ranks = load_table(name), []
    with terminal.progress_bar() as bar:
        for criterion in given_criteria(criteria):
            ranks += rank_criterion(read, criterion, given_names(metrics), draws=draws, work=Work(progress=bar))
    if figures is not None:
        from robustprune.tables.table_figures import draw_criteria

        save_figure(draw_criteria(read.name, ranks), figures)
    if as_json:
        terminal.print_json([each.to_dict() for each in ranks])
        return
    _show_ranks(read, ranks, given_names(metrics))


def _show_ranks(read: TicketTable, ranks: Sequence[CriterionRank], metrics: Sequence[str]) -> None:
    legend = f"{_RANK_LEGEND} {_PICKED} {_STANDING}" if read.draws_blocks else _RANK_LEGEND
    for metric in metrics:
        own = [each for each in ranks if each.metric == metric]
        terminal.table(
            f"{read.name}, {len(read.seeds)} seeds: {metric}",
            ["criterion", *(f">{text}" for text in _FIGURES.values())],
            [[each.criterion, *(_plus_minus(each.figures.get(name), name) for name in _FIGURES)] for each in own],
            legend if metric == metrics[-1] else "",
        )


def _rank_searches(
    name: str,
    criteria: Sequence[str],
    budgets: Sequence[str],
    searches: Sequence[str],
    metrics: Sequence[str],
    draws: int,
    as_json: bool,
) -> None:
    from robustprune.runtime.requests import as_list
    from robustprune.runtime.work import Work
    from robustprune.tables.search_rank import rank_searches
    from robustprune.tables.ticket_table import load_table

    read, ways, wanted = load_table(name), given_names(searches), given_names(metrics)
    with terminal.progress_bar() as bar:
        how: dict[str, Any] = {"metrics": wanted, "draws": draws, "work": Work(progress=bar)}
        found = rank_searches(read, given_criteria(criteria), as_list(budgets), ways, **how)
    if as_json:
        terminal.print_json([each.to_dict() for each in found])
        return
    for metric in wanted:
        terminal.table(
            f"{read.name}, {len(read.seeds)} seeds: {metric}",
            ["budget", "search", "by", ">tickets", *(f">{text}" for text in _SEARCH_FIGURES.values())],
            [
                [each.budget, each.search, each.criterion, each.tickets]
                + [_plus_minus(each.figures.get(figure), figure) for figure in _SEARCH_FIGURES]
                for each in found
                if each.metric == metric
            ],
            _SEARCH_LEGEND if metric == wanted[-1] else "",
        )


_SEARCH_FIGURES = {
    "regret": "regret",
    "regret_of_chance": "regret of chance",
    "percentile": "percentile",
    "cost": "cost, %",
}
_SEARCH_LEGEND = (
    "Means over seeds ± half of the 95 % interval. tickets: sets of blocks that keep within the budget. regret: the "
    "best of these less the one found, in pp (nll, brier: their own unit). by truth: the search goes by the means over "
    "seeds of the metric itself, and is judged by them."
)
_RANK_LEGEND = (
    "Means over seeds ± half of the 95 % interval. τ: Kendall's rank correlation of predicted and measured values. "
    "regret: the best ticket of the same size less the picked one, in pp (nll, brier: their own unit). percentile: "
    "share of the other tickets of that size that the picked one beats; within profile: of those with its profile."
)


@table.command(
    examples=["resnet20/digits --metric accuracy,pgd_linf_16_255 --criterion grasp,snip"],
)
@NAMED
@METRICS
@list_option(
    "--criterion",
    "criteria",
    metavar="NAME,…",
    help="Criteria whose ranks predict the metrics, all together.",
)
@json_option
def predict(name: str, metrics: tuple[str, ...], criteria: tuple[str, ...], as_json: bool) -> None:
    """Split the variance of a metric among tickets, and show how well accuracy and criteria predict it.

    The parts: depth profile (how many blocks each stage keeps), blocks (which ones), seed, and rest. Where a table
    draws other blocks for each seed, the rest holds what they decide.
    """
    from robustprune.runtime.work import Work
    from robustprune.tables.criterion_rank import score_networks
    from robustprune.tables.predictability import metric_agreement, predicted_ranks, variance_shares
    from robustprune.tables.ticket_table import load_table

    read = load_table(name)
    with terminal.progress_bar() as bar:
        scores = {each: score_networks(read, each, work=Work(progress=bar)) for each in given_criteria(criteria)}
    found = []
    for metric in given_names(metrics):
        agreement = None if metric == "accuracy" else metric_agreement(read, "accuracy", metric)
        predicted = predicted_ranks(read, metric, scores) if scores else None
        found.append((variance_shares(read, metric), {"tau_of_accuracy": agreement, "tau_of_criteria": predicted}))
    if as_json:
        plain = [(shares, {name: each and vars(each) for name, each in taus.items()}) for shares, taus in found]
        terminal.print_json([{**vars(shares), **taus} for shares, taus in plain])
        return
    rows = []
    for shares, taus in found:
        parts = [shares.profile, shares.blocks, shares.seed, shares.rest]
        written = ["–" if part is None else terminal.percent(part) for part in parts]
        rows.append(
            [shares.metric, *written, f"{shares.deviation:.4f}", *(write_mean(each, 2) for each in taus.values())]
        )
    terminal.table(
        f"Shares of the variance, {read.name}",
        ["metric", ">profile", ">blocks", ">seed", ">rest", ">deviation", ">τ of accuracy", ">τ of criteria"],
        rows,
        "Shares are of the variance among layer tickets. τ: Kendall's rank correlation with the metric, among tickets "
        f"of one seed and size.{' The drawn blocks are part of the rest.' * read.draws_blocks}",
    )


def _plus_minus(found: SeedMean | None, figure: str) -> str:
    if found is None:
        return "–"
    digits = 0 if figure.startswith("percentile") else 2
    # An end that is cut off at a bound, as of regrets at 0, is nearer than half of the interval.
    ends = () if found.low is None or found.high is None else (found.mean - found.low, found.high - found.mean)
    half = f" ± {max(ends):.{digits}f}" if ends else ""
    return f"{found.mean:.{digits}f}{half}".replace("-", "−")
