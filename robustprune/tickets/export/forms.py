"""The forms that a network can be exported to; what each needs is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from robustprune.cost.images import noise_images
from robustprune.errors import ExportError, MissingDependencyError, in_one_line
from robustprune.inference import freeze
from robustprune.registry import suggest
from robustprune.tickets.export import onnx_form, torch_export_form

Runner = Callable[[Tensor], Tensor]
"""From float32 images (N, C, H, W) in [0, 1] to logits (N, K)."""


class Form(Protocol):
    """A module that makes a network into bytes, and bytes into something that runs."""

    def encode(self, network: nn.Module, images: Tensor, metadata: Mapping[str, str]) -> bytes:
        """Return the file's content; the number of images is left open.

        Args:
            network: In evaluation mode, without gradients; left as it is.
            images: (N, C, H, W), N ≥ 2, to trace with.
            metadata: Put into the file, name by name.

        Raises:
            Exception: Whatever the exporter raises for a network that it cannot follow.
            MissingDependencyError: The exporter is not installed.
        """

    def decode(self, content: bytes) -> Runner:
        """Return what the content computes, on the CPU, with as many threads as torch has now.

        Raises:
            MissingDependencyError: What runs it is not installed.
        """


FORMS: dict[str, Form] = {"onnx": onnx_form, "torch-export": torch_export_form}


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
