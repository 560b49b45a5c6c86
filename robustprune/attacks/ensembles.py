"""Several attacks as one, each on what those before it left, cheapest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

# Functions, since the package calls one of its functions as it does the module.
from robustprune.attacks.apgd import TARGETS, cross_entropy_attack, targeted_attack
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.fab import attack as fab_attack
from robustprune.attacks.pgd import attack as pgd_attack
from robustprune.attacks.registry import AttackFunction, for_norms, in_two_phases, read_part
from robustprune.attacks.requests import at_least_one
from robustprune.attacks.square import attack as square_attack
from robustprune.errors import AttackError
from robustprune.registry import suggest

# Those of APGD and Square.
_NORMS = for_norms("linf", "l2", "l1")
_QUICK = "pgd-ce+pgd-margin"
RUNS_IN_L1, TARGETS_IN_L1 = 5, 5
_ALL = "apgd-ce+apgd-t+fab-t+square"
# Few samples withstand the three likeliest classes and are broken by another: those can wait for the second phase.
_FIRST, _SECOND = "apgd-ce+apgd-t[:3]", "apgd-t[3:]+fab-t+square"


@_NORMS
@in_two_phases(_FIRST, _SECOND)
def autoattack(
    problem: AttackProblem,
    *,
    steps: int = 100,
    queries: int = 5000,
    target_classes: int | None = None,
    attacks: str = _ALL,
    sample: int | Literal["all"] = "all",
) -> None:
    """Run the standard AutoAttack ensemble (Croce & Hein 2020, arXiv:2003.01690).

    APGD on cross-entropy, targeted APGD, targeted FAB and Square, with the hyper-parameters of its version
    "standard" as defaults: 100 steps, 9 target classes (fewer where there are fewer), 5000 queries, one run of each; in
    L1 (Croce & Hein 2021, arXiv:2103.01208) five runs of APGD on cross-entropy, and 5 target classes of targeted APGD.
    With ``sample``, APGD attacks all samples towards three classes only; the other classes, FAB and Square see so many
    of the survivors, drawn at random.
    """
    _run(problem, attacks, _parts(problem.norm, steps, queries, target_classes))


def quick(problem: AttackProblem) -> None:
    """Run ten steps of PGD on cross-entropy, then on the margin: an upper bound in seconds."""
    _run(problem, _QUICK, _parts(problem.norm))


@_NORMS
def medium(problem: AttackProblem) -> None:
    """Run `quick`, then APGD-CE and APGD-T: AutoAttack without FAB-T and Square."""
    _run(problem, f"{_QUICK}+apgd-ce+apgd-t", _parts(problem.norm))


@_NORMS
@in_two_phases(f"{_QUICK}+{_FIRST}", _SECOND)
def strong(
    problem: AttackProblem,
    *,
    attacks: str = f"{_QUICK}+{_ALL}",
    sample: int | Literal["all", "auto"] = "auto",
) -> None:
    """Run `quick`, then `autoattack`; in two phases where there are more than 1,000 samples."""
    _run(problem, attacks, _parts(problem.norm))


_Parts = Mapping[str, tuple[AttackFunction, Mapping[str, Any]]]


def _parts(norm: str, steps: int = 100, queries: int = 5000, target_classes: int | None = None) -> _Parts:
    targets = {} if target_classes is None else {"target_classes": target_classes}
    of_apgd = targets or ({"target_classes": TARGETS_IN_L1} if norm == "l1" else {})
    runs = {"runs": RUNS_IN_L1} if norm == "l1" else {}
    return {
        "pgd-ce": (pgd_attack, {"steps": 10, "loss": "ce"}),
        "pgd-margin": (pgd_attack, {"steps": 10, "loss": "margin"}),
        "apgd-ce": (_several_ascents if runs else cross_entropy_attack, {"steps": steps, **runs}),
        "apgd-t": (targeted_attack, {"steps": steps, **of_apgd}),
        "fab-t": (fab_attack, {"steps": steps, **targets}),
        "square": (square_attack, {"queries": queries}),
    }


@_NORMS
def _several_ascents(problem: AttackProblem, *, steps: int, runs: int) -> None:
    for _ in range(runs):
        cross_entropy_attack(problem, steps=steps)


def _run(problem: AttackProblem, attacks: str, parts: _Parts) -> None:
    """Run the parts that are named, joined by ``+``, in the order given.

    ``apgd-t[3:]`` leaves out the first three of the classes that it aims at, ``apgd-t[:3]`` all others.
    """
    if not isinstance(attacks, str):
        raise AttackError(f"attacks must be names of parts joined by a plus, got {attacks!r}")
    asked = [read_part(text) for text in attacks.split("+")]
    names = [name for name, _, _ in asked]
    for name, first, last in asked:
        if name not in parts:
            raise AttackError(f"no part {name!r}.{suggest(name, parts)} Known: {'+'.join(parts)}.")
        if names.count(name) > 1:  # its second run would draw what the first drew
            raise AttackError(f"{name!r} is named twice in {attacks!r}; name each part once")
        if last is not None and last <= first:
            raise AttackError(f"'{name}[{first}:{last}]' aims at no class; [:3] are the three likeliest")
    for name, first, last in asked:
        attack, options = parts[name]
        if first or last is not None:
            most = at_least_one("target_classes", options.get("target_classes", TARGETS))
            options = {**options, "target_classes": most if last is None else min(most, last), "first_class": first}
        problem.run_stage(name, attack, **options)
