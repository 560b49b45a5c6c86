"""ONNX: written by torch's exporter, run by onnxruntime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustprune.registry import missing_package
from robustprune.runtime.launch import logging_from

INPUT, OUTPUT = "images", "logits"


def encode(network: nn.Module, images: Tensor, metadata: Mapping[str, str]) -> bytes:
    """Return an ONNX file from ``images`` (batch, C, H, W) to ``logits`` (batch, K); see :class:`Form`."""
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


def decode(content: bytes) -> Callable[[Tensor], Tensor]:
    """Return an onnxruntime session over the content; see :class:`Form`."""
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
