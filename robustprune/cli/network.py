"""What a network costs as a whole and block by block, and itself as a file: `cost`, `blocks` and `export`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    UNIT,
    UNIT_HELP,
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    eligibility_option,
    network_options,
    processor_options,
    setup_options,
)
from robustprune.cli.paths import Naming, Target
from robustprune.runtime.file_kinds import EXPORT


@commands.command(examples=["--model ticket.pt --dense resnet32"])
@network_options
@dataset_options
@click.option("--dense", type=Naming(plain=True), help="Network to compare with, named as --model is.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=128,
    help="Images per batch, for memory and for training steps.",
)
@click.option(
    "--latency",
    is_flag=True,
    help="Also measure latency and, with --dense, the time of training steps, in ten seconds or more.",
)
@click.option(
    "--exported",
    is_flag=True,
    help="With --latency: also time the network exported to ONNX and by torch.export.",
)
@setup_options
def cost(
    network: NetworkOptions,
    dataset: DataOptions,
    dense: str | None,
    batch_size: int,
    latency: bool,
    exported: bool,
    setup: Setup,
    as_json: bool,
) -> None:
    """Count parameters, multiply-accumulates and filters of a network, and measure its memory."""
    if exported and not latency:
        raise click.UsageError("--exported adds to what --latency times; give both")
    from robustprune.cli.workbench import open_model_like, open_network
    from robustprune.evaluation.cost_summary import describe_cost
    from robustprune.runtime.work import Work

    device, seed = setup.begin(), setup.seed
    ticket = open_network(network, dataset, seed=seed)
    counterpart = None if dense is None else open_model_like(network.beside(dense), ticket.architecture, seed=seed)
    with terminal.progress_bar() as bar:
        how: dict[str, Any] = {"batch_size": batch_size, "timed": latency, "exported": exported, "device": device}
        found = describe_cost(ticket, counterpart, work=Work(progress=bar), **how)
    if as_json:
        masks = {"masks": ticket.mask_summary} if ticket.masks else {}
        terminal.print_json({"model": network.model, "dataset": ticket.data.get("name"), **masks, **found})
        return
    headings = [network.model] if dense is None else [dense, network.model, "saved"]
    notes = terminal.pruning_notes(ticket)
    if "latency_ms" in found:
        where, threads = found["latency_ms"]["device"], found["latency_ms"]["threads"]
        with_threads = f"{threads} thread{'s' if threads > 1 else ''}"
        notes.append(f"timed on {where} with {with_threads}: median and interquartile range (IQR), networks in turn")
    terminal.table("Cost", ["", *(f">{heading}" for heading in headings)], _rows(found), "\n".join(notes))


def _rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Return a row per figure: the network's, or of two the dense one's, the other's and the share saved."""
    own = _figures(found)
    if "dense" not in found:
        return [[label, text] for label, (_, text) in own.items()]
    dense, saved = _figures(found["dense"]), found["saved_percent"]
    rows = [
        [label, dense[label][1], text, f"{saved[name]:.2f} %" if name in saved else ""]
        for label, (name, text) in own.items()
        if label in dense
    ]
    if "training_speedup" in found:
        speedup = found["training_speedup"]
        rows.append(["training step", "", "", f"{speedup['median']:.2f} ×, IQR {speedup['iqr']:.2f}"])
    return rows


