"""`robustprune corrupt`: corrupted images of a data set, as files or as a picture."""

from __future__ import annotations

from typing import Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.corruption_options import frost_dir_option, frost_options
from robustprune.cli.options import (
    data_options,
    processor_options,
    split_option,
    stack,
    take_data_options,
)
from robustprune.cli.paths import OUT_FOLDER, Target
from robustprune.runtime.kinds import PICTURE

corrupt_options = stack(
    split_option,
    click.option("--limit", type=click.IntRange(min=1), help="Corrupt a stratified sample of so many images."),
    click.option(
        "--corruption",
        "names",
        multiple=True,
        help="all (fifteen), extras (four) or a name; may be repeated.  [default: all and extras]",
    ),
    frost_dir_option,
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
@data_options
@corrupt_options
@processor_options
def corrupt(
    out: str | None, gallery: str | None, names: tuple[str, ...], image: int, as_json: bool, **options: Any
) -> None:
    """Write the corrupted images of a data set in the layout of CIFAR-10-C, or draw a gallery of one of them."""
    from robustprune.cli.workbench import open_data
    from robustprune.corruptions import Corruptions, expand_names
    from robustprune.corruptions.corrupted_set import write_set
    from robustprune.corruptions.corruption_gallery import write_gallery
    from robustprune.data import take_sample
    from robustprune.runtime.work import limit_threads

    if out is None and gallery is None:
        raise click.UsageError("name a folder with --out, a picture with --gallery, or both")
    limit_threads(options["threads"])
    chosen = expand_names(list(names) or ["all", "extras"])
    asked = Corruptions(names=tuple(chosen), options=frost_options(options["frost_dir"], chosen))
    data = open_data(options["dataset"], data_options=take_data_options(options), seed=options["seed"])
    sample = take_sample(data, options["split"], options["limit"], options["seed"])
    if image >= len(sample.labels):
        raise click.UsageError(f"--image {image}: there are {len(sample.labels)} images, counted from 0")
    if gallery is not None:
        sample_id = int(sample.indices[image])
        write_gallery(sample.images[image], gallery, asked, seed=options["seed"], sample_id=sample_id)
    written: list[str] = []
    if out is not None:
        with terminal.progress_bar() as bar:
            written = write_set(
                sample.images,
                sample.labels,
                out,
                asked,
                seed=options["seed"],
                sample_ids=sample.indices,
                resume=options["resume"],
                progress=bar,
            )
    found = {
        "dataset": data.name,
        "n": len(sample.labels),
        "corruptions": chosen,
        "written": written,
        "out": out,
        "gallery": gallery,
    }
    if as_json:
        terminal.print_json(found)
    else:
        _say(found)


def _say(found: dict[str, Any]) -> None:
    if found["out"] is not None:
        cells = f"{len(found['written'])} of {len(found['corruptions'])} corruptions"
        terminal.say(f"{cells} of {found['n']} images written to {found['out']}")
    if found["gallery"] is not None:
        terminal.say(f"gallery in {found['gallery']}")
