"""`robustprune power`: how many seeds, and how many images, a verdict takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.compare import CONFIDENCE_HELP, named_groups, read_tolerances, tolerance_option
from robustprune.cli.options import gathered, json_option, list_option, read_counts
from robustprune.cli.paths import OUT_FOLDER, Records
from robustprune.errors import ComparisonError

if TYPE_CHECKING:
    from robustprune.comparison.power import Needed, SeedPlan
    from robustprune.metrics.spreads import Spreads


_EXAMPLES = [
    "dense=d0.json,d1.json,d2.json layer=l0.json,l1.json,l2.json",
    "--seed-deviation 0.3 --discordance 5 --images 10000",
]


stated_options = gathered(
    "stated",
    dict,
    click.option(
        "--seed-deviation",
        type=click.FloatRange(0),
        help="Standard deviation over seeds of the true difference in accuracy, in pp; without the noise of a finite "
        "test "
        "set.",
    ),
    click.option(
        "--discordance",
        type=click.FloatRange(0, 100),
        help="Share of test images on which one network of a pair is right and the other wrong, in %.",
    ),
    click.option(
        "--consistent",
        type=click.FloatRange(0, 100),
        default=0.0,
        help="Share of test images on which the same network of the pair is right for every seed, in %; part of "
        "--discordance.",
    ),
    panel="Without a pilot",
)


@commands.command(examples=_EXAMPLES)
@click.argument("groups", nargs=-1, type=Records(), metavar="[dense=RECORDS NAME=RECORDS …]")
@click.option("--against", default="dense", help="Name of the reference that all others are compared with.")
@click.option("--metric", default="accuracy", help="Metric, kind or group of metrics to plan for.")
@stated_options
@list_option("--images", metavar="NUMBER,…", help="Numbers of test images to tabulate.  [default: the pilot's]")
@list_option("--seeds", metavar="NUMBER,…", help="Numbers of seeds to tabulate.  [default: 3 to 50]")
@click.option("--difference", type=float, default=0.0, help="Assumed true difference, candidate less reference, in pp.")
@tolerance_option
@click.option("--confidence", type=click.FloatRange(0.5, 1, max_open=True), default=0.95, help=CONFIDENCE_HELP)
@click.option(
    "--power",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.8,
    help="Chance to aim for that the verdict is reached (statistical power).",
)
@click.option("--figures", type=OUT_FOLDER, help="Folder for the power curves as PDF, SVG and PNG.")
@json_option
def power(
    groups: tuple[str, ...],
    against: str,
    metric: str,
    tolerance: tuple[str, ...],
    figures: str | None,
    stated: dict[str, Any],
    as_json: bool,
    **asked: Any,
) -> None:
    """Compute how many seeds and test images `compare` needs for a verdict such as "no worse" or "equivalent".

    RECORDS are those of a pilot with three seeds or more, as for `compare`. Without a pilot, state how much differences
    in accuracy vary: `power --seed-deviation 0.3 --discordance 5 --images 10000`.
    """
    from robustprune.comparison.power import SEEDS, plan_seeds

    counts = {name: read_counts(f"--{name}", asked[name]) for name in ("images", "seeds")}
    how = {**asked, **counts, "seeds": counts["seeds"] or SEEDS}
    if groups:
        if stated["seed_deviation"] is not None or stated["discordance"] is not None or stated["consistent"]:
            raise click.UsageError("give the records of a pilot, or --seed-deviation and --discordance, not both")
        plans = _of_pilot(groups, against, metric, read_tolerances(tolerance), how)
    else:
        margin = read_tolerances(tolerance)["accuracy"]
        if isinstance(margin, str):
            raise click.UsageError("--tolerance std takes the records of a pilot; give percentage points")
        plans = [plan_seeds(_stated(stated, how["images"]), tolerance=margin, **how)]
    if figures is not None:
        _write_figures(plans, figures)
    if as_json:
        terminal.print_json({"plans": [plan.to_dict() for plan in plans]})
        return
    for plan in plans:
        _draw(plan)


def _stated(given: dict[str, Any], images: Sequence[int]) -> Spreads:
    from robustprune.metrics.spreads import Spreads

    if given["seed_deviation"] is None or given["discordance"] is None or not images:
        raise click.UsageError(
            "name the records of a pilot, dense=RECORDS layer=RECORDS, or say all three of --seed-deviation, "
            "--discordance and --images"
        )
    return Spreads.stated(**given, n_images=images[0])


def _of_pilot(
    groups: Sequence[str], against: str, metric: str, tolerances: dict[str, float | str], how: dict[str, Any]
) -> list[SeedPlan]:
    """Return a plan for each candidate and metric of a pilot."""
    from robustprune.comparison import compare
    from robustprune.comparison.power import plan_seeds
    from robustprune.runtime.work import Work

    named = named_groups(groups, against)
    with terminal.progress_bar() as bar:
        found = compare(
            named.pop("dense", None),
            named,
            against=against,
            tolerance=tolerances,
            confidence=how["confidence"],
            metrics=[metric],
            work=Work(progress=bar),
        )
    rows = [row for row in found.rows if row.group != "cost"]
    if not rows:
        raise ComparisonError(f"{metric} is a cost, which has no verdict; name another --metric")
    return [plan_seeds(row, **how) for row in rows]


def _write_figures(plans: Sequence[SeedPlan], folder: str) -> None:
    from robustprune.report.figures.drawing import save_figures, slug
    from robustprune.report.figures.seed_plan import draw_seed_plan

    names = ["seeds" if len(plans) == 1 else f"seeds-{n}-{slug(plan.name)}" for n, plan in enumerate(plans, start=1)]
    save_figures(map(draw_seed_plan, plans, names), folder)


def _draw(plan: SeedPlan) -> None:
    """Print what a plan says: in sentences, then a table for each verdict."""
    terminal.paragraph(_sentence(plan))
    for verdict in plan.verdicts:
        rows = []
        for count in dict.fromkeys(each.n_seeds for each in plan.chances):
            own = [each for each in plan.chances if (each.verdict, each.n_seeds) == (verdict, count)]
            enough = own[0].images_needed
            cells = [terminal.percent(each.chance) for each in own]
            rows.append([count, *cells, "none are enough" if enough is None else f"{enough:,}"])
        columns = [">seeds", *(f">{n:,} images" for n in plan.images), f">images for {100 * plan.power:g} %"]
        terminal.table(f"Chance of “{verdict}”", columns, rows)
    terminal.paragraph(_on_spreads(plan))


def _sentence(plan: SeedPlan) -> str:
    from robustprune.comparison.verdict import write_margin

    difference, margin = f"{plan.difference:g} {plan.unit}".rstrip(), write_margin(plan.tolerance, plan.unit)
    said = []
    for verdict in plan.verdicts:
        own = [each for each in plan.needed if each.verdict == verdict]
        said.append(f"“{verdict}” takes {', '.join(f'{_seeds(each)} on {each.n_images:,} images' for each in own)}")
    text = (
        f"{plan.name}: for a chance of {100 * plan.power:g} % at a true difference of {difference}, {'; '.join(said)}. "
        f"ξ is {margin}, the confidence {100 * plan.confidence:g} %."
    )
    return text[0].upper() + text[1:]


def _seeds(needed: Needed) -> str:
    from robustprune.comparison.power import MOST_SEEDS

    least, most = (
        f"more than {MOST_SEEDS}" if count is None else str(count) for count in (needed.n_seeds, needed.n_seeds_at_most)
    )
    return f"{least} seeds" + (f" ({most} at the pilot's upper bound)" if least != most else "")


def _on_spreads(plan: SeedPlan) -> str:
    """Return what the plan supposes of how differences vary."""
    spreads, unit = plan.spreads, plan.unit
    seeds = " and ".join(f"{each:.2g}" for each in spreads.seeds)
    both = " and ".join(f"{each:.2g}" for each in spreads.both)
    text = (
        f"Standard deviations of the difference, in {unit or 'its unit'}: {seeds} over seeds; on {spreads.n_images:,} "
        f"images {both} by image and seed, and {spreads.images:.2g} by images that seeds agree on."
    )
    if spreads.n_seeds:
        bound = " and ".join(f"{each:.2g}" for each in spreads.at_most().seeds)
        text += (
            f" From a pilot of {min(spreads.n_seeds)} seeds the first is uncertain: it may be up to {bound} (upper "
            "bound of 80 %)."
        )
    return text
