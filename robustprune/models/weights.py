"""Published weights from a local file into a network that has been built; only tensors are ever read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.errors import ModelError
from robustprune.models.adapter import AdaptedNetwork

_WRAPPERS = ("last", "state_dict", "model_state_dict", "model")
"""Keys under which checkpoints keep the weights; "last" before "best", as RobustBench's loader chooses."""

_PREFIXES = ("module.", "model.")
"""What DataParallel and wrappers with a normalization layer put before every name."""

_LEFTOVERS = ("model_preact_hl1.", ".scores")
"""Entries of RobustBench's files that its own networks have no place for (``_safe_load_state_dict`` there)."""


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load a file of weights into a network.

    Every parameter and running statistic of the network has to be in the file with its shape; constants such as
    a mean that the network knows by itself may be missing. Nothing in the file is executed.

    Args:
        network: Changed in place. For one from another package, the file has that package's names.
        path: A file written by ``torch.save``: a state dict, bare or within a checkpoint.

    Raises:
        ModelError: No such file, a file with more than plain tensors, or weights that do not fit.
    """
    path = Path(path)
    target = network.network if isinstance(network, AdaptedNetwork) else network
    wanted = target.state_dict()
    weights = _rename(_read(path), wanted)
    parameters = {name for name, _ in target.named_parameters()}
    needed = [name for name in wanted if name in parameters or "running_" in name]
    missing = [name for name in needed if name not in weights]
    strange = [name for name in weights if name not in wanted and not any(part in name for part in _LEFTOVERS)]
    wrong = [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    for problem, names in (("lacks", missing), ("has beyond it", strange), ("has in another shape", wrong)):
        if names:
            shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
            raise ModelError(f"the weights in {path} do not fit this network: the file {problem} {shown}")
    target.load_state_dict({name: value for name, value in weights.items() if name in wanted}, strict=False)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"there is no file {path} with weights") from None
    except Exception as error:  # torch raises half a dozen unrelated types here
        raise ModelError(
            f"{path} cannot be read as weights: it is damaged, or holds more than plain tensors and containers, which "
            "could run code and is therefore refused"
        ) from error
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return content
        content = inner
    raise ModelError(f"{path} holds a {type(content).__name__}, not named weights")


def _rename(weights: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by the network's own names: prefixes go as long as none of the names is known."""
    found = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        if not found.keys() & wanted.keys():
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found
