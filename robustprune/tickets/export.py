"""Tickets as files that run elsewhere: ONNX and torch.export, each compared with the ticket before it is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustprune._version import __version__
from robustprune.cost import Latency, noise_images
from robustprune.cost.timing import frozen_run, time_runs
from robustprune.errors import ExportError, in_one_line
from robustprune.inference.frozen import TOLERANCE
from robustprune.models import evaluation_mode, logit_gap, model_device, run_model
from robustprune.runtime.files import printable, write_atomically
from robustprune.runtime.kinds import EXPORT
from robustprune.tickets.export_forms import FORMS, Runner, encode_network
from robustprune.tickets.ticket import Ticket

BATCH_SIZES = (1, 2, 5, 17)


@dataclass(frozen=True)
class Exported:
    """What was written, and how close it came.

    Attributes:
        out: The file.
        format: ``onnx`` or ``torch-export``.
        bytes: Its size.
        largest_difference: Between a logit of the file and the ticket's, as a share of the largest logit of its batch.
        batch_sizes: Of the batches that were compared.
        metadata: What the file says of itself.
    """

    out: str
    format: str
    bytes: int
    largest_difference: float
    batch_sizes: tuple[int, ...]
    metadata: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it by name."""
        return {**asdict(self), "batch_sizes": list(self.batch_sizes)}


def export_model(ticket: Ticket, path: str | Path, format: str = "onnx") -> Exported:
    """Write a ticket's network as a file from float32 images (N, C, H, W) in [0, 1] to logits (N, K), for any N.

    Normalization is inside and batch normalization folded away. The content is run (ONNX in onnxruntime, a program
    of torch.export after it was read back) on batches of 1, 2, 5 and 17 images of noise; only if each logit
    lies within 1e-4 of the batch's largest from the ticket's own is the file written, whole or not at all.

    Raises:
        ExportError: There is no such format, the network cannot be exported, the export computes something else,
            the file cannot be written, or a file of another kind is there.
        MissingDependencyError: ONNX's packages, the extra ``export``, are not installed.
    """
    metadata = _metadata(ticket)
    content, run = encode_network(ticket.network, format, metadata)
    difference = _compare(ticket, run, format)
    try:
        write_atomically(Path(path), content, EXPORT)
    except OSError as error:
        raise ExportError(f"the export cannot be written to {path}: {error.strerror}") from error
    return Exported(str(path), format, len(content), difference, BATCH_SIZES, metadata)


def _compare(ticket: Ticket, run: Runner, format: str) -> float:
    """Return the largest difference between a file's logits and the ticket's own, relative to the largest logit.

    Raises:
        ExportError: It is above the tolerance, or the file does not run on some number of images.
    """
    worst = 0.0
    for size in BATCH_SIZES:
        images = noise_images(ticket.network, size).float()
        with evaluation_mode(ticket.network), torch.no_grad():
            expected = run_model(ticket.network, images.to(model_device(ticket.network))).cpu()
        try:
            found = run(images)
        except Exception as error:
            detail = in_one_line(error)
            raise ExportError(
                f"the {format} export does not run on {size} images: {detail}; nothing written"
            ) from error
        if found.shape != expected.shape:
            shapes = f"{tuple(found.shape)}, the ticket's {tuple(expected.shape)}"
            raise ExportError(f"the {format} export's logits of {size} images have the shape {shapes}; nothing written")
        difference = logit_gap(expected, found)
        if not difference <= TOLERANCE:  # as NaN neither is nor is not
            raise ExportError(
                f"the {format} export computes something else than the ticket: logits of {size} images differ by "
                f"{difference:.2g} of the largest, {TOLERANCE:g} is allowed; nothing written. A network that draws at "
                "random, or treats an image by the others of its batch, cannot be exported"
            )
        worst = max(worst, difference)
    return worst


def _metadata(ticket: Ticket) -> dict[str, str]:
    built = ticket.architecture
    return {
        "robustprune": __version__,
        "architecture": printable(built.name),
        "classes": str(built.num_classes),
        "input": f"float32 (N, {built.channels}, {built.image_size[0]}, {built.image_size[1]}) in [0, 1]",
        "removed": json.dumps(list(ticket.plan.removed)),
        "method": ticket.plan.method,
        "dataset": printable(str(ticket.data.get("name", ""))),
        "ticket_sha256": ticket.sha256,
    }


def measure_form_latencies(
    models: Sequence[nn.Module], *, batch_size: int = 1, seconds: float = 2.0
) -> list[dict[str, Latency]]:
    """Time networks in every form, in turn, on the CPU: ``torch`` (the frozen copy), ``onnx`` and ``torch-export``.

    Args:
        models: Networks from :func:`robustprune.build_model` that take like images.
        batch_size: Images per pass.
        seconds: For how long to measure; at least five passes of each are made.

    Returns:
        For each network, its latency by form.

    Raises:
        ExportError: A network cannot be exported.
        MissingDependencyError: ONNX's packages, the extra ``export``, are not installed.
    """
    runs: list[Callable[[], object]] = []
    for model in models:
        runs.append(frozen_run(model, batch_size))
        runs += [_pass(encode_network(model, form, {})[1], model, batch_size) for form in FORMS]
    latencies = iter(time_runs(runs, batch_size=batch_size, seconds=seconds))
    return [{form: next(latencies) for form in ("torch", *FORMS)} for _ in models]


def _pass(runner: Runner, model: nn.Module, batch_size: int) -> Callable[[], object]:
    images = noise_images(model, batch_size).float()
    return lambda: runner(images)
