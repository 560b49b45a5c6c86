"""`robustprune corrupt`; and options and tables of corruptions and shifted sets, a part of `robustprune evaluate`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    Setup,
    dataset_options,
    gathered,
    list_option,
    names_option,
    processor_options,
    resume_option,
    split_option,
    stack,
)
from robustprune.cli.paths import OUT_FOLDER, Naming, Source, Target
from robustprune.errors import EvaluationError
from robustprune.runtime.file_kinds import PICTURE

if TYPE_CHECKING:
    from robustprune.corruptions.corruption_result import CorruptionResult
    from robustprune.corruptions.requests import Corruptions
    from robustprune.evaluation.requests import Shift
    from robustprune.records import Record

_NOTHING = "–"


def _corruptions(names: tuple[str, ...], corruption_dir: str | None = None) -> Corruptions:
    """Return what is asked for of corrupted images."""
    from robustprune.corruptions.requests import Corruptions

    return Corruptions(names, published=corruption_dir)


def _shift(shift: tuple[str, ...]) -> Shift:
    """Return the shifted sets that are asked for, each as ``NAME=PLACE``."""
    from robustprune.evaluation.requests import Shift

    found: dict[str, str] = {}
    for text in (each.strip() for given in shift for each in re.split(",(?=[^,=]*=)", given)):
        name, equals, place = text.partition("=")
        if not (name and equals and place):
            raise EvaluationError(f"a shifted set is named as NAME=npz:FILE or NAME=imagefolder:DIR, got {text!r}")
        if name in found:
            raise EvaluationError(f"two shifted sets are named {name!r}; give each its own name")
        found[name] = place
    return Shift(found)


_HELP = (
    "all (the fifteen of CIFAR-10-C that mCE counts), extras (its four further ones), or names with their options: "
    "fog,frost:folder=PICTURES. See `robustprune list corruptions`."
)
_PANEL = "Corruptions and shifted sets"

corruption_options = stack(
    gathered(
        "corruptions",
        _corruptions,
        names_option("--corruption", "names", help=_HELP),
        click.option(
            "--corruption-dir",
            type=Source(whole=True),
            help="Folder of a published set to read instead: CIFAR-10-C, CIFAR-100-C, ImageNet-C or the like.",
        ),
        panel=_PANEL,
    ),
    gathered(
        "shift",
        _shift,
        list_option(
            "--shift",
            type=Naming(),
            metavar="NAME=PLACE,…",
            help="Images of the same classes from elsewhere: cifar10.2=PATH, NAME=npz:FILE or NAME=imagefolder:DIR.",
        ),
        panel=_PANEL,
    ),
)
"""For ``corruptions: Corruptions`` and ``shift: Shift``."""


def corruption_tables(record: Record) -> None:
    """Draw the table by corruption and severity, what it comes to, and one of shifted sets."""
    found = record.corruptions
    if found is not None:
        rows = [_row(found, name) for name in found.table]
        means = {entry.severity: entry for entry in found.by_severity}
        for label, figure in (("accuracy", "accuracy"), ("NLL", "nll"), ("ECE", "ece"), ("Brier", "brier")):
            values = [getattr(means.get(severity), figure, None) for severity in range(1, 6)]
            written = terminal.percent if figure == "accuracy" else "{:.3f}".format
            rows.append([f"mean {label}", *(_NOTHING if value is None else written(value) for value in values), ""])
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
                    terminal.interval_text(each.interval),
                    f"{100 * each.gap:.1f}",
                ]
                for each in record.shift
            ],
        )


def _row(found: CorruptionResult, name: str) -> list[str]:
    """Return the accuracies under a corruption and their mean, of the severities that change an image."""
    counted = {severity: found.table[name][severity - 1] for _, severity in found.counted([name])}
    cells = [terminal.percent(counted[severity]) if severity in counted else _NOTHING for severity in range(1, 6)]
    return [name, *cells, terminal.percent(sum(counted.values()) / len(counted)) if counted else _NOTHING]


def _remarks(found: CorruptionResult) -> list[str]:
    def listed(cells: dict[str, list[int]]) -> str:
        """Return corruptions with severities as text: ``saturate, zoom_blur 1``."""
        return ", ".join(name if len(own) == 5 else f"{name} {' '.join(map(str, own))}" for name, own in cells.items())

    errors = {
        "mean error of the 15": found.mean_error,
        "of all 19": found.mean_error_19,
        "of these": found.mean_error_evaluated if found.mean_error is None else None,
    }
    remarks = [f"{label} {terminal.percent(value)}" for label, value in errors.items() if value is not None]
    cells = found.counted(found.table)
    if found.consistency is not None and cells:
        same = sum(found.consistency[name][severity - 1] for name, severity in cells) / len(cells)
        remarks.append(f"same prediction as without: {terminal.percent(same)}")
    if found.dense is not None:
        for label, ratio in (("errors", found.dense.mce_vs_dense), ("losses", found.dense.relative_mce_vs_dense)):
            remarks.append(f"{label} relative to {found.dense.path}: {_NOTHING if ratio is None else f'{ratio:.3f}'}")
    if found.scale is not None and found.scale != 1:
        remarks.append(f"lengths × {found.scale:.3g}")
    others = [name for name, is_published in found.published.items() if is_published is False]
    said = {
        "changes no image, left out of the means": listed(found.unchanged),
        "the same images as at a lower severity": listed(found.repeated),
        "not in the set": ", ".join(found.missing),
        "other files than the published ones": ", ".join(others),
    }
    return remarks + [f"{label}: {text}" for label, text in said.items() if text]


_made_options = gathered(
    "asked",
    _corruptions,
    names_option("--corruption", "names", default=("all,extras",), help=_HELP),
    panel="Corruptions",
)


_EXAMPLES = [
    "--dataset photo-patches --gallery corruptions.jpg",
]


@commands.command(examples=_EXAMPLES)
@dataset_options
@split_option
@click.option("--limit", type=click.IntRange(min=1), help="Corrupt a stratified sample of this many images.")
@_made_options
@click.option("--out", type=OUT_FOLDER, help="Folder for NAME.npy of each corruption, and labels.npy.")
@resume_option
@click.option(
    "--gallery",
    type=Target(PICTURE, dir_okay=False),
    help="Draw one image under every corruption: .png, .jpg or .webp.",
)
@click.option("--image", type=click.IntRange(min=0), default=0, help="Number of the image in the gallery, from 0.")
@processor_options
def corrupt(
    dataset: DataOptions,
    split: str,
    limit: int | None,
    asked: Corruptions,
    out: str | None,
    resume: bool,
    gallery: str | None,
    image: int,
    setup: Setup,
    as_json: bool,
) -> None:
    """Write corrupted images in the layout of CIFAR-10-C, or draw a gallery of one image."""
    from robustprune.cli.workbench import open_data
    from robustprune.corruptions import expand_names
    from robustprune.corruptions.corrupted_files import write_gallery, write_set
    from robustprune.data import take_sample

    if out is None and gallery is None:
        raise click.UsageError("name a folder with --out, a picture with --gallery, or both")
    setup.begin()
    seed, data = setup.seed, open_data(dataset, seed=setup.seed)
    images, labels, indices = take_sample(data, split, limit, seed)
    if image >= len(labels):
        raise click.UsageError(f"--image {image}: there are {len(labels)} images, counted from 0")
    written: list[str] = []
    with terminal.progress_bar() as bar:
        if gallery is not None:
            keyed = {"seed": seed, "sample_id": int(indices[image])}
            write_gallery(images[image], gallery, asked, progress=bar, **keyed)
        if out is not None:
            written = write_set(images, labels, out, asked, seed=seed, sample_ids=indices, resume=resume, progress=bar)
    names = expand_names(list(asked.names))
    if as_json:
        found = {"dataset": data.name, "n": len(labels), "corruptions": names, "written": written}
        terminal.print_json({**found, "out": out, "gallery": gallery})
        return
    if out is not None:
        cells = f"{len(written)} of {len(names)} corruptions"
        terminal.say(f"{cells} of {len(labels)} images written to {out}")
    if gallery is not None:
        terminal.say(f"gallery in {gallery}")
