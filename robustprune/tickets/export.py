"""Tickets as files that run elsewhere: ONNX and torch.export, each compared with the ticket before it is written."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustprune._version import __version__
from robustprune.cost import Latency, noise_images
from robustprune.cost.timing import frozen_run, time_runs
from robustprune.data import AnyData, as_data
from robustprune.errors import ExportError, MissingDependencyError, in_one_line
from robustprune.inference import freeze
from robustprune.inference.frozen import TOLERANCE
from robustprune.models import evaluation_mode, logit_gap, model_device, run_model
from robustprune.models.returned import LogitsAlone
from robustprune.registry import missing_package, suggest
from robustprune.runtime.file_kinds import EXPORT
from robustprune.runtime.files import printable, write_atomically
from robustprune.runtime.launch import logging_from
from robustprune.runtime.work import Work, labelled, steps
from robustprune.tickets.ticket import Ticket

BATCH_SIZES = (1, 2, 5, 17)

Runner = Callable[[Tensor], Tensor]
"""From float32 images (N, C, H, W) in [0, 1] to logits (N, K)."""


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


def export_model(
    ticket: Ticket | nn.Module,
    path: str | Path,
    format: str = "onnx",
    *,
    data: AnyData | None = None,
    work: Work = Work(),
) -> Exported:
    """Write a network as a file from float32 images (N, C, H, W) in [0, 1] to logits (N, K), for any N.

    Normalization is inside and batch normalization folded away. The content is run (ONNX in onnxruntime, a program
    of torch.export after it was read back) on batches of 1, 2, 5 and 17 images of noise; only if each logit
    lies within 1e-4 of the batch's largest from the ticket's own is the file written, whole or not at all.

    Args:
        ticket: A ticket, or a network, which is left as it is.
        path: The file.
        format: ``onnx`` or ``torch-export``.
        data: The image set, or images as for :func:`robustprune.as_data`, which say what a network takes that was not
            built here.
        work: Its progress is told of the export, and of each batch that is compared.

    Raises:
        ExportError: There is no such format, the network cannot be exported, the export computes something else,
            the file cannot be written, or a file of another kind is there.
        MissingDependencyError: ONNX's packages, the extra ``export``, are not installed.
    """
    if not isinstance(ticket, Ticket):
        ticket = Ticket.from_model(ticket, None if data is None else as_data(data, "train"))
    metadata = _metadata(ticket)
    step = steps(labelled(work.progress, f"export to {format}"), 1 + len(BATCH_SIZES))
    content, run = encode_network(ticket.network, format, metadata)
    step()
    difference = _compare(ticket, run, format, step)
    try:
        write_atomically(Path(path), content, EXPORT)
    except OSError as error:
        raise ExportError(f"the export cannot be written to {path}: {error.strerror}") from error
    return Exported(str(path), format, len(content), difference, BATCH_SIZES, metadata)


def _compare(ticket: Ticket, run: Runner, format: str, step: Callable[[], None]) -> float:
    """Return the largest difference between a file's logits and the ticket's own, relative to the largest logit."""
    worst = 0.0
    for size in BATCH_SIZES:
        images = noise_images(ticket.network, size).float()
        with evaluation_mode(ticket.network), torch.no_grad():
            expected = run_model(ticket.network, images.to(model_device(ticket.network))).cpu()
        try:
            difference = logit_gap(expected, run(images))
        except Exception as error:
            raise ExportError(
                f"the {format} export does not run on {size} images: {in_one_line(error)}; nothing written"
            ) from error
        if not difference <= TOLERANCE:  # as NaN neither is nor is not
            raise ExportError(
                f"the {format} export computes something else than the ticket: logits of {size} images differ by "
                f"{difference:.2g} of the largest, {TOLERANCE:g} is allowed; nothing written. A network that draws at "
                "random, or treats an image by the others of its batch, cannot be exported"
            )
        worst = max(worst, difference)
        step()
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

    Arguments are those of :func:`robustprune.cost.measure_latencies`; returned is each network's latency by form.
    """
    runs: list[Callable[[], object]] = []
    for model in models:
        images = noise_images(model, batch_size).float()
        runs.append(frozen_run(model, batch_size))
        runs += [partial(encode_network(model, form, {})[1], images) for form in FORMS]
    latencies = iter(time_runs(runs, batch_size=batch_size, seconds=seconds))
    return [{form: next(latencies) for form in ("torch", *FORMS)} for _ in models]


class Form(NamedTuple):
    """A form that a network can be exported to: its file, for any number of images, and what that computes."""

    encode: Callable[[nn.Module, Tensor, Mapping[str, str]], bytes]
    decode: Callable[[bytes], Runner]


def encode_network(network: nn.Module, form: str, metadata: Mapping[str, str]) -> tuple[bytes, Runner]:
    """Return a network's file in one of :data:`FORMS`, and what runs that file.

    Exported is the frozen copy (see :func:`robustprune.inference.freeze`), on the CPU; the network is left as it was.
    """
    if form not in FORMS:
        raise ExportError(f"there is no format {form!r}.{suggest(form, FORMS)} Known: {', '.join(FORMS)}.")
    frozen = freeze(network).cpu()
    # Two images, as exporters take a single one for a constant.
    images = noise_images(network, 2).float()
    try:
        with torch.no_grad():
            found = frozen(images)
            is_plain = isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] > 1
            content = FORMS[form].encode(frozen if is_plain else LogitsAlone(frozen), images, metadata)
        return content, FORMS[form].decode(content)
    except MissingDependencyError:
        raise
    except Exception as error:
        # Exporters raise whatever a network makes them stumble over, at lengths of pages.
        why = f"{type(error).__name__}: {in_one_line(error)}"
        raise ExportError(
            f"this network cannot be exported to {form}: {why}; another format may work "
            f"({', '.join(name for name in FORMS if name != form)})"
        ) from error


def _encode_onnx(network: nn.Module, images: Tensor, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX file from ``images`` (batch, C, H, W) to ``logits`` (batch, K)."""
    with _needed(), _quiet():
        import onnx
        import onnxscript  # noqa: F401 (torch's exporter asks for it late, with an error of its own)

        program = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None  # None is what the old exporter returns
        model = program.model_proto
        model.producer_name = "robustprune"
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _decode_onnx(content: bytes) -> Runner:
    """Return an onnxruntime session over the content."""
    with _needed():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


@contextmanager
def _needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("onnx", "onnxscript", "onnx_ir", "onnxruntime"):
            raise
        raise missing_package("ONNX", package, extra="export") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' advice to their developers off the terminal; what they cannot do, they raise."""
    with warnings.catch_warnings(), logging_from(logging.ERROR, "torch.onnx", "torch.export", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")
        yield


def _encode_program(network: nn.Module, images: Tensor, metadata: Mapping[str, str]) -> bytes:
    """Return a ``.pt2`` file, which ``torch.export.load`` reads."""
    buffer = io.BytesIO()
    with _quiet():
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, buffer, extra_files=dict(metadata))
    return buffer.getvalue()


def _decode_program(content: bytes) -> Runner:
    """Return the program in the content."""
    with _quiet():
        return torch.export.load(io.BytesIO(content)).module()


FORMS = {
    "onnx": Form(_encode_onnx, _decode_onnx),
    "torch-export": Form(_encode_program, _decode_program),
}
