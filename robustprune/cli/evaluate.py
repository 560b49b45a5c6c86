"""`robustprune evaluate`: accuracy, calibration, attacks, corruptions and out-of-distribution images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.attack_options import AttackOptions, accuracy_table, attack_options, refuse_invalid
from robustprune.cli.certify_options import certified_table, certify_options
from robustprune.cli.corrupt import corruption_options, corruption_tables
from robustprune.cli.ood_options import ood_options, ood_tables
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    gathered,
    names_option,
    network_options,
    opened,
    resume_option,
    setup_options,
    split_option,
)
from robustprune.cli.paths import Naming, Target
from robustprune.registry import split_names
from robustprune.runtime.file_kinds import OUTCOMES, RECORD, FileKind

if TYPE_CHECKING:
    from robustprune.corruptions.requests import Corruptions
    from robustprune.data import ImageData
    from robustprune.evaluation.requests import Shift
    from robustprune.inference.requests import Certify
    from robustprune.ood.requests import OOD
    from robustprune.records import Record
    from robustprune.tickets.ticket import Ticket


def _written(out: Path, options: Mapping[str, Any]) -> Iterator[tuple[Path, FileKind]]:
    """Yield the records, and the outcomes beside them."""
    from robustprune.records import check_samples_are_free, samples_path

    for file in _record_files(_named(options["model"], options["extra_model"], options["dense"]), str(out)).values():
        record = Path(file)
        yield record, RECORD
        yield samples_path(record), OUTCOMES
        try:
            check_samples_are_free(record)
        except OSError as error:
            raise click.UsageError(f"--out {out}: {error.strerror}") from error


def _named(model: str, extra: Iterable[str], dense: str | None) -> list[str]:
    others = [each for text in extra for each in ([text] if Path(text).is_file() else split_names(text))]
    return list(dict.fromkeys([model, *others, *([dense] if dense else [])]))


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
    # Of a file its name without a ticket's ending.
    stems = [re.sub(r"\.(pt|pth|ckpt)$", "", Path(each).name) if Path(each).is_file() else each for each in named]
    stems = [re.sub(r"[^\w.-]+", "-", stem) for stem in stems]
    if len({stem.casefold() for stem in stems}) < len(stems):  # as some file systems tell no capitals apart
        raise click.UsageError(f"the records would have the same name: {', '.join(stems)}; rename a file")
    return {name: str(Path(out) / f"{stem}.json") for name, stem in zip(named, stems, strict=True)}


@dataclass(frozen=True)
class _Wanted:
    """Which networks are evaluated beside the first, on which images, and where their records go."""

    extra_model: tuple[str, ...]
    dense: str | None
    split: str
    latency: bool
    limit: int | None
    batch_size: int
    out: str | None
    resume: bool

    @property
    def resume_folder(self) -> Path | None:
        """Where attacks and certification keep how far they are, beside the record; None where nothing is kept."""
        if not self.resume:
            return None
        if self.out is None:
            raise click.UsageError("--resume keeps how far attacks have come beside the record; name one with --out")
        folder = Path(self.out).with_name(f"{Path(self.out).name}.resume")
        if folder.exists() and not folder.is_dir():
            raise click.UsageError(f"--resume keeps how far attacks have come in {folder}, which is a file; remove it")
        return folder


wanted_options = gathered(
    "wanted",
    _Wanted,
    names_option(
        "--extra-model",
        type=Naming(plain=True),
        help="Further networks to evaluate on the same images, named as --model is.",
    ),
    click.option(
        "--dense",
        type=Naming(plain=True),
        help="Dense network to evaluate too; corruption errors are then also reported relative to its own (mCE).",
    ),
    split_option,
    click.option(
        "--latency", is_flag=True, help="Also measure latency, of 1 and of 128 images; takes five seconds or more."
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Evaluate a stratified sample of this many images."),
    click.option("--batch-size", type=click.IntRange(min=1), default=256, help="Images per forward pass."),
    click.option(
        "--out", type=Target(beside=_written), help="File of the record; for several networks, folder of their records."
    ),
    resume_option,
    panel="Evaluation",
)


_MORE = (
    "Measured: accuracy and calibration on clean images. Add --attack pgd for robustness, --corruption all, --shift "
    "NAME=PLACE for images from elsewhere, or --ood near for out-of-distribution detection"
)

_EXAMPLES = [
    "--model ticket.pt --attack pgd",
    "--model ticket.pt --corruption all --ood near --out record.json",
]


@commands.command(examples=_EXAMPLES)
@network_options
@dataset_options
@attack_options
@certify_options
@corruption_options
@ood_options
@wanted_options
@setup_options
def evaluate(
    network: NetworkOptions,
    dataset: DataOptions,
    attacked: AttackOptions,
    certify: Certify,
    corruptions: Corruptions,
    shift: Shift,
    ood: OOD,
    wanted: _Wanted,
    setup: Setup,
    as_json: bool,
) -> None:
    """Measure accuracy, calibration, robustness to attacks and corruptions, and out-of-distribution detection.

    Accuracy and calibration are always measured; --attack, --certify, --corruption, --shift and --ood add to them.
    """
    from robustprune.attacks import clear_states
    from robustprune.evaluation import Evaluation, evaluate_models
    from robustprune.runtime.process_group import EVALUATION_TIMEOUT, join_process_group
    from robustprune.runtime.work import Work

    named = _named(network.model, wanted.extra_model, wanted.dense)
    files = _record_files(named, wanted.out)
    if attacked.attacks.save_adversarial and len(named) > 1:
        raise click.UsageError(
            f"--save-adversarial is for one network, as {len(named)} would write one file; evaluate them one by one"
        )
    own = {name: getattr(wanted, name) for name in ("split", "limit", "batch_size", "latency")}
    # Out-of-distribution sets are looked for where the data set is.
    ood = ood.model_copy(update={"root": dataset.root, "download": dataset.download}) if ood.sets else ood
    asked = Evaluation(certify=certify, corruptions=corruptions, shift=shift, ood=ood, seed=setup.seed, **own)
    source, resume_folder, device = attacked.transfer_from, wanted.resume_folder, setup.begin()
    with join_process_group(device, EVALUATION_TIMEOUT) as processes, terminal.progress_bar() as bar:
        others = [*named[1:], *([source] if source else [])]
        networks, data = opened(processes, dataset, lambda: _open_all(network, others, dataset, setup))
        attacks = attacked.attacks
        if source:
            attacks = attacks.model_copy(update={"transfer_from": networks[source].model()})
        tickets = {name: networks[name] for name in named}
        work = Work(processes, bar, resume_folder)
        records = evaluate_models(tickets, data, asked, dense=wanted.dense, device=device, work=work, attacks=attacks)
        processes.from_main(lambda: _save(records, files))
    if not (attacks.names or certify.sigma or corruptions.names or corruptions.published or shift.sets or ood.sets):
        terminal.say(_MORE)
    _draw(records, files, as_json)
    clear_states(work)
    if resume_folder is not None:
        with suppress(OSError):  # another call's are in it
            resume_folder.rmdir()
    if attacked.strict:
        refuse_invalid(records.values())


def _draw(records: Mapping[str, Record], files: Mapping[str, str], as_json: bool) -> None:
    if as_json:
        found = [record.to_json() for record in records.values()]
        terminal.print_json(found[0] if len(found) == 1 else f"[{','.join(found)}]")
        return
    for name, record in records.items():
        accuracy_table(record, files.get(name))
        certified_table(record)
        corruption_tables(record)
        ood_tables(record)


def _save(records: Mapping[str, Record], files: Mapping[str, str]) -> None:
    for name, file in files.items():
        records[name].save(file)


def _open_all(
    network: NetworkOptions, others: Sequence[str], dataset: DataOptions, setup: Setup
) -> tuple[dict[str, Ticket], ImageData]:
    """Return the networks, and the image set of the first; the others are opened for the same images."""
    from robustprune.cli.workbench import open_model, open_model_like

    ticket, data = open_model(network, dataset, seed=setup.seed)
    tickets = {network.model: ticket}
    tickets |= {name: open_model_like(network.beside(name), data, seed=setup.seed) for name in others}
    for name, each in tickets.items():
        each.path = name
    return tickets, data
