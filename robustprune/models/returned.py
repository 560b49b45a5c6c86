"""Logits out of whatever a classifier returns: the first of several, a field of an object, one logit for two classes.

What a network returns is nothing but a tensor of logits in half of the libraries only: those of Hugging Face return an
object with ``.logits``, torchvision's segmentation networks a dictionary, its Inception a tuple in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError

_KEYS = ("logits", "out")

_PROBABILITIES = ("Sigmoid", "Hardsigmoid", "Softmax")
"""What the operation is called, in part, that makes probabilities of logits."""
_RESHAPING = ("View", "Squeeze", "Unsqueeze", "Reshape", "Select", "Slice", "Flatten", "ToCopy", "Clone", "Alias")


def pick_logits(outputs: Any) -> Any:
    """Return the logits among what a network returned, wherever they are; what has none comes back as it is.

    That is its ``.logits``, its ``["logits"]`` or ``["out"]``, or the first of a tuple or list.
    """
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(getattr(outputs, "logits", None), Tensor):
        return outputs.logits
    if isinstance(outputs, Mapping):
        found = next((outputs[key] for key in _KEYS if key in outputs), None)
        return outputs if found is None else pick_logits(found)
    if isinstance(outputs, tuple | list) and len(outputs):
        first = pick_logits(outputs[0])
        return first if isinstance(first, Tensor) else outputs
    return outputs


def check_logits(outputs: Any, count: int, with_graph: Callable[[], Tensor | None]) -> Tensor:
    """Return the logits (n, K) among what a network returned for ``count`` images; a single one z as (0, z).

    Two classes with logits 0 and z have the probabilities 1 − σ(z) and σ(z), as a binary classifier means it.
    ``with_graph`` returns what the network returns for them, with the graph that shows what made it, or None.

    Raises:
        ModelError: There are none, or the one there is has been through a sigmoid already.
    """
    logits = pick_logits(outputs)
    if not isinstance(logits, Tensor):
        raise ModelError(f"{_described(outputs)}; wrap it in a module that returns a tensor of logits (N, K)")
    is_single = logits.shape == (count, 1) or (logits.ndim < 2 and logits.numel() == count)
    if is_single and logits.is_floating_point():
        logits = logits.reshape(count, 1)
        if _may_be_probability(logits) and _is_probability(with_graph()):
            raise ModelError(
                "the model returned one probability for each image, not a logit: leave its last sigmoid out (as for "
                "BCEWithLogitsLoss), or wrap it in a module that returns torch.special.logit of what it returns"
            )
        return torch.cat([torch.zeros_like(logits), logits], dim=1)
    if logits.ndim != 2 or len(logits) != count or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ModelError(
            f"expected floating-point logits ({count}, K) with K ≥ 2 classes, or one logit of a binary classifier, "
            f"the model returned {logits.dtype} of shape {tuple(logits.shape)}"
        )
    return logits


class LogitsAlone(nn.Module):
    """A network that returns the logits (n, K ≥ 2) of another and nothing else, as what is exported has to."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K) of images (n, …)."""
        logits: Tensor = pick_logits(self.network(images))
        if logits.ndim == 2 and logits.shape[1] > 1:
            return logits
        logits = logits.flatten()  # not by their number, which exporters take for a constant
        return torch.stack([torch.zeros_like(logits), logits], dim=1)


def _described(outputs: Any) -> str:
    """Return in words what a network returned in place of logits."""
    found = f"the model returned {type(outputs).__name__} instead of a tensor of logits"
    if isinstance(outputs, Mapping):
        return f"{found}, with {', '.join(map(repr, outputs)) or 'nothing'} in it, none of which is 'logits' or 'out'"
    if isinstance(outputs, tuple | list):
        return f"{found}, whose first entry is " + (type(outputs[0]).__name__ if len(outputs) else "missing")
    return found


def _may_be_probability(values: Tensor) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


def _is_probability(logit: Tensor | None) -> bool:
    """Return whether the last thing that was done to a tensor made probabilities, as far as its graph shows."""
    node = None if logit is None else logit.grad_fn
    while node is not None:
        name = node.name()
        if any(kind in name for kind in _PROBABILITIES):
            return True
        if not any(kind in name for kind in _RESHAPING):
            return False
        node = node.next_functions[0][0]
    return False
