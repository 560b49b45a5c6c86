"""`robustprune cost`: what a network costs, and what it saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import (
    DataOptions,
    NetworkOptions,
    Setup,
    dataset_options,
    network_options,
    setup_options,
)
from robustprune.cli.paths import Naming


@commands.command()
@network_options
@dataset_options
@click.option("--dense", type=Naming(plain=True), help="A ticket or model to compare with.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Images per batch, for memory and for the training steps of --latency.",
)
@click.option(
    "--latency",
    is_flag=True,
    help="Also time it, for ten seconds or more: latency, and with --dense training steps of both.",
)
@click.option(
    "--exported",
    is_flag=True,
    help="With --latency: also time the network exported to ONNX, in onnxruntime, and by torch.export.",
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
    """Count a network's parameters, multiply-accumulates and filters, and measure its memory."""
    if exported and not latency:
        raise click.UsageError("--exported adds to what --latency times; give both")
    from robustprune.cli.workbench import open_alike, open_network
    from robustprune.evaluation.cost_summary import describe_cost

    device, seed = setup.begin(), setup.seed
    others = [] if dense is None else [replace(network, model=dense)]
    ticket = open_network(network.beside(others), dataset, seed=seed)
    counterpart = open_alike(others[0], ticket.architecture, seed=seed) if others else None
    found = describe_cost(ticket, counterpart, batch_size=batch_size, timed=latency, exported=exported, device=device)
    if as_json:
        masks = {"masks": ticket.mask_summary} if ticket.masks else {}
        terminal.print_json({"model": network.model, "dataset": ticket.data.get("name"), **masks, **found})
        return
    headings = [network.model] if dense is None else [dense, network.model, "saved"]
    caption = "\n".join([*terminal.pruning_notes(ticket), *_timing_note(found)])
    terminal.table("Cost", ["", *(f">{heading}" for heading in headings)], _rows(found), caption)


def _rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Return a row per figure: the network's own, or the dense one's, the own and what is saved, where both have it."""
    own = _figures(found)
    if "dense" not in found:
        return [[label, text] for label, (_, text) in own.items()]
    dense, saved = _figures(found["dense"]), found["saved_percent"]
    rows = []
    for label in (label for label in own if label in dense):
        name, text = own[label]
        rows.append([label, dense[label][1], text, f"{saved[name]:.2f} %" if name in saved else ""])
    if "training_speedup" in found:
        speedup = found["training_speedup"]
        rows.append(["training step", "", "", f"{speedup['median']:.2f} ×, IQR {speedup['iqr']:.2f}"])
    return rows


def _figures(cost: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return, by label, the name that a figure has among the savings, and how it is written."""
    memory = cost["memory_bytes"]
    weights = memory["parameters"] + memory["buffers"]
    images = "1 image" if memory["batch_size"] == 1 else f"{memory['batch_size']} images"
    figures = {
        "parameters": ("parameters", f"{cost['parameters']:,}"),
        "MACs per image": ("macs", f"{cost['macs']:,}"),
        "filters": ("filters", f"{cost['filters']:,}"),
        f"memory, training, {images}": ("memory", _megabytes(weights + memory["activations"])),
        f"memory, inference, {images}": ("inference_memory", _megabytes(weights + memory["inference_activations"])),
    }
    for name, label in (("latency_ms", "latency, 1 image"), ("batch_latency_ms", "latency, 128 images")):
        if name in cost:
            figures[label] = (name.removesuffix("_ms"), _time(cost[name]))
        for form, timed in cost.get("exported", {}).get(name, {}).items():
            figures[f"{label}, {form}"] = ("", _time(timed))
    training = cost.get("training", {})
    for name, label, text in (
        ("training_seconds", "training time", terminal.seconds(training.get("seconds"))),
        ("energy", "training energy", terminal.watt_hours(training.get("energy_kwh"))),
        ("co2", "training CO₂", terminal.grams(training.get("co2_kg"))),
    ):
        if training:
            figures[label] = (name, text)
    return figures


def _timing_note(found: Mapping[str, Any]) -> list[str]:
    if "latency_ms" not in found:
        return []
    where = found["latency_ms"]
    threads = f"{where['threads']} thread" + ("s" if where["threads"] > 1 else "")
    return [f"timed on {where['device']} with {threads}: median and interquartile range (IQR), networks in turn"]


def _time(latency: Mapping[str, Any]) -> str:
    return f"{latency['median']:.2f} ms, IQR {latency['iqr']:.2f}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"
