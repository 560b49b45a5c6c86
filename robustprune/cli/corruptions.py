"""Options and tables of corruptions and shifted sets, a part of `robustprune evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune import terminal
from robustprune.cli.options import stack
from robustprune.cli.paths import Naming, Source
from robustprune.cli.tables import interval_text

if TYPE_CHECKING:
    from robustprune.corruptions.result import CorruptionResult
    from robustprune.records import Record

frost_dir_option = click.option(
    "--frost-dir", type=Source(whole=True), help="Pictures of frost, in place of ones made by a formula."
)

corruption_options = stack(
    click.option(
        "--corruption",
        "corruptions",
        multiple=True,
        help="all (fifteen), extras (four) or a name, see `robustprune list corruptions`; may be repeated.",
    ),
    click.option(
        "--corruption-dir",
        type=Source(whole=True),
        help="Published set to read them from: CIFAR-10-C, CIFAR-100-C, ImageNet-C or the like.",
    ),
    frost_dir_option,
    click.option(
        "--shift",
        type=Naming(),
        multiple=True,
        help="The same classes from elsewhere: cifar10.2=PATH, NAME=npz:FILE or NAME=imagefolder:DIR; may be repeated.",
    ),
)


def take_corruption_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options above out of a command's arguments; return what an evaluation takes."""
    from robustprune.evaluation.shift import parse_shifts

    names, folder, frost = (options.pop(name) for name in ("corruptions", "corruption_dir", "frost_dir"))
    if frost and folder:
        raise click.UsageError("--frost-dir is for making frost, and with --corruption-dir it is read; leave out one")
    return {
        "corruptions": names,
        "corruption_dir": folder,
        "corruption_options": frost_options(frost, names),
        "shift": parse_shifts(options.pop("shift")),
    }


def frost_options(folder: str | None, names: Sequence[str]) -> dict[str, Any]:
    """Return the options of corruptions that ``--frost-dir`` stands for."""
    from robustprune.corruptions import expand_names

    if folder is None:
        return {}
    if "frost" not in expand_names(list(names)):
        raise click.UsageError("--frost-dir is for frost, which is not among the corruptions; add --corruption frost")
    return {"folder": Path(folder).absolute()}


def corruption_tables(record: Record) -> None:
    """Draw the table by corruption and severity, what it comes to, and one of shifted sets."""
    found = record.corruptions
    if found is not None:
        rows = [
            [name, *map(terminal.percent, row), terminal.percent(sum(row) / len(row))]
            for name, row in found.table.items()
        ]
        means = found.by_severity
        rows.append(["mean accuracy", *(terminal.percent(entry.accuracy) for entry in means), ""])
        rows.append(["mean NLL", *(f"{entry.nll:.3f}" for entry in means), ""])
        rows.append(["mean ECE", *(f"{entry.ece:.3f}" for entry in means), ""])
        rows.append(["mean Brier", *(f"{entry.brier:.3f}" for entry in means), ""])
        terminal.table(
            f"Accuracy of {record.model.architecture} on {found.n} images of {found.source}, by severity",
            ["corruption", ">1", ">2", ">3", ">4", ">5", ">mean"],
            rows,
            "; ".join(_remarks(found)),
        )
    if record.shift:
        terminal.table(
            "Shifted sets",
            ["set", ">images", ">accuracy", "95 % interval", ">gap to the images evaluated, pp"],
            [
                [
                    each.name,
                    each.n,
                    terminal.percent(each.accuracy),
                    interval_text(each.interval),
                    f"{100 * each.gap:.1f}",
                ]
                for each in record.shift
            ],
        )


def _remarks(found: CorruptionResult) -> list[str]:
    remarks = []
    for label, value in (
        ("mean error of the 15", found.mean_error),
        ("of all 19", found.mean_error_19),
        ("of these", found.mean_error_evaluated if found.mean_error is None else None),
    ):
        if value is not None:
            remarks.append(f"{label} {terminal.percent(value)}")
    if found.consistency is not None:
        rows = list(found.consistency.values())
        remarks.append(f"same prediction as without: {terminal.percent(sum(map(sum, rows)) / sum(map(len, rows)))}")
    if found.dense is not None:
        for label, ratio in (("errors", found.dense.mce_vs_dense), ("losses", found.dense.relative_mce_vs_dense)):
            remarks.append(f"{label} relative to {found.dense.path}: {'–' if ratio is None else f'{ratio:.3f}'}")
    if found.scale is not None and found.scale != 1:
        remarks.append(f"lengths × {found.scale:.3g}")
    if found.missing:
        remarks.append(f"not in the set: {', '.join(found.missing)}")
    foreign = [name for name, is_published in found.published.items() if is_published is False]
    if foreign:
        remarks.append(f"other files than the published ones: {', '.join(foreign)}")
    return remarks
