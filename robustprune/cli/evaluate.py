"""`robustprune evaluate`: accuracy, calibration, attacks, corruptions and out-of-distribution images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.attack_options import (
    attack_options,
    attacks_of,
    curve_table,
    refuse_idle_attack_options,
    refuse_invalid,
)
from robustprune.cli.corruption_options import corruption_options, corruption_tables, corruptions_of, shift_of
from robustprune.cli.ood_options import ood_of, ood_options, ood_tables
from robustprune.cli.options import (
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
    from robustprune.evaluation.requests import Evaluation
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
def evaluate(**options: Any) -> None:
    """Measure accuracy and calibration of a network, attack it, corrupt its images, detect others."""
    from robustprune.attacks import clear_states
    from robustprune.evaluation import evaluate_models
    from robustprune.runtime.work import Work

    dense, source = options["dense"], options["transfer_from"]
    named = _named(options["model"], options["also"], dense)
    files = _record_files(named, options["out"])
    refuse_idle_attack_options(options, len(named))
    asked = _evaluation_of(options)
    folder = Path(options["resume_dir"]) if options["resume_dir"] else None
    others = [*named[1:], *([source] if source else [])]
    with joined(options["device"], evaluates=True) as processes, terminal.progress_bar() as bar:
        networks, data = opened(processes, options, lambda: _open_all(options, named[0], others))
        attacks = asked.attacks
        if source:
            attacks = attacks.model_copy(update={"transfer_from": networks[source].model()})
        tickets = {name: networks[name] for name in named}
        work = Work(processes, bar, folder)
        records = evaluate_models(tickets, data, asked, dense=dense, work=work, attacks=attacks)
        processes.from_main(lambda: _save_all(records, files))
    if options["as_json"]:
        found = [record.to_json() for record in records.values()]
        terminal.print_json(found[0] if len(found) == 1 else f"[{','.join(found)}]")
    else:
        _draw_all(records, files)
    if folder is not None:
        clear_states(folder)
    if options["strict"]:
        refuse_invalid(records.values())


def _evaluation_of(options: Mapping[str, Any]) -> Evaluation:
    """Return what a command's options ask to be measured."""
    from robustprune.evaluation.requests import Evaluation

    own = {name: options[name] for name in ("split", "limit", "seed", "batch_size", "latency")}
    return Evaluation(
        attacks=attacks_of(options),
        corruptions=corruptions_of(options),
        shift=shift_of(options),
        ood=ood_of(options),
        **own,
    )


def _save_all(records: Mapping[str, Record], files: Mapping[str, str]) -> None:
    for name, file in files.items():
        records[name].save(file)


def _draw_all(records: Mapping[str, Record], files: Mapping[str, str]) -> None:
    for name, record in records.items():
        _record_table(record, files.get(name))
        curve_table(record)
        corruption_tables(record)
        ood_tables(record)


def _open_all(options: dict[str, Any], first: str, others: Sequence[str]) -> tuple[dict[str, Ticket], ImageData]:
    """Return the networks, on their device, and the image set of the first; the others are opened alike."""
    from robustprune.cli.workbench import open_alike

    alike = alike_options(options, others)
    ticket, data = open_named(options)
    tickets = {first: ticket} | {name: open_alike(name, data, **alike) for name in others}
    for name, each in tickets.items():
        each.network.to(options["device"])
        each.path = name
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
