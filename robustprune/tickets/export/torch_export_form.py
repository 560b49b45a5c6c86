"""torch.export: a graph of torch's own operators that needs no class of the network to run."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


def encode(network: nn.Module, images: Tensor, metadata: Mapping[str, str]) -> bytes:
    """Return a ``.pt2`` file, which ``torch.export.load`` reads; see :class:`Form`."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to the exporter's developers; what it cannot do, it raises
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, buffer, extra_files=dict(metadata))
    return buffer.getvalue()


def decode(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return the program in the content; see :class:`Form`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(io.BytesIO(content)).module()

    def run(images: Tensor) -> Tensor:
        logits: Tensor = program(images)
        return logits

    return run
