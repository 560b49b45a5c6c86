"""The forms that a network can be exported to, ONNX and torch.export; what each needs is imported when it is used."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustprune.cost import noise_images
from robustprune.errors import ExportError, MissingDependencyError, in_one_line
from robustprune.inference import freeze
from robustprune.registry import missing_package, suggest
from robustprune.runtime.launch import logging_from

INPUT, OUTPUT = "images", "logits"
Runner = Callable[[Tensor], Tensor]
"""From float32 images (N, C, H, W) in [0, 1] to logits (N, K)."""


@dataclass(frozen=True)
class Form:
    """A form that a network can be exported to.

    Attributes:
        encode: From a network in evaluation mode, images (N ≥ 2, C, H, W) to trace with, and metadata to the file's
            content, which takes any number of images. Raises whatever the exporter does.
        decode: From the content to what it computes, on the CPU, with as many threads as torch has now.
    """

    encode: Callable[[nn.Module, Tensor, Mapping[str, str]], bytes]
    decode: Callable[[bytes], Runner]


def encode_network(network: nn.Module, form: str, metadata: Mapping[str, str]) -> tuple[bytes, Runner]:
    """Return a network's file in one of :data:`FORMS`, and what runs that file.

    Exported is the frozen copy (see :func:`robustprune.inference.freeze`), on the CPU; the network is left as it was.

    Raises:
        ExportError: There is no such form, or the network cannot be exported to it.
        MissingDependencyError: The form's packages are not installed.
        ModelError: The network cannot be run.
    """
    if form not in FORMS:
        raise ExportError(f"there is no format {form!r}.{suggest(form, FORMS)} Known: {', '.join(FORMS)}.")
    frozen = freeze(network).cpu()
    # Two images, as exporters take a single one for a constant.
    images = noise_images(network, 2).float()
    try:
        with torch.no_grad():
            content = FORMS[form].encode(frozen, images, metadata)
        return content, FORMS[form].decode(content)
    except MissingDependencyError:
        raise
    except Exception as error:
        # Exporters raise whatever a network makes them stumble over, at lengths of pages.
        detail = in_one_line(error)
        raise ExportError(
            f"this network cannot be exported to {form}: {type(error).__name__}: {detail}; another format may work "
            f"({', '.join(name for name in FORMS if name != form)})"
        ) from error


def encode_onnx(network: nn.Module, images: Tensor, metadata: Mapping[str, str]) -> bytes:
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
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None  # None is what the old exporter returns
        model = program.model_proto
        model.producer_name = "robustprune"
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def decode_onnx(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return an onnxruntime session over the content."""
    with _needed():
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
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
    """Keep the exporter's advice to its developers off the terminal; what it cannot do, it raises."""
    with warnings.catch_warnings(), logging_from(logging.ERROR, "torch.onnx", "torch.export", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")
        yield


def encode_program(network: nn.Module, images: Tensor, metadata: Mapping[str, str]) -> bytes:
    """Return a ``.pt2`` file, which ``torch.export.load`` reads."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice to the exporter's developers; what it cannot do, it raises
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        torch.export.save(program, buffer, extra_files=dict(metadata))
    return buffer.getvalue()


def decode_program(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return the program in the content."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(io.BytesIO(content)).module()

    def run(images: Tensor) -> Tensor:
        logits: Tensor = program(images)
        return logits

    return run


FORMS = {
    "onnx": Form(encode_onnx, decode_onnx),
    "torch-export": Form(encode_program, decode_program),
}
