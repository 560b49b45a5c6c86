"""Scoring the blocks, filters or weights of a network without leaving a trace in it."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from robustprune.data import AnyData, ImageData, as_data
from robustprune.errors import PruningError, PruningWarning, RobustPruneError, in_one_line
from robustprune.models import Architecture, architecture_beside, for_images, model_device, placed, run_uncompiled
from robustprune.models.networks import plain_attention, without_checkpoints
from robustprune.pruning.blocks import Unit, find_blocks, removable_blocks
from robustprune.pruning.criteria import Criterion
from robustprune.pruning.criteria.by_name import make_criterion, named_criterion
from robustprune.runtime.devices import Device
from robustprune.runtime.html import html_table
from robustprune.runtime.kernels import sound_gradients
from robustprune.runtime.randomness import isolated_generators
from robustprune.runtime.work import Work, labelled, steps

Importance = TypeVar("Importance")


class Scores(dict[str, Importance]):
    """{name: importance}, higher = keep, with the criterion, its options in force, the seed and the seconds it took.

    ``architecture`` is that of the network that was scored, and says what images it takes; None where nothing does.
    ``unit`` is what of it was scored, where that is blocks or branches of them.
    """

    def __init__(
        self,
        scores: Mapping[str, Importance],
        *,
        criterion: str,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        seconds: float = 0.0,
        architecture: Architecture | None = None,
        unit: Unit = "block",
    ) -> None:
        """Keep the scores and their origin."""
        super().__init__(scores)
        self.criterion = criterion
        self.options = dict(options or {})
        self.seed = seed
        self.seconds = seconds
        self.architecture = architecture
        self.unit = unit


class BlockScores(Scores[float]):
    """{block name: importance}; a notebook shows the least important first, as they go."""

    def _repr_html_(self) -> str:
        rows = [[name, f"{score:.4g}"] for name, score in sorted(reversed(self.items()), key=lambda item: item[1])]
        title = f"{self.criterion} scores, lowest first (higher: more important; seed {self.seed})"
        return html_table(title, ["block", ">importance"], rows)


class FilterScores(Scores[Tensor]):
    """{convolution name: importance of each filter (filters,)}; a notebook shows the range in each convolution."""

    def _repr_html_(self) -> str:
        rows = [
            [name, str(len(each)), *(f"{float(value):.4g}" for value in (each.min(), each.median(), each.max()))]
            for name, each in self.items()
        ]
        title = f"{self.criterion} scores of filters (seed {self.seed})"
        return html_table(title, ["convolution", ">filters", ">least", ">median", ">greatest"], rows)


def score_blocks(
    model: nn.Module,
    data: AnyData,
    criterion: str = "grasp",
    *,
    seed: int = 0,
    unit: Unit = "block",
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> BlockScores:
    """Return the importance of every block that leaves the identity when it goes; higher = keep.

    The model's weights, buffers, gradients and modes and the process-wide random generators are left as they
    were.

    Args:
        model: Any network from images in [0, 1] to logits.
        data: The image set, or training images as for :func:`robustprune.as_data`; criteria sample its un-augmented
            training split.
        criterion: Name of a criterion, see ``robustprune list criteria``; or names joined by a plus, ``grasp+cka``,
            for the sum of their ranks.
        seed: Decides the sample.
        unit: ``block``; or ``attention`` or ``mlp``: the branches of that kind, see :func:`robustprune.find_blocks`.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Its progress is told of batches.
        options: The criterion's options. Without a ``batch_size``, as many images are taken at a time as fit.

    Raises:
        PruningError: No block can go, an option is wrong, a score is not finite, or a batch does not fit into memory.
    """
    criterion, options = named_criterion(criterion, options)
    chosen = make_criterion(criterion, **options)
    data = as_data(data, "train")
    model = placed(for_images(model, data), device)
    step = steps(labelled(work.progress, "finding blocks"), 1)
    blocks = removable_blocks(find_blocks(model, unit=unit))
    step()
    start = time.perf_counter()
    with scoring(model, criterion):
        chosen = settled(chosen, criterion, model, data, seed, work)
        scores = chosen.score(model, blocks, data, seed)
    seconds = time.perf_counter() - start
    for name, score in scores.items():
        if not math.isfinite(score):
            raise _not_finite(criterion, f"block {name}", score)
    if len(scores) > 1 and len(set(scores.values())) == 1:
        warnings.warn(
            f"criterion {criterion} scored all {len(scores)} blocks {next(iter(scores.values())):.6g}; it cannot tell "
            "them apart here, so the deepest go first",
            PruningWarning,
            stacklevel=2,
        )
    return BlockScores(scores, **origin(model, data, chosen, criterion, seed), seconds=seconds, unit=unit)


def score_filters(
    model: nn.Module,
    layers: Sequence[str],
    data: AnyData,
    criterion: str,
    *,
    seed: int = 0,
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> FilterScores:
    """Return the importance of each filter, {layer: (filters,) float64, on the CPU}; higher = keep.

    Args:
        model: Any network from images in [0, 1] to logits, left as it was.
        layers: Names of convolutions, such as those of :func:`robustprune.pruning.prunable_convolutions`.
        data: The image set, or training images as for :func:`robustprune.as_data`; criteria sample its un-augmented
            training split.
        criterion: Name of a criterion that has a meaning for filters.
        seed: Decides the sample.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Its progress is told of batches.
        options: The criterion's options.

    Raises:
        PruningError: A layer is no convolution, the criterion does not score filters, or a score is not finite.
    """
    criterion, options = named_criterion(criterion, options)
    modules = dict(model.named_modules())
    for layer in layers:
        if not isinstance(modules.get(layer), nn.modules.conv._ConvNd):
            raise PruningError(f"{layer!r} is no convolution of the network, so it has no filters to score")
    chosen = make_criterion(criterion, **options)
    data, model = as_data(data, "train"), placed(model, device)
    start = time.perf_counter()
    with scoring(model, criterion):
        chosen = settled(chosen, criterion, model, data, seed, work)
        scores = _checked(chosen.filter_scores(model, layers, data, seed), criterion)
    seconds = time.perf_counter() - start
    return FilterScores(scores, **origin(model, data, chosen, criterion, seed), seconds=seconds)


def origin(model: nn.Module, data: ImageData, chosen: Criterion, criterion: str, seed: int) -> dict[str, Any]:
    """Return where scores come from, as they keep it."""
    architecture = architecture_beside(model, data)
    return {"criterion": criterion, "options": chosen.model_dump(), "seed": seed, "architecture": architecture}


def score_weights(
    model: nn.Module,
    data: AnyData,
    criterion: str,
    *,
    seed: int = 0,
    device: Device = None,
    work: Work = Work(),
    **options: Any,
) -> dict[str, Tensor]:
    """Return the importance of each convolution and linear weight, {parameter: tensor of its shape, on the CPU}.

    Arguments and errors are those of :func:`score_filters`.
    """
    criterion, options = named_criterion(criterion, options)
    data, model = as_data(data, "train"), placed(model, device)
    with scoring(model, criterion):
        chosen = settled(make_criterion(criterion, **options), criterion, model, data, seed, work)
        return _checked(chosen.weight_scores(model, data, seed), criterion)


def settle_options(
    model: nn.Module, data: ImageData, criterion: str, options: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Return all options of a criterion, with the batch size that it takes of this network."""
    with scoring(model, criterion):
        return settled(make_criterion(criterion, **options), criterion, model, data, seed, Work()).model_dump()


