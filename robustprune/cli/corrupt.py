"""`robustprune corrupt`: corrupted images of a data set, as files or as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.corruption_options import frost_dir_option, frost_options
from robustprune.cli.options import (
    DataOptions,
    Setup,
    dataset_options,
    gathered,
    processor_options,
    split_option,
)
from robustprune.cli.paths import OUT_FOLDER, Target
from robustprune.runtime.kinds import PICTURE

if TYPE_CHECKING:
    from robustprune.corruptions import Corruptions
    from robustprune.data import Sample


@dataclass(frozen=True)
class _Output:
    """What is to be written: a set, or what is missing of it, and the gallery of one of its images."""

    out: str | None
    resume: bool
    gallery: str | None
    image: int


output_options = gathered(
    "output",
    _Output,
    click.option(
        "--out",
        type=OUT_FOLDER,
        help="Folder to write NAME.npy to, laid out as CIFAR-10-C.",
    ),
    click.option("--resume", is_flag=True, help="Write what is missing of a set that was interrupted."),
    click.option(
        "--gallery",
        type=Target(PICTURE, dir_okay=False),
        help="Picture of one image under every corruption: .png, .jpg or .webp.",
    ),
    click.option(
        "--image", type=click.IntRange(min=0), default=0, show_default=True, help="Which one, for the gallery."
    ),
)


@commands.command()
@dataset_options
@split_option
@click.option("--limit", type=click.IntRange(min=1), help="Corrupt a stratified sample of so many images.")
@click.option(
    "--corruption",
    "names",
    multiple=True,
    help="all (fifteen), extras (four) or a name; may be repeated.  [default: all and extras]",
)
@frost_dir_option
@output_options
@processor_options
def corrupt(
    dataset: DataOptions,
    split: str,
    limit: int | None,
    names: tuple[str, ...],
    frost_dir: str | None,
    output: _Output,
    setup: Setup,
    as_json: bool,
) -> None:
    """Write the corrupted images of a data set in the layout of CIFAR-10-C, or draw a gallery of one of them."""
    from robustprune.cli.workbench import open_data
    from robustprune.corruptions import Corruptions, expand_names
    from robustprune.data import take_sample

    if output.out is None and output.gallery is None:
        raise click.UsageError("name a folder with --out, a picture with --gallery, or both")
    setup.begin()
    chosen = expand_names(list(names) or ["all", "extras"])
    asked = Corruptions(names=tuple(chosen), options=frost_options(frost_dir, chosen))
    data = open_data(dataset, seed=setup.seed)
    sample = take_sample(data, split, limit, setup.seed)
    if output.image >= len(sample.labels):
        raise click.UsageError(f"--image {output.image}: there are {len(sample.labels)} images, counted from 0")
    found = {
        "dataset": data.name,
        "n": len(sample.labels),
        "corruptions": chosen,
        "written": _write(sample, asked, output, setup.seed),
        "out": output.out,
        "gallery": output.gallery,
    }
    if as_json:
        terminal.print_json(found)
    else:
        _say(found)


def _write(sample: Sample, asked: Corruptions, output: _Output, seed: int) -> list[str]:
    """Write what is wanted; return the corruptions that the set did not have before."""
    from robustprune.corruptions.corrupted_files import write_gallery, write_set

    images, labels, indices = sample
    if output.gallery is not None:
        sample_id = int(indices[output.image])
        write_gallery(images[output.image], output.gallery, asked, seed=seed, sample_id=sample_id)
    if output.out is None:
        return []
    with terminal.progress_bar() as bar:
        return write_set(
            images,
            labels,
            output.out,
            asked,
            seed=seed,
            sample_ids=indices,
            resume=output.resume,
            progress=bar,
        )


def _say(found: dict[str, Any]) -> None:
    if found["out"] is not None:
        cells = f"{len(found['written'])} of {len(found['corruptions'])} corruptions"
        terminal.say(f"{cells} of {found['n']} images written to {found['out']}")
    if found["gallery"] is not None:
        terminal.say(f"gallery in {found['gallery']}")
