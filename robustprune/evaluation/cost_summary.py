"""Everything a network costs, and the share of it that is saved against the dense network (the paper's Table 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from robustprune.errors import ExportError
from robustprune.records import Record
from robustprune.runtime.arrays import Array
from robustprune.tickets.export import measure_form_latencies
from robustprune.tickets.ticket import Ticket
from robustprune.training import measure_training_speedup

_TRAINING = (
    "start_epoch",
    "epochs",
    "seconds",
    "energy_kwh",
    "co2_kg",
    "country",
    "energy_method",
    "threads",
    "device",
)
_LATENCIES = {"latency_ms": 1, "batch_latency_ms": 128}


def describe_cost(
    ticket: Ticket,
    dense: Ticket | None = None,
    *,
    batch_size: int = 128,
    timed: bool = False,
    exported: bool = False,
    seconds: float = 10.0,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Return what a network costs, as plain numbers.

    Args:
        ticket: The network.
        dense: What to compare it with; adds ``saved_percent`` and the dense network's own costs.
        batch_size: Images per batch, for the memory and for the training step that is timed.
        timed: Whether to measure latencies and, against ``dense``, the speed of training steps.
        exported: Whether to time the exported networks too, in turn with the others; on the CPU alone.
        seconds: Roughly how long to time: half of it training steps, a quarter each latency.
        device: Where to time.

    Returns:
        ``parameters``, ``macs``, ``filters``, ``memory_bytes``; ``training`` of a network that was trained here,
        ``latency_ms`` (one image), ``batch_latency_ms`` (128 images) and ``training_speedup`` where they were
        timed, ``exported`` with both latencies of each format of export; with ``dense`` a dictionary of the same
        under that name, and ``saved_percent``.

    Raises:
        ModelError: A network cannot be measured.
        ExportError: A network cannot be exported, or exports would be timed elsewhere than on the CPU.
    """
    tickets = [ticket, dense] if dense is not None else [ticket]
    costs = [measure_cost(each.network) for each in tickets]
    memories = [measure_memory(each.network, batch_size) for each in tickets]
    described = [
        {**cost.to_dict(), "memory_bytes": memory.to_dict(), **_trained(each)}
        for each, cost, memory in zip(tickets, costs, memories, strict=True)
    ]
    saved: dict[str, float] = {}
    if dense is not None:
        saved = {
            **costs[0].saved_percent(costs[1]),
            **memories[0].saved_percent(memories[1]),
            **saved_in_training(ticket.training, dense.training),
        }
    if timed:
        times = _time_forms([each.network for each in tickets], seconds / 4, device, exported)
        saved_in_time = _add_latencies(described, times)
        saved |= saved_in_time if dense is not None else {}
    if dense is None:
        return described[0]
    if timed:
        speedup = measure_training_speedup(
            ticket.network, dense.network, batch_size=max(2, batch_size), seconds=seconds / 2, device=device
        )
        described[0]["training_speedup"] = speedup
    return {**described[0], "dense": described[1], "saved_percent": saved}


def time_networks(
    networks: Sequence[nn.Module],
    *,
    seconds: float = 2.5,
    device: torch.device | str = "cpu",
    example: Array | None = None,
) -> dict[str, list[Latency]]:
    """Return ``latency_ms`` (one image) and ``batch_latency_ms`` (128 images) of networks, timed in turn.

    Arguments and errors are those of :func:`robustprune.cost.measure_latencies`, ``seconds`` for each of the two.
    """
    return {
        name: measure_latencies(networks, batch_size=size, seconds=seconds, device=device, example=example)
        for name, size in _LATENCIES.items()
    }


_Times = Mapping[str, Sequence[Mapping[str, Latency]]]
"""Name of the latency → for each network, by form."""


def _time_forms(networks: Sequence[nn.Module], seconds: float, device: torch.device | str, exported: bool) -> _Times:
    if not exported:
        frozen = time_networks(networks, seconds=seconds, device=device)
        return {name: [{"torch": latency} for latency in latencies] for name, latencies in frozen.items()}
    if torch.device(device).type != "cpu":
        raise ExportError(f"exported networks are timed on the CPU, not on {device}; add --device cpu")
    return {
        name: measure_form_latencies(networks, batch_size=size, seconds=seconds) for name, size in _LATENCIES.items()
    }


def _add_latencies(described: Sequence[dict[str, Any]], times: _Times) -> dict[str, float]:
    """Add latencies to descriptions of networks; return what the first saves against the last."""
    saved = {}
    for name, latencies in times.items():
        for description, (frozen, *exports) in zip(described, (each.items() for each in latencies), strict=True):
            description[name] = frozen[1].to_dict()
            if exports:
                description.setdefault("exported", {})[name] = {form: each.to_dict() for form, each in exports}
        saved[name.removesuffix("_ms")] = latencies[0]["torch"].saved_percent(latencies[-1]["torch"])
    return saved


def _trained(ticket: Ticket) -> dict[str, Any]:
    return {"training": {name: ticket.training.get(name) for name in _TRAINING}} if ticket.training else {}


def add_latency(evaluated: Sequence[tuple[nn.Module, Record]], shape: Sequence[int]) -> None:
    """Time networks in turn, each where the first one is, and add what comes of it to their records.

    Args:
        evaluated: Networks, each with its record.
        shape: Of one image.

    Raises:
        ModelError: A network cannot be timed.
    """
    first = next(evaluated[0][0].parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    networks = [network for network, _ in evaluated]
    for name, latencies in time_networks(networks, device=device, example=torch.zeros(1, *shape)).items():
        for (_, record), latency in zip(evaluated, latencies, strict=True):
            setattr(record.model, name, latency.to_dict())
