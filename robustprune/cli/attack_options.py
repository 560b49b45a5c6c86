"""Options and tables of attacks, a part of `robustprune evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.options import gathered, list_option, names_option
from robustprune.cli.paths import Naming, Target
from robustprune.errors import AttackError, EvaluationError
from robustprune.runtime.file_kinds import ADVERSARIAL, FileKind

if TYPE_CHECKING:
    from robustprune.attacks.requests import Attacks
    from robustprune.records import MedianDistance, Record


class StepSize(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A number above 0, or a fraction such as 2/255."""

    name = "float"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read it as attacks do."""
        from robustprune.attacks.requests import parse_step_size

        try:
            return parse_step_size(value)
        except AttackError as error:
            self.fail(str(error), param, ctx)


def _adversarial(out: Path, options: Mapping[str, Any]) -> list[tuple[Path, FileKind]]:
    """Return the files of several attacks or budgets, which go beside the one that is named."""
    from robustprune.attacks.requests import Attacks
    from robustprune.evaluation.attacks import adversarial_files
    from robustprune.runtime.requests import read_names

    attacks = ["union"] if options["union"] else list(dict.fromkeys(read_names(options["attacks"])))
    moved = [f"transfer:{name}" for name in attacks] if options["transfer_from"] else []
    budgets = Attacks(norm=options["norm"], **_epsilons(options["eps"])).epsilons
    files = adversarial_files(out, [(name, epsilon) for name in [*attacks, *moved] for epsilon in budgets])
    return [(file, ADVERSARIAL) for file in files if file != out]


def _epsilons(given: Sequence[str]) -> dict[str, Sequence[str]]:
    return {"epsilons": given} if given else {}


@dataclass(frozen=True)
class AttackOptions:
    """What a command line asks for of attacks: but for the network to transfer from, which is to be opened yet."""

    attacks: Attacks
    transfer_from: str | None
    strict: bool


_OF_ATTACKS = ("steps", "step_size", "queries")
_IDLE_ALONE = ("eps", "union", "transfer_from", "save_adversarial", "strict", "mitigate", *_OF_ATTACKS)
_SHARED = ("norm", "restarts", "eot", "union", "checks", "mitigate", "save_adversarial")


def _attacked(**given: Any) -> AttackOptions:
    """Return what the options ask for; refuse those that would come to nothing."""
    from robustprune.attacks.requests import Attacks

    idle = [f"--{name.replace('_', '-')}" for name in _IDLE_ALONE if given[name]]
    if idle and not given["attacks"]:
        raise click.UsageError(f"{idle[0]} is for attacks, and none is named; add one, such as --attack pgd")
    own = {name: given[name] for name in _OF_ATTACKS if given[name] is not None}
    shared = {name: given[name] for name in _SHARED}
    return AttackOptions(
        Attacks(given["attacks"], **_epsilons(given["eps"]), options=own, **shared),
        given["transfer_from"],
        given["strict"],
    )


ATTACKS_OPTION = names_option(
    "--attack", "attacks", help="Attacks with their options: pgd:steps=40,fgsm. See `robustprune list attacks`."
)
EPS_OPTION = list_option(
    "--eps",
    metavar="NUMBER,…",
    help="Budgets ε, for pixels in [0, 1]: 2/255,8/255. A sample broken at one ε counts as broken at all larger ones.  "
    "[default: 8/255 in linf, 0.5 in l2, 12 in l1, 24 in l0]",
)

attack_options = gathered(
    "attacked",
    _attacked,
    ATTACKS_OPTION,
    EPS_OPTION,
    click.option("--norm", type=click.Choice(["linf", "l2", "l1", "l0"]), default="linf", help="Norm of the budget."),
    click.option(
        "--steps",
        type=click.IntRange(min=1),
        help="Steps of iterative attacks that do not set their own.  [default: that of each attack; 20 for pgd]",
    ),
    click.option(
        "--step-size",
        type=StepSize(),
        help="Constant step size, e.g. 2/255.  [default for pgd: falling linearly from ε to 0]",
    ),
    click.option(
        "--queries", type=click.IntRange(min=1), help="Queries of square, also within autoattack.  [default: 5000]"
    ),
    click.option("--restarts", type=click.IntRange(min=1), default=1, help="Runs from different random starts."),
    click.option(
        "--eot",
        type=click.IntRange(min=1),
        default=1,
        help="Passes whose gradients are averaged in each step (expectation over transformation), for stochastic "
        "networks.",
    ),
    click.option(
        "--union",
        is_flag=True,
        help="Report the worst case: the share of images that no attack breaks, in place of one for each attack.",
    ),
    click.option(
        "--checks",
        type=click.Choice(["default", "full"]),
        default="default",
        help="full: also run checks that need further attacks (slower).",
    ),
    click.option(
        "--mitigate",
        is_flag=True,
        help="Where a check is in doubt, also attack as it suggests, and report the robust accuracy before and after.",
    ),
    click.option("--strict", is_flag=True, help="Exit with code 1 if a check fails."),
    click.option(
        "--transfer-from",
        type=Naming(plain=True),
        help="Network to make further adversarial images on; how many of them the model withstands is reported apart.",
    ),
    click.option(
        "--save-adversarial",
        type=Target(ADVERSARIAL, beside=_adversarial, dir_okay=False),
        help="Save the adversarial images to this npz file.",
    ),
    panel="Attacks",
)
"""For ``attacked: AttackOptions``."""


def accuracy_table(record: Record, out: str | None = None) -> None:
    """Draw accuracy without and with attacks, and at which ε half are broken; not where a check withholds it."""
    from robustprune.attacks import describe_optimality

    clean = record.clean
    rows = [["none", "", terminal.percent(clean.accuracy), terminal.interval_text(clean.interval), "", ""]]
    for entry in record.attacks:
        accuracy, interval = terminal.percent(entry.robust_accuracy), terminal.interval_text(entry.interval)
        doubts = [check for check in entry.checks if check.verdict in ("WARN", "FAIL")]
        rows.append(
            [
                entry.name + (f"-{entry.steps}" if entry.steps and "steps=" not in entry.name else ""),
                f"{entry.norm} {entry.epsilon:.4g}",
                *((accuracy, interval) if entry.valid else ("invalid", "")),
                terminal.seconds(entry.seconds),
                "; ".join(f"{check.verdict} {check.name}: {check.detail}" for check in doubts),
            ]
        )
    notes = [f"NLL {clean.nll:.4f}, ECE {clean.ece:.4f}, Brier {clean.brier:.4f}{f'; record in {out}' if out else ''}"]
    notes += [
        f"{entry.name} at {entry.epsilon:.4g}: {check.detail}"
        for entry in record.attacks
        for check in entry.checks
        if entry.sampled and entry.valid and check.name == "sampled"
    ]
    distances = {(each.name, each.norm): each.distance for each in record.attacks if each.distance and each.valid}
    notes += [f"{name} in {norm}: {_distance_text(each)}" for (name, norm), each in distances.items()]
    notes += describe_optimality(record.optimality)
    for curve in (each for each in record.curves if each.valid and (each.name, each.norm) not in distances):
        median = curve.median_minimal_epsilon
        where = "more than half withstand the largest ε" if median is None else f"half are broken at {median:.4g}"
        notes.append(f"{curve.name} in {curve.norm}: {where}")
    terminal.table(
        f"{record.model.architecture} on {record.n} {record.split} images of {record.dataset}",
        ["attack", "ε", ">accuracy", "95 % interval", ">time", "warnings"],
        rows,
        "\n".join(notes),
    )


def _distance_text(distance: MedianDistance) -> str:
    if distance.median is None:
        return "at least half were not broken at any distance"
    median = f"median distance {distance.median:.4g}"
    if distance.low is None:
        return median
    high = "∞" if distance.high is None else f"{distance.high:.4g}"
    return f"{median}, 95 % interval {distance.low:.4g} – {high}"


def refuse_invalid(records: Iterable[Record]) -> None:
    """Raise an error where a check withholds a figure."""
    failed = [
        f"{entry.name} at {entry.norm} {entry.epsilon:.4g}: {check.name}: {check.detail}"
        for record in records
        for entry in record.attacks
        for check in entry.checks
        if check.verdict == "FAIL"
    ]
    if failed:
        raise EvaluationError(f"{len(failed)} checks failed, so the figures are not to be cited: {'; '.join(failed)}")
