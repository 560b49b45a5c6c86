"""Options and tables of out-of-distribution detection, a part of `robustprune evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.options import gathered
from robustprune.cli.paths import OUT_FOLDER, Naming

if TYPE_CHECKING:
    from robustprune.ood.ood_result import DetectorEntry, OodEntry
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
        "tune_on": options["ood_tune"],
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
    click.option(
        "--ood",
        type=Naming(),
        multiple=True,
        help="Out-of-distribution set; near, far, sanity for groups; corrupted[:NAME,SEVERITY]. May be repeated.",
    ),
    click.option(
        "--detector",
        "detectors",
        multiple=True,
        help="See `robustprune list detectors`; may be repeated.  [default: all]",
    ),
    click.option(
        "--ood-attack",
        is_flag=False,
        flag_value="1/255",
        help="Attack the detectors, too, at these budgets.  [1/255 without a value]",
    ),
    click.option("--ood-fit-limit", type=click.IntRange(min=1), help="Fit detectors on so many training images."),
    click.option("--full-spectrum", is_flag=True, help="Count corrupted images as in-distribution, too."),
    click.option("--ood-tune", type=Naming(), help="Set to choose options of detectors on, against validation images."),
    click.option("--feature-cache", type=OUT_FOLDER, help="Folder to keep logits and features in."),
)
"""For ``ood: OOD``."""


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
            ["detector", ">AUROC", "95 % interval", ">AUPR in", ">AUPR out", ">FPR95 ood+", ">FPR95 id+", "remarks"],
            [_row(name, found) for name, found in entry.detectors.items()],
            "; ".join(converted),
        )
        _full_spectrum_table(entry)
        _attack_table(entry)
    for name, reason in record.ood_summary.missing.items() if record.ood_summary else ():
        terminal.say(f"left out: {name}: {reason}")


def _row(name: str, found: DetectorEntry) -> list[str]:
    if found.auroc is None:
        return [name, "–", "", "–", "–", "–", "–", found.reason or ""]
    low, high = found.intervals.get("auroc", (None, None))
    return [
        name,
        f"{found.auroc:.4f}",
        "" if low is None else f"{low:.4f} – {high:.4f}",
        f"{found.aupr_in:.4f}",
        f"{found.aupr_out:.4f}",
        f"{found.fpr95_ood_positive:.4f}",
        f"{found.fpr95_id_positive:.4f}",
        found.reason or "",
    ]


def _full_spectrum_table(entry: OodEntry) -> None:
    if entry.full_spectrum:
        terminal.table(
            f"{entry.dataset}, corrupted images counted as in-distribution",
            ["detector", ">AUROC", "95 % interval", ">AUPR in", ">AUPR out", ">FPR95 ood+", ">FPR95 id+", "remarks"],
            [_row(name, found) for name, found in entry.full_spectrum.items()],
        )


def _attack_table(entry: OodEntry) -> None:
    for attacked in entry.attacks:
        rows = []
        for name, found in attacked.detectors.items():
            figures = (
                found.auroc_clean,
                found.auroc_in_attacked,
                found.auroc_out_attacked,
                found.auroc_both_attacked,
            )
            doubts = [
                f"{each['verdict']} {each['name']}" for each in found.checks if each["verdict"] in ("FAIL", "WARN")
            ]
            cells = ["–" if figure is None else f"{figure:.4f}" for figure in figures]
            if not found.valid:
                cells[1:] = ["invalid"] * 3
            rows.append([name, *cells, found.reason or "; ".join(doubts)])
        terminal.table(
            f"AUROC with scores attacked at ε = {attacked.epsilon:.4g}: {attacked.n_in} images of its own, "
            f"{attacked.n_out} of {entry.dataset}",
            ["detector", ">clean", ">own attacked", ">other attacked", ">both", "remarks"],
            rows,
        )
