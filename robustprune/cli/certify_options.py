"""Options and table of certified accuracy, a part of `robustprune evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from robustprune.cli import terminal
from robustprune.cli.options import gathered
from robustprune.registry import read_options

if TYPE_CHECKING:
    from robustprune.inference.requests import Certify
    from robustprune.records import Record


def _certify(certify: str | None) -> Certify:
    """Return what is asked for of randomized smoothing."""
    from robustprune.inference.requests import Certify

    if certify is None:
        return Certify()
    name, given = read_options(f"certify:{certify}")
    if name != "certify" or given.get("sigma") is None:
        raise click.UsageError(f"--certify takes KEY=VALUE,… with sigma, such as sigma=0.25,n=1000; got {certify!r}")
    return Certify(**given)


certify_options = gathered(
    "certify",
    _certify,
    click.option(
        "--certify",
        metavar="sigma=NUMBER,…",
        help="Certified accuracy by randomized smoothing with Gaussian noise of this standard deviation, pixels being "
        "in [0, 1]; further n (noisy copies of each image, 1000), n0 (100), alpha (0.001), radii (L2, "
        "0+0.25+0.5+0.75+1), limit (certify so many images).",
    ),
    panel="Certification",
)
"""For ``certify: Certify``."""


def certified_table(record: Record) -> None:
    """Draw certified accuracy by radius."""
    found = record.certified
    if found is None:
        return
    rows = [
        [f"{each.radius:g}", terminal.percent(each.accuracy), terminal.interval_text(each.interval)]
        for each in found.at
    ]
    terminal.table(
        f"Certified accuracy on {found.n} images, smoothed with σ = {found.sigma:g}, {found.votes} votes, "
        f"confidence {1 - found.alpha:g}",
        ["L2 radius", ">accuracy", "95 % interval"],
        rows,
        f"average radius {found.average_radius:.4f}; abstained on {terminal.percent(found.abstained)}; "
        f"{terminal.seconds(found.seconds)}",
    )