def settled(chosen: Criterion, name: str, model: nn.Module, data: ImageData, seed: int, work: Work) -> Criterion:
    """Return a criterion that takes as many images at a time as fit, and tells of its progress."""
    chosen = chosen.settled(name, model, data, seed)
    return chosen.telling(labelled(work.progress, f"scoring by {name}{chosen.takes}"))


@contextmanager
def scoring(model: nn.Module, criterion: str) -> Iterator[None]:
    """Let a criterion take gradients of any network, and name both where the network does not allow it."""
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(isolated_generators(device=model_device(model)))
            stack.enter_context(sound_gradients(model))
            stack.enter_context(without_checkpoints())
            # Fused attention has no second derivative on a CPU, and hides its activations.
            stack.enter_context(plain_attention())
            stack.enter_context(run_uncompiled(model))
            yield
    except (RobustPruneError, Warning, MemoryError):
        raise
    except Exception as error:
        raise PruningError(
            f"criterion {criterion} cannot score this {type(model).__name__}, which raised "
            f"{type(error).__name__}: {in_one_line(error)}"
        ) from error


def _checked(scores: dict[str, Tensor], criterion: str) -> dict[str, Tensor]:
    scores = {name: values.detach().cpu() for name, values in scores.items()}
    for name, values in scores.items():
        wrong = values[~values.isfinite()]
        if len(wrong):
            raise _not_finite(criterion, f"{len(wrong)} of {name}", float(wrong[0]))
    return scores


def _not_finite(criterion: str, what: str, score: float) -> PruningError:
    return PruningError(
        f"criterion {criterion} scored {what} as {score}; the network's activations or gradients leave the finite "
        "numbers at its current weights, so it cannot be ranked"
    )
