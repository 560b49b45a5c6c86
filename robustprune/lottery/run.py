"""Algorithms 1 and 2 of *When Layers Play the Lottery, all Tickets Win at Initialization* (arXiv:2301.10835)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.lottery.results import LotteryResults, Row
from robustprune.lottery.stages import Stages
from robustprune.models import build_model
from robustprune.records import Record
from robustprune.runtime.work import Progress, Work
from robustprune.tickets.draws import make_draws
from robustprune.tickets.finding import check_network
from robustprune.tickets.rewinding import RewindPoint, parse_rewind_points
from robustprune.training import Recipe


def run_lottery(
    folder: str | Path,
    data: ImageData,
    *,
    model: str = "resnet32",
    model_options: Mapping[str, Any] | None = None,
    criteria: Sequence[str] = ("grasp",),
    criterion_options: Mapping[str, Any] | None = None,
    blocks: Sequence[int] = (1,),
    methods: Sequence[str] = ("layer",),
    eligibility: str = "authors",
    match_by: str = "filters",
    rewind_to: Sequence[str | int] = (0,),
    at_init: bool = False,
    seeds: Sequence[int] = (0,),
    recipe: str | Recipe = "quick",
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    device: torch.device | str = "cpu",
    country: str | None = "USA",
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> LotteryResults:
    """Find tickets of a network, train them, and compare their test accuracy with the dense network's.

    Algorithm 1: train the dense network for n epochs; score its blocks; remove the least important; set what is
    kept back to what it was after i epochs, buffers included; train for n − i epochs under the schedule resumed at i.
    Algorithm 2 (``at_init``): score the initialized network, remove, train for n epochs.

    The dense network of a seed is trained once, for every criterion, density and rewinding point. Each stage leaves a
    file in the folder and is not run again; a call that was interrupted, or one that asks for more, picks up there.

    Args:
        folder: Of all files; one folder is about one network, image set and recipe.
        data: The image set, with training and test images; the same for every seed.
        model: Name of a network, see :func:`robustprune.build_model`.
        model_options: What its builder takes.
        criteria: Names of criteria.
        criterion_options: Their options; each criterion is given those that it takes.
        blocks: How many blocks go; one ticket for each number.
        methods: ``layer``; ``filter`` and ``filter-uniform``, until they cost what the layer ticket does.
        eligibility: Which blocks may go: ``authors``, ``strict`` or ``identity``.
        match_by: Which cost of the layer ticket filter-pruned ones match: ``filters``, ``macs`` or ``params``.
        rewind_to: Epochs (0, 25), shares of all epochs (``"25%"``), or ``"random"``: new weights.
        at_init: Algorithm 2 instead of 1.
        seeds: Each decides initial weights, scores and order of training of a dense network and its tickets.
        recipe: As for :func:`robustprune.train`, like ``epochs``, ``batch_size``, ``learning_rate``, ``device`` and
            ``country``.
        epochs: In place of the recipe's.
        batch_size: In place of the recipe's.
        learning_rate: In place of the recipe's.
        device: Where to compute.
        country: Of the grid, for CO₂; None measures no energy.
        say: Called with a line about each stage that is run.
        progress: Called as work proceeds.

    Raises:
        PruningError: More blocks than can go, a rewinding point that leaves nothing to train, settings that make no
            sense, or a folder with a lottery of other settings.
        TrainingError: Training diverges.
    """
    full_recipe = Recipe.of(recipe, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    rules = {"eligibility": eligibility, "match_by": match_by}
    draws = make_draws(criteria, blocks, methods=methods, options=criterion_options, at_init=at_init, **rules)
    points = parse_rewind_points(rewind_to, full_recipe.epochs)
    if not seeds:
        raise PruningError("no seed is named, so there is no dense network to find tickets in")
    if at_init and any(point.epoch for point in points):
        raise PruningError(
            "a ticket found at initialization starts from the initial weights: rewind to 0 (or random), or score after "
            "the dense training"
        )
    for split in ("train", "test"):
        data.require(split)
    check_network(build_model(model, data, **(model_options or {})), draws)
    tell = progress or (lambda _label, _done, _total: None)
    stages = Stages(
        folder=Path(folder),
        data=data,
        model=model,
        model_options=dict(model_options or {}),
        recipe=full_recipe,
        device=torch.device(device),
        training={"country": country, "work": Work(progress=progress)},
        say=say or (lambda _line: None),
    )
    stages.claim_folder()
    dense: dict[int, Record] = {}
    tickets: dict[tuple[int, str, RewindPoint], Record] = {}
    for seed in seeds:
        dense[seed] = stages.dense(seed, keep=[point.epoch for point in points])
        for draw in draws:
            for point in points:
                tell("networks", len(dense) + len(tickets), len(seeds) * (1 + len(draws) * len(points)))
                tickets[seed, draw.name, point] = stages.play(seed, draw, point)
    rows = tuple(
        Row.compare(draw, point, dense, {seed: tickets[seed, draw.name, point] for seed in seeds})
        for draw in draws
        for point in points
    )
    return LotteryResults(model, data.name, full_recipe.epochs, dense, rows)
