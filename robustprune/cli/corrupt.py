"""`robustprune corrupt`: corrupted images of a data set, as files or as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def _asked(names: tuple[str, ...], frost_dir: str | None) -> Corruptions:
    from robustprune.corruptions import Corruptions, expand_names

    chosen = expand_names(list(names) or ["all", "extras"])
    return Corruptions(names=tuple(chosen), options=frost_options(frost_dir, chosen))


corruption_options = gathered(
    "asked",
    _asked,
    click.option(
        "--corruption",
        "names",
        multiple=True,
        help="all (fifteen), extras (four) or a name; may be repeated.  [default: all and extras]",
    ),
    frost_dir_option,
)


@commands.command()
@dataset_options
@split_option
@click.option("--limit", type=click.IntRange(min=1), help="Corrupt a stratified sample of so many images.")
@corruption_options
@click.option("--out", type=OUT_FOLDER, help="Folder to write NAME.npy to, laid out as CIFAR-10-C.")
@click.option("--resume", is_flag=True, help="Write what is missing of a set that was interrupted.")
@click.option(
    "--gallery",
    type=Target(PICTURE, dir_okay=False),
    help="Picture of one image under every corruption: .png, .jpg or .webp.",
)
@click.option("--image", type=click.IntRange(min=0), default=0, show_default=True, help="Which one, for the gallery.")
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
    """Write the corrupted images of a data set in the layout of CIFAR-10-C, or draw a gallery of one of them."""
    from robustprune.cli.workbench import open_data
    from robustprune.corruptions.corrupted_set import write_set
    from robustprune.corruptions.corruption_gallery import write_gallery
    from robustprune.data import take_sample

    if out is None and gallery is None:
        raise click.UsageError("name a folder with --out, a picture with --gallery, or both")
    setup.begin()
    seed, data = setup.seed, open_data(dataset, seed=setup.seed)
    images, labels, indices = take_sample(data, split, limit, seed)
    if image >= len(labels):
        raise click.UsageError(f"--image {image}: there are {len(labels)} images, counted from 0")
    if gallery is not None:
        write_gallery(images[image], gallery, asked, seed=seed, sample_id=int(indices[image]))
    written: list[str] = []
    if out is not None:
        with terminal.progress_bar() as bar:
            written = write_set(images, labels, out, asked, seed=seed, sample_ids=indices, resume=resume, progress=bar)
    if as_json:
        names = list(asked.names)
        found = {"dataset": data.name, "n": len(labels), "corruptions": names, "written": written}
        terminal.print_json({**found, "out": out, "gallery": gallery})
        return
    if out is not None:
        cells = f"{len(written)} of {len(asked.names)} corruptions"
        terminal.say(f"{cells} of {len(labels)} images written to {out}")
    if gallery is not None:
        terminal.say(f"gallery in {gallery}")
