"""Everything a network costs, and the share of it that is saved against the dense network (the paper's Table 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from robustprune.cost import (
    Latency,
    measure_cost,
    measure_latencies,
    measure_memory,
    saved_in_training,
)
from robustprune.data import AnyData, as_data
from robustprune.errors import ExportError
from robustprune.models import chosen_device
from robustprune.records import Record
from robustprune.runtime.devices import Device
from robustprune.runtime.work import Work, labelled, steps
from robustprune.tickets.export import measure_form_latencies
from robustprune.tickets.ticket import Ticket
from robustprune.training import measure_training_speedup

_TRAINING = (
    *("start_epoch", "epochs", "seconds", "energy_kwh", "co2_kg"),
    *("country", "energy_method", "threads", "device"),
)
_LATENCIES = {"latency_ms": 1, "batch_latency_ms": 128}
_SECONDS = 0.7  # that each network is timed for at each batch size


def describe_cost(
    ticket: Ticket | nn.Module,
    dense: Ticket | nn.Module | None = None,
    *,
    data: AnyData | None = None,
    batch_size: int = 128,
    timed: bool = False,
    exported: bool = False,
    seconds: float = 10.0,
    device: Device = None,
    work: Work = Work(),
) -> dict[str, Any]:
    """Return what a network costs, as plain numbers.

    Args:
        ticket: A ticket, or a network, which is left as it is.
        dense: What to compare it with, likewise; adds ``saved_percent`` and the dense network's own costs.
        data: The image set, or images as for :func:`robustprune.as_data`, which say what a network takes that was not
            built here. A ticket knows it, also for what it is compared with.
        batch_size: Images per batch, for the memory and for the training step that is timed.
        timed: Whether to measure latencies and, against ``dense``, the speed of training steps.
        exported: Whether to time the exported networks too, in turn with the others; on the CPU alone.
        seconds: Roughly how long to time: half of it training steps, a quarter each latency.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Its progress is told of each measurement.

    Returns:
        ``parameters``, ``macs``, ``filters``, ``memory_bytes``; ``training`` of a network that was trained here,
        ``latency_ms`` (one image), ``batch_latency_ms`` (128 images) and ``training_speedup`` where they were
        timed, ``exported`` with both latencies of each format of export; with ``dense`` a dictionary of the same
        under that name, and ``saved_percent``.

    Raises:
        ModelError: A network cannot be measured, or nothing says what images it takes.
        ExportError: A network cannot be exported, or exports would be timed elsewhere than on the CPU.
    """
    tickets = _as_tickets([ticket] if dense is None else [ticket, dense], data)
    place = chosen_device(tickets[0].network, device)
    step = steps(labelled(work.progress, "cost"), len(tickets) + 3 * timed)
    costs = [measure_cost(each.network, device=place) for each in tickets]
    memories = []
    for each in tickets:
        memories.append(measure_memory(each.network, batch_size))
        step()
    described: list[dict[str, Any]] = [
        {**cost.to_dict(), "memory_bytes": memory.to_dict()} for cost, memory in zip(costs, memories, strict=True)
    ]
    for each, description in zip(tickets, described, strict=True):
        if each.training:
            description["training"] = {name: each.training.get(name) for name in _TRAINING}
    saved: dict[str, float] = {}
    if dense is not None:
        saved = {
            **costs[0].saved_percent(costs[1]),
            **memories[0].saved_percent(memories[1]),
            **saved_in_training(tickets[0].training, tickets[1].training),
        }
    if timed:
        networks = [each.network for each in tickets]
        saved |= _add_latencies(described, networks, seconds / 4, place, exported, step)
    if timed and dense is None:
        step()
    if dense is None:
        return described[0]
    if timed:
        speedup = measure_training_speedup(
            *(each.network for each in tickets), batch_size=max(2, batch_size), seconds=seconds / 2, device=place
        )
        described[0]["training_speedup"] = speedup
        step()
    return {**described[0], "dense": described[1], "saved_percent": saved}


def _as_tickets(given: Sequence[Ticket | nn.Module], data: AnyData | None) -> list[Ticket]:
    """Return tickets, and networks as tickets for the images of the data, or else for those of a ticket beside them."""
    images = next((each.architecture for each in given if isinstance(each, Ticket)), None)
    known = images if data is None else as_data(data, "train")
    return [each if isinstance(each, Ticket) else Ticket.from_model(each, known) for each in given]


def _add_latencies(
    described: Sequence[dict[str, Any]],
    networks: Sequence[nn.Module],
    seconds: float,
    device: torch.device,
    exported: bool,
    step: Callable[[], None],
) -> dict[str, float]:
    """Add the latencies of networks to their descriptions; return what the first saves against the last."""
    if exported and device.type != "cpu":
        raise ExportError(f"exported networks are timed on the CPU, not on {device}; add --device cpu")
    saved = {}
    for name, size in _LATENCIES.items():
        how: dict[str, Any] = {"batch_size": size, "seconds": seconds}
        forms: Sequence[Mapping[str, Latency]] = (
            measure_form_latencies(networks, **how)
            if exported
            else [{"torch": latency} for latency in measure_latencies(networks, device=device, **how)]
        )
        for description, latencies in zip(described, forms, strict=True):
            times = {form: latency.to_dict() for form, latency in latencies.items()}
            description[name] = times.pop("torch")
            if times:
                description.setdefault("exported", {})[name] = times
        step()
        saved[name.removesuffix("_ms")] = forms[0]["torch"].saved_percent(forms[-1]["torch"])
    return saved


def add_latency(evaluated: Sequence[tuple[nn.Module, Record]], shape: Sequence[int], work: Work = Work()) -> None:
    """Time networks in turn, where the first one is, and add what comes of it to their records."""
    step = steps(labelled(work.progress, "latency"), len(_LATENCIES))
    networks, example = [network for network, _ in evaluated], torch.zeros(1, *shape)
    for name, size in _LATENCIES.items():
        latencies = measure_latencies(networks, batch_size=size, seconds=_SECONDS * len(networks), example=example)
        for (_, record), latency in zip(evaluated, latencies, strict=True):
            setattr(record.model, name, latency.to_dict())
        step()
