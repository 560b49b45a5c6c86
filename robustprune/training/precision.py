"""Mixed precision (Micikevicius et al. 2018, arXiv:1710.03740): some operations of training passes in 16 bits.

Weights, gradients, the optimizer's state, losses and running statistics stay in single precision, as do attacks,
validation and everything that comes after training. Which operations are computed in 16 bits is for ``torch.autocast``
to say, for each kind of device.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn import functional as F

from robustprune.errors import TrainingError
from robustprune.models import logits_of, model_type
from robustprune.models.networks import reason_of

_KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_LEAST_SCALE = 1e-4
"""Of losses in half precision: gradients that are infinite even then are no overflow (fairseq's --min-loss-scale)."""


def training_logits(trained: nn.Module, images: Tensor, precision: str) -> Tensor:
    """Return logits (n, K) of a training pass: in single precision where it is mixed, else as the network gives them.

    Args:
        trained: The network, or what looks after its gradients.
        images: (n, C, H, W) of the type that the network takes.
        precision: As in :class:`robustprune.training.Recipe`.
    """
    if precision not in _KINDS:
        return logits_of(trained, images)
    with torch.autocast(images.device.type, _KINDS[precision]):
        return logits_of(trained, images).float()


def make_scaler(precision: str, device: torch.device) -> GradScaler:
    """Return what scales losses so that gradients in half precision do not vanish; with any other it does nothing."""
    return GradScaler(device.type, enabled=precision == "fp16")


def is_overflow(scaler: GradScaler) -> bool:
    """Return whether gradients that are not finite call for a smaller scale, and the step is but left out."""
    return scaler.is_enabled() and scaler.get_scale() >= _LEAST_SCALE


def describe_precision(network: nn.Module, precision: str) -> str:
    """Return what a ticket keeps: the precision asked for, or the type of weights that are not in single precision."""
    kind = model_type(network)
    return precision if kind == torch.float32 else str(kind).removeprefix("torch.")


def check_precision(network: nn.Module, precision: str, device: torch.device) -> None:
    """Check that a network can be trained in a precision on a device.

    Raises:
        TrainingError: The network has weights of another type than float32, or the device cannot compute so.
    """
    if precision not in _KINDS:
        return
    kinds = {value.dtype for value in network.parameters() if value.is_floating_point()} - {torch.float32}
    if kinds:
        found = " and ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))
        raise TrainingError(
            f"precision {precision} computes in 16 bits with weights in float32, and this network has weights in "
            f"{found}. Leave --precision out to train it in its own type, or convert it by network.float()"
        )
    reason = _reason_against(_KINDS[precision], device)
    if reason is not None:
        others = " or ".join(each for each in ("bf16", "fp32") if each != precision)
        raise TrainingError(
            f"the device {str(device)!r} cannot train in {precision}: {reason}. Train in {others} (--precision)"
        )


def _reason_against(kind: torch.dtype, device: torch.device) -> str | None:
    """Return why a convolution cannot be learnt in 16 bits there; None where it can."""
    options: dict[str, Any] = {"device": device, "requires_grad": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where torch leaves it at a warning, the type of the result tells
            with torch.enable_grad(), torch.autocast(device.type, kind):
                result = F.conv2d(torch.ones(2, 8, 8, 8, **options), torch.ones(8, 8, 3, 3, **options))
            result.float().sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever a backend raises
        return " ".join(reason_of(error).split()).rstrip(".")
    return None if result.dtype == kind else "torch.autocast leaves its convolutions in float32"