def _figures(cost: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return, by label, the name that a figure has among the savings, and how it is written."""

    def megabytes(activations: str) -> str:
        return f"{(memory['parameters'] + memory['buffers'] + memory[activations]) / 1e6:,.2f} MB"

    def time(latency: Mapping[str, Any]) -> str:
        return f"{latency['median']:.2f} ms, IQR {latency['iqr']:.2f}"

    memory = cost["memory_bytes"]
    images = "1 image" if memory["batch_size"] == 1 else f"{memory['batch_size']} images"
    figures = {
        "parameters": ("parameters", f"{cost['parameters']:,}"),
        "MACs per image": ("macs", f"{cost['macs']:,}"),
        "filters": ("filters", f"{cost['filters']:,}"),
        f"memory, training, {images}": ("memory", megabytes("activations")),
        f"memory, inference, {images}": ("inference_memory", megabytes("inference_activations")),
    }
    for name, label in (("latency_ms", "latency, 1 image"), ("batch_latency_ms", "latency, 128 images")):
        if name in cost:
            figures[label] = (name.removesuffix("_ms"), time(cost[name]))
        for form, timed in cost.get("exported", {}).get(name, {}).items():
            figures[f"{label}, {form}"] = ("", time(timed))
    if training := cost.get("training"):
        figures["training time"] = ("training_seconds", terminal.seconds(training.get("seconds")))
        figures["training energy"] = ("energy", terminal.watt_hours(training.get("energy_kwh")))
        figures["training CO₂"] = ("co2", terminal.grams(training.get("co2_kg")))
    return figures


@commands.command(examples=["--model torchvision:resnet50 --dataset cifar10"])
@network_options
@dataset_options
@eligibility_option
@click.option("--unit", type=UNIT, default="block", help=UNIT_HELP)
@processor_options
def blocks(
    network: NetworkOptions, dataset: DataOptions, eligibility: str, unit: str, setup: Setup, as_json: bool
) -> None:
    """Show the residual blocks of a network, or the attention or MLP branches, and which of them can be removed."""
    from robustprune.cli.workbench import open_network
    from robustprune.cost import measure_block_macs, measure_cost
    from robustprune.pruning import (
        BRANCH_NAMES,
        check_eligibility,
        check_unit,
        find_blocks,
        ineligible_because,
        removable_together,
    )
    from robustprune.runtime.work import labelled, steps

    rule = check_eligibility(eligibility)
    setup.begin()
    ticket = open_network(network, dataset, seed=setup.seed)
    with terminal.progress_bar() as bar:
        step = steps(labelled(bar, "finding blocks"), 2)
        found = find_blocks(ticket.network, unit=check_unit(unit))
        step()
        macs, total = measure_block_macs(ticket.network, found), measure_cost(ticket.network).macs
        step()
    reasons = {block.name: ineligible_because(block, found, rule) for block in found}
    rows = [
        {
            "name": block.name,
            "stage": block.stage + 1,
            "position": block.position + 1,
            "parameters": block.parameters,
            "macs": macs[block.name],
            "macs_percent": 100 * macs[block.name] / total,
            "eligible": reasons[block.name] is None,
            "reason": reasons[block.name],
        }
        for block in found
    ]
    most = removable_together(found, rule)
    if as_json:
        facts = {"model": network.model, "unit": unit, "eligibility": rule, "removable_together": most}
        terminal.print_json({**facts, "blocks": rows})
        return
    _draw_blocks(rows, BRANCH_NAMES.get(unit, "block"), ticket.architecture.called, f"({rule}); at most {most} can go")


def _draw_blocks(rows: Sequence[Mapping[str, Any]], kind: str, network: str, rule: str) -> None:
    terminal.table(
        f"{kind[0].upper()}{kind[1:]}{'es' if kind.endswith('ch') else 's'} of {network}",
        [kind, ">stage", ">position", ">parameters", ">MACs", ">share", "can go"],
        [
            [
                row["name"],
                row["stage"],
                row["position"],
                f"{row['parameters']:,}",
                f"{row['macs']:,}",
                f"{row['macs_percent']:.3f} %",
                "yes" if row["eligible"] else f"no: {row['reason']}",
            ]
            for row in rows
        ],
        f"{sum(row['reason'] is None for row in rows)} of {len(rows)} are eligible {rule} together",
    )


@commands.command(examples=["--model trained.pt --format onnx --out trained.onnx"])
@network_options
@dataset_options
@click.option("--format", type=click.Choice(["onnx", "torch-export"]), default="onnx", help="Format of the file.")
@click.option("--out", required=True, type=Target(EXPORT, dir_okay=False), help="File of the exported network.")
@processor_options
def export(network: NetworkOptions, dataset: DataOptions, format: str, out: str, setup: Setup, as_json: bool) -> None:
    """Export a network to ONNX or by torch.export, and check that it computes the same.

    The file runs without robustprune. It takes any number of float32 images (N, C, H, W) in [0, 1] and returns logits;
    normalization is inside.
    """
    from robustprune.cli.workbench import open_network
    from robustprune.runtime.work import Work
    from robustprune.tickets.export import export_model

    setup.begin()
    ticket = open_network(network, dataset, seed=setup.seed)
    with terminal.progress_bar() as bar:
        found = export_model(ticket, out, format, work=Work(progress=bar))
    if as_json:
        terminal.print_json({"model": network.model, **found.to_dict()})
        return
    rows = [
        ["input", found.metadata["input"]],
        ["output", f"logits (N, {found.metadata['classes']})"],
        ["size", f"{found.bytes / 1e6:,.2f} MB"],
        ["compared with the ticket", f"logits within {found.largest_difference:.1g} of the largest"],
    ]
    notes = "\n".join([*terminal.pruning_notes(ticket), f"written to {out}"])
    terminal.table(f"{network.model} as {format}", ["", ""], rows, notes)
