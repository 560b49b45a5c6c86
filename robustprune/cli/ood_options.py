"""Options and tables of out-of-distribution detection, a part of `robustprune evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.options import gathered, names_option
from robustprune.cli.paths import OUT_FOLDER, Naming

if TYPE_CHECKING:
    from robustprune.ood.ood_result import AttackedDetector, DetectorEntry
    from robustprune.ood.requests import OOD
    from robustprune.records import Record


def _ood(ood: tuple[str, ...], **options: Any) -> OOD:
    """Return what is asked for of detection."""
    from robustprune.ood.requests import OOD

    named = {
        "detectors": options["detectors"],
        "attack_epsilons": options["ood_attack"],
        "fit_limit": options["ood_fit_limit"],
        "full_spectrum": options["full_spectrum"],
        "tune_on": options["ood_validation"],
        "cache": options["feature_cache"],
    }
    given = {name: value for name, value in named.items() if value}
    if not ood:
        if given:
            raise click.UsageError("detectors need an out-of-distribution set to be tried on; name one with --ood")
        return OOD()
    return OOD(ood, **given)


ood_options = gathered(
    "ood",
    _ood,
    names_option(
        "--ood",
        help="Out-of-distribution sets, or groups of them: near, far, sanity. corrupted takes the evaluated images "
        "under "
        "all corruptions, corrupted:corruption=fog+snow,severity=5 under these.",
    ),
    names_option(
        "--detector",
        "detectors",
        help="Detectors with their options: energy,knn:k=50. See `robustprune list detectors`.  [default: all]",
    ),
    click.option(
        "--ood-attack",
        multiple=True,
        metavar="NUMBER,…",
        is_flag=False,
        flag_value="1/255",
        help="Also attack the detectors by PGD on their scores, at these L∞ budgets.  [1/255 without a value]",
    ),
    click.option(
        "--ood-fit-limit",
        type=click.IntRange(min=1),
        help="Fit detectors on at most this many training images.  [default: 50,000]",
    ),
    click.option(
        "--full-spectrum",
        is_flag=True,
        help="Also report all metrics with corrupted images as in-distribution (OpenOOD's full-spectrum detection).",
    ),
    click.option(
        "--ood-validation", type=Naming(), help="Out-of-distribution set to tune detectors on, with validation images."
    ),
    click.option("--feature-cache", type=OUT_FOLDER, help="Folder to cache logits and features in."),
    panel="Out-of-distribution detection",
)
"""For ``ood: OOD``."""


_HEADINGS = ("detector", ">AUROC", "95 % interval", ">AUPR in", ">AUPR out", ">FPR95 ood+", ">FPR95 id+", "remarks")


def ood_tables(record: Record) -> None:
    """Draw a table per out-of-distribution set, and one of the attacks on detectors."""
    for entry in record.ood:
        converted = [
            f"{what} {entry.conversions[f'{what}_from']} → {entry.conversions[f'{what}_to']}"
            for what in ("channels", "resized")
            if entry.conversions.get(f"{what}_from") != entry.conversions.get(f"{what}_to")
        ]
        terminal.table(
            f"{entry.n_out} images of {entry.dataset} ({entry.group}) against {entry.n_in} of {record.dataset}",
            _HEADINGS,
            [_row(name, found) for name, found in entry.detectors.items()],
            "; ".join(converted),
        )
        if entry.full_spectrum:
            title = f"{entry.dataset}, corrupted images counted as in-distribution"
            terminal.table(title, _HEADINGS, [_row(name, found) for name, found in entry.full_spectrum.items()])
        for attacked in entry.attacks:
            terminal.table(
                f"AUROC with scores attacked at ε = {attacked.epsilon:.4g}: {attacked.n_in} images of its own, "
                f"{attacked.n_out} of {entry.dataset}",
                ("detector", ">clean", ">own attacked", ">other attacked", ">both", "remarks"),
                [_attacked_row(name, found) for name, found in attacked.detectors.items()],
            )
    for name, reason in record.ood_summary.missing.items() if record.ood_summary else ():
        terminal.say(f"left out: {name}: {reason}")


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _row(name: str, found: DetectorEntry) -> list[str]:
    interval = " – ".join(map(_figure, found.intervals.get("auroc", ())))
    figures = (found.aupr_in, found.aupr_out, found.fpr95_ood_positive, found.fpr95_id_positive)
    return [name, _figure(found.auroc), interval, *map(_figure, figures), found.reason or ""]


def _attacked_row(name: str, found: AttackedDetector) -> list[str]:
    figures = (found.auroc_in_attacked, found.auroc_out_attacked, found.auroc_both_attacked)
    attacked = list(map(_figure, figures)) if found.valid else ["invalid"] * 3
    doubts = [f"{each['verdict']} {each['name']}" for each in found.checks if each["verdict"] in ("FAIL", "WARN")]
    return [name, _figure(found.auroc_clean), *attacked, found.reason or "; ".join(doubts)]
