"""How long the evaluated networks take to answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from robustprune.errors import ModelError
from robustprune.evaluation.costs import time_networks
from robustprune.records import Record


def check_timing(model: Any) -> None:
    """Check that there is a frozen copy to time.

    Raises:
        ModelError: The network is a plain function, which cannot be copied.
    """
    if callable(model) and not isinstance(model, nn.Module):
        raise ModelError("a plain function cannot be timed, as what is timed is a frozen copy; hand over an nn.Module")


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
