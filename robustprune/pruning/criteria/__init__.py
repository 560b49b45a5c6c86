"""What blocks are worth: one criterion a file, each from a formula and its paper.

A criterion is a subclass of :class:`Criterion`: a pydantic model whose fields are its options and whose methods
score blocks, filters and weights; higher means keep. Name one as ``mine.py:Mine``, the class of a file, register it
with ``@CRITERIA.register("name")``, or install it through the entry-point group ``robustprune.criteria``. What it
scores
is a copy of the network, on batches of training images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import ModelError, PruningError
from robustprune.models import copy_network
from robustprune.models.user_file import load_attribute
from robustprune.pruning.blocks import Block
from robustprune.registry import Registry, read_options, read_tables, suggest
from robustprune.runtime.work import steps

__all__ = ["CRITERIA", "Criterion", "criterion_class", "make_criterion"]

CRITERIA = Registry("criterion", "robustprune.criteria", read_tables("pruning/criteria")["PLUGINS"])

BatchNormMode = Literal["batch", "running"]

Batches = Sequence[tuple[Tensor, Tensor]]
"""Images (n, C, H, W) in [0, 1] and labels (n,)."""


class Criterion(BaseModel, ABC):
    """An importance, higher = keep; its fields are its options.

    Every criterion scores blocks. One that has no meaning for single filters or weights says why in
    ``no_filter_scores`` or ``no_weight_scores`` and leaves the method as it is here. The model is never
    changed: what has to be is done to a copy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    no_filter_scores: ClassVar[str] = "it is defined for whole blocks only"
    no_weight_scores: ClassVar[str] = "it judges what comes out of a layer, not the weights in it"
    weight_rounds: ClassVar[int] = 1  # of scoring and masking single weights, unless said otherwise

    _progress: Callable[[float, float], None] | None = PrivateAttr(default=None)

    def telling(self, progress: Callable[[float, float], None] | None) -> Self:
        """Return the criterion, which tells how much of its work is done, and how much there is."""
        found = self.model_copy()
        found._progress = progress
        return found

    def steps(self, total: int) -> Callable[[], None]:
        """Return what is called after each step of the work, of which there are ``total``."""
        return steps(self._progress, total)

    @abstractmethod
    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return {block name: importance}."""

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return {layer: importance of each filter (filters,)} for the convolutions called ``layers``.

        Raises:
            PruningError: The criterion has no meaning for filters.
        """
        raise PruningError(f"{type(self).__name__} does not score filters: {self.no_filter_scores}")

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return {parameter: importance of each weight} for all convolutions and linear layers, in their shapes.

        Raises:
            PruningError: The criterion has no meaning for weights.
        """
        raise PruningError(f"{type(self).__name__} does not score weights: {self.no_weight_scores}")


def criterion_file(name: str) -> Path | None:
    """Return the user's own file that a criterion such as ``file:mine.py:Mine`` is in; None for any other."""
    path = name.removeprefix("file:").rpartition(":")[0]
    return Path(path) if name.startswith("file:") or path.endswith(".py") else None


def criterion_class(name: str) -> type[Criterion]:
    """Return the criterion ``name``, or the class ``mine.py:Mine`` of a file; its fields are the options it takes."""
    plain, colon, _ = name.partition(":")
    if file := criterion_file(name):
        try:
            criterion: Any = load_attribute(file, name.rpartition(":")[2])
        except ModelError as error:
            raise PruningError(f"criterion {name}: {error}") from error
    else:
        criterion = CRITERIA.get(name)
    if colon and not file:
        raise PruningError(
            f"the criterion {plain!r} takes no argument after a colon, got {name!r}; its options are written "
            f"{plain}:key=value, see `robustprune list criteria`"
        )
    if not (isinstance(criterion, type) and issubclass(criterion, Criterion)):
        raise PruningError(
            f"criterion {name} is {criterion!r}, no subclass of robustprune.pruning.Criterion; make it one, so that "
            "its options are checked and it says what it can score"
        )
    return criterion


def named_criterion(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a criterion's name without options, and those given with those written behind it, which count."""
    plain, own = read_options(name)
    return plain, {**options, **own}


def make_criterion(name: str, **options: Any) -> Criterion:
    """Return the criterion ``name`` with the given options; some may be written behind it, ``grasp:batch_size=32``.

    Raises:
        UnknownNameError: No criterion of that name.
        PruningError: An option it does not have, a value it cannot take, or a combination that means nothing.
    """
    name, options = named_criterion(name, options)
    criterion = criterion_class(name)
    try:
        return criterion(**options)
    except ValidationError as error:
        raise PruningError(f"criterion {name}: {_first_problem(error, criterion)}") from error


def _first_problem(error: ValidationError, criterion: Any) -> str:
    problem = error.errors()[0]
    option = ".".join(map(str, problem["loc"]))
    known = list(criterion.model_fields)
    if problem["type"] == "extra_forbidden":
        takes = f"It takes {', '.join(known)}." if known else "It takes no options."
        return f"there is no option {option!r}.{suggest(option, known)} {takes}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"option {option}={problem['input']!r}: {message}" if option else message


def scoring_copy(model: nn.Module, bn_mode: BatchNormMode) -> nn.Module:
    """Return a deep copy to score: dropout off, batch normalization as asked, gradients on.

    A network in half precision or bfloat16 is scored in single precision, as gradients and ranks drown in their
    rounding, and one laid out channels last in the usual order, as other kernels round otherwise.
    """
    network = copy_network(model)
    network.eval()
    network.to(memory_format=torch.contiguous_format)
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in (*network.parameters(), *network.buffers())):
        network.float()
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_(True)
        parameter.grad = None
    if bn_mode == "batch":
        for module in network.modules():
            if normalizes_batches(module):
                module.train()
    return network


def first_tensor(network: nn.Module) -> Tensor:
    """Return a tensor of the network's floating-point type, on its device."""
    tensors = [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
    return tensors[0] if tensors else torch.zeros(())


def normalizes_batches(module: nn.Module) -> bool:
    """Whether a module is a batch normalization, also where it is scripted and only the name of its class is left."""
    scripted = str(getattr(module, "original_name", ""))
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or scripted.startswith("BatchNorm")
