"""`robustprune evaluate`: accuracy, calibration, attacks, corruptions and foreign images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.attacks import (
    add_source,
    attack_options,
    clear_states,
    curve_table,
    refuse_idle_attack_options,
    refuse_invalid,
    take_attack_options,
)
from robustprune.cli.corruptions import corruption_options, corruption_tables, take_corruption_options
from robustprune.cli.ood import ood_options, ood_tables, take_ood_options
from robustprune.cli.options import (
    NetworkOptions,
    alike_options,
    common_options,
    data_options,
    joined,
    model_options,
    open_named,
    opened,
    split_option,
    stack,
)
from robustprune.cli.paths import Naming, Target
from robustprune.cli.tables import interval_text
from robustprune.runtime.kinds import OUTCOMES, RECORD, Kind

if TYPE_CHECKING:
    from robustprune.data import ImageData
    from robustprune.records import Record
    from robustprune.tickets.ticket import Ticket


def _named(model: str, also: Iterable[str], dense: str | None) -> list[str]:
    return list(dict.fromkeys([model, *also, *([dense] if dense else [])]))


def _written(out: Path, options: Mapping[str, Any]) -> Iterator[tuple[Path, Kind]]:
    """Yield the records, and the outcomes beside them."""
    from robustprune.records.places import check_samples_are_free, samples_path

    for file in _record_files(_named(*(options[name] for name in ("model", "also", "dense"))), str(out)).values():
        record = Path(file)
        yield record, RECORD
        yield samples_path(record), OUTCOMES
        try:
            check_samples_are_free(record)
        except OSError as error:
            raise click.UsageError(f"--out {out}: {error.strerror}") from error


evaluation_options = stack(
    click.option(
        "--also",
        type=Naming(plain=True),
        multiple=True,
        help="Another network, shown the same images; may be repeated.",
    ),
    click.option(
        "--dense",
        type=Naming(plain=True),
        help="Network that errors under corruptions are related to; it is evaluated, too.",
    ),
    split_option,
    click.option("--latency", is_flag=True, help="Also time the networks, in turn, for five seconds or more."),
    click.option("--limit", type=click.IntRange(min=1), help="Evaluate a stratified sample of so many images."),
    click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True),
    click.option(
        "--out", type=Target(beside=_written), help="File of the record; of several networks, folder of their records."
    ),
)


@commands.command()
@model_options
@data_options
@attack_options
@corruption_options
@ood_options
@evaluation_options
@common_options
def evaluate(
    also: tuple[str, ...],
    dense: str | None,
    out: str | None,
    strict: bool,
    transfer_from: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure accuracy and calibration of a network, attack it, corrupt its images, show it foreign ones."""
    from robustprune.evaluation import evaluate_models

    named = _named(options["model"], also, dense)
    files = _record_files(named, out)
    refuse_idle_attack_options({**options, "transfer_from": transfer_from, "strict": strict}, len(named))
    given = take_ood_options(options) | take_corruption_options(options) | take_attack_options(options)
    alike = alike_options(options, [*named[1:], *([transfer_from] if transfer_from else [])])

    def open_everything() -> tuple[dict[str, Ticket], ImageData]:
        tickets, data = _open_all(named, options, alike)
        add_source(given, transfer_from, data, alike, options["seed"], options["device"])
        return tickets, data

    with joined(options["device"], evaluates=True) as processes, terminal.progress_bar() as bar:
        tickets, data = opened(processes, options, open_everything)
        del options["model"], options["device"]
        records = evaluate_models(
            tickets,
            data,
            dense=dense,
            paths={name: name for name in named},
            processes=processes,
            progress=bar,
            **given,
            **options,
        )
        processes.from_main(lambda: _save_all(records, files))
    if as_json:
        found = [record.to_json() for record in records.values()]
        terminal.print_json(found[0] if len(found) == 1 else f"[{','.join(found)}]")
    else:
        _draw_all(records, files)
    clear_states(given)
    if strict:
        refuse_invalid(records.values())


def _save_all(records: Mapping[str, Record], files: Mapping[str, str]) -> None:
    for name, file in files.items():
        records[name].save(file)


def _draw_all(records: Mapping[str, Record], files: Mapping[str, str]) -> None:
    for name, record in records.items():
        _record_table(record, files.get(name))
        curve_table(record)
        corruption_tables(record)
        ood_tables(record)


def _open_all(named: list[str], options: dict[str, Any], alike: NetworkOptions) -> tuple[dict[str, Ticket], ImageData]:
    """Return the networks, on their device, and the image set of the first; ``alike`` is how the others are opened."""
    from robustprune.cli.workbench import open_alike

    first, data = open_named(options)
    tickets = {
        named[0]: first,
        **{name: open_alike(replace(alike, model=name), data, seed=options["seed"]) for name in named[1:]},
    }
    for ticket in tickets.values():
        ticket.network.to(options["device"])
    return tickets, data


def _record_files(named: list[str], out: str | None) -> dict[str, str]:
    """Return where the record of each network goes: the file itself, or one in a folder for each of several."""
    if out is None:
        return {}
    if len(named) == 1:
        if Path(out).is_dir():
            raise click.UsageError(f"--out {out} is a folder; name a file for the record of one network")
        return {named[0]: out}
    if Path(out).is_file():
        raise click.UsageError(f"--out {out} is a file; name a folder for the records of {len(named)} networks")
    stems = list(map(_record_name, named))
    if len({stem.casefold() for stem in stems}) < len(stems):  # as some file systems tell no capitals apart
        raise click.UsageError(f"the records would have the same name: {', '.join(stems)}; rename a file")
    return {name: str(Path(out) / f"{stem}.json") for name, stem in zip(named, stems, strict=True)}


def _record_name(model: str) -> str:
    """Return what the record of a network is called: as its file without the ending of a ticket."""
    if not Path(model).is_file():
        return re.sub(r"[^\w.-]+", "-", model)
    name = Path(model).name
    return next((name.removesuffix(each) for each in (".pt", ".pth", ".ckpt") if name.endswith(each)), name)


def _record_table(record: Record, out: str | None) -> None:
    clean = record.clean
    rows = [["none", "", terminal.percent(clean.accuracy), interval_text(clean.interval), "", ""]]
    for entry in record.attacks:
        rows.append(
            [
                entry.name + (f"-{entry.steps}" if entry.steps else ""),
                f"{entry.norm} {entry.epsilon:.4g}",
                terminal.percent(entry.robust_accuracy) if entry.valid else "invalid",
                interval_text(entry.interval) if entry.valid else "",
                terminal.seconds(entry.seconds),
                "; ".join(
                    f"{check.verdict} {check.name}: {check.detail}"
                    for check in entry.checks
                    if check.verdict in ("WARN", "FAIL")
                ),
            ]
        )
    where = f"; record in {out}" if out else ""
    terminal.table(
        f"{record.model.architecture} on {record.n} {record.split} images of {record.dataset}",
        ["attack", "ε", ">accuracy", "95 % interval", ">time", "warnings"],
        rows,
        f"NLL {clean.nll:.4f}, ECE {clean.ece:.4f}, Brier {clean.brier:.4f}{where}",
    )
