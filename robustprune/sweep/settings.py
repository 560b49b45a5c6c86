"""What a sweep's file may say: one run's settings, how many runs are made of them, and which runs these are."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from robustprune.errors import DataError, RobustPruneError, SweepError
from robustprune.evaluation.requests import Evaluation
from robustprune.registry import read_options, suggest
from robustprune.runtime.devices import parse_device
from robustprune.runtime.requests import Request
from robustprune.sweep.document import merge, put, refuse_twice
from robustprune.sweep.until import Until
from robustprune.tickets.requests import Pruning
from robustprune.training.recipes import RECIPES, Recipe

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


def _device_name(name: str) -> str:
    if name != "auto":
        parse_device(name)
    return name


def _of_a_network(options: dict[str, Any]) -> dict[str, Any]:
    for name in options.keys() & {"name", "data", "seed"}:
        raise ValueError(f"{name} is no option of a network; it is a setting of its own")
    return options


DeviceName = Annotated[str, AfterValidator(_device_name)]
"""``auto``, or any name that torch has for devices, be there one on this machine or not."""


class DataSettings(Request):
    """The image set: arguments of :func:`robustprune.load_data`.

    Its seed is its own: the same images are held out whatever the seed of a run.
    """

    FIRST: ClassVar[str | None] = "name"
    ERROR: ClassVar[type[RobustPruneError]] = DataError

    name: str = "digits"
    root: str | None = None
    image_size: Annotated[int, Field(ge=8)] | None = None
    channels: Literal[1, 3] | None = None
    train_limit: Count | None = None
    validation_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    seed: Seed = 0
    stream: bool | None = None
    workers: Seed = 0
    download: bool = False


class RunSettings(Request):
    """One network: how it is made, pruned, trained and measured.

    Attributes:
        model: Name of the network; options may be written behind it, ``resnet32:width=32``.
        model_options: What its builder takes.
        data: The image set.
        recipe: How the dense network and its tickets are trained; ``distill`` is of tickets, whose teacher is the dense
            network of the same seed.
        ticket_recipe: Fields of the recipe that tickets are trained with otherwise.
        pruning: What goes, and where the weights of the rest come from.
        evaluate: What is measured; its attacks may say ``transfer_from: dense``, the dense network of the same seed.
        seed: Of initial weights, scoring, and the order of training.
        order_seed: Of the order of training images and their augmentation, where it is to be another one.
        threads: Of a process; part of what decides how sums are rounded, and so of a run's identity.
        device: Where to compute.
        country: Whose grid's carbon intensity counts; None measures no energy.
    """

    ERROR: ClassVar[type[RobustPruneError]] = SweepError

    model: str = "resnet32"
    model_options: Annotated[dict[str, Any], AfterValidator(_of_a_network)] = Field(default_factory=dict)
    data: DataSettings = DataSettings()
    recipe: Recipe = Field(default_factory=lambda: Recipe("quick"))
    ticket_recipe: dict[str, Any] = Field(default_factory=dict)
    pruning: Pruning = Pruning()
    evaluate: Evaluation = Evaluation()
    seed: Seed = 0
    order_seed: Seed | None = None
    threads: Count = 1
    device: DeviceName = "auto"
    country: str | None = "USA"

    @classmethod
    def _read_name(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if not isinstance(given.get("model"), str):
            return given
        model, own = read_options(given["model"])
        options = {"model_options": {**given.get("model_options", {}), **own}} if own else {}
        return {**given, "model": model, **options}

    @model_validator(mode="after")
    def _of_tickets(self) -> Self:
        name = str(self.ticket_recipe.get("name", self.recipe.name))
        if name != self.recipe.name and name in RECIPES:
            raise ValueError(
                f"ticket_recipe has fields of the recipe, such as epochs, and {name!r} is a whole recipe, whose fields "
                "would be those of the dense network's all the same; give its fields instead"
            )
        _ = self.own_recipe
        return self

    @property
    def own_recipe(self) -> Recipe:
        """How the network of this run is trained."""
        return self.recipe if self.is_dense else Recipe.of(self.recipe.model_dump(), **self.ticket_recipe)

    @property
    def is_dense(self) -> bool:
        """Whether nothing goes."""
        return self.pruning.method == "dense"

    @property
    def title(self) -> str:
        """What a reader calls the run; others of a sweep may have the same."""
        asked, order = self.pruning, "" if self.order_seed is None else f" order {self.order_seed}"
        if self.is_dense:
            return f"dense{order} seed {self.seed}"
        named = f"without {', '.join(asked.blocks)}" if isinstance(asked.blocks, tuple) else asked.blocks
        size = named if asked.sparsity is None else asked.sparsity
        size = f"{asked.budget or size} {asked.way}".rstrip()
        chosen = f" {asked.choice}" if asked.choice != "lowest" else ""
        rewound = f" from {asked.rewind}" if asked.rewind != 0 else ""
        rewound = " fine-tuned" if asked.rewind == "none" else rewound
        by = "" if asked.criterion is None else f" {asked.criterion}"
        unit = "" if asked.unit == "block" else f" {asked.unit}"
        return f"{asked.method}{unit}{by} {size}{chosen}{rewound}{order} seed {self.seed}"

    @property
    def key(self) -> str:
        """All settings as one text: equal for equal runs."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    def as_dense(self) -> RunSettings:
        """Return the run of the dense network that this one's is compared with."""
        # Nor the temperature: otherwise each one would have a dense network of its own.
        plain = {name: Recipe.model_fields[name].default for name in ("distill", "distill_temperature")}
        recipe = self.recipe.model_copy(update=plain)
        return self.model_copy(update={"pruning": Pruning("dense"), "recipe": recipe, "ticket_recipe": {}})


class SweepSettings(RunSettings):
    """A sweep's file: the settings that all runs share, and those that differ.

    Attributes:
        name: Of the sweep; by default the file's.
        description: For readers.
        grid: Setting, as a path with dots → values; every combination is a run.
        include: Further runs: settings in place of the shared ones, with a grid of their own.
        exclude: Runs that have all of these settings are left out, whether of the grid or included.
        dense: Also run the dense network of every seed.
        until: Go on with further seeds, from that of the file on, until the tickets' verdicts are decided.
    """

    name: str = ""
    description: str = ""
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    include: list[dict[str, Any]] = Field(default_factory=list)
    exclude: list[dict[str, Any]] = Field(default_factory=list)
    dense: bool = True
    until: Until | None = None


_OF_THE_FILE = SweepSettings.model_fields.keys() - RunSettings.model_fields.keys()


def expand(document: Mapping[str, Any], where: str) -> list[RunSettings]:
    """Return the runs that a sweep's file means, each once; ``where`` is said in errors.

    They are those of the grid, those included, and the dense networks beside them.

    Raises:
        SweepError: Something in it makes no sense, or it comes to no run.
    """
    with _said_of(where):
        file = SweepSettings(**document)
    shared = {name: value for name, value in document.items() if name not in _OF_THE_FILE}
    # Without a grid, a file that includes runs has no others.
    kept = list(_combinations(shared, file.grid, f"{where}: the grid")) if file.grid or not file.include else []
    for number, entry in enumerate(file.include, start=1):
        grid, named = entry.get("grid", {}), f"{where}: the grid of include {number}"
        if not isinstance(grid, dict) or not all(isinstance(values, list) for values in grid.values()):
            raise SweepError(f"{named} is no mapping of settings to lists of values")
        further = {name: value for name, value in entry.items() if name != "grid"}
        kept += _combinations(merge(shared, further), grid, named)
    excluded = [_as_tree(entry, f"{where}, exclude") for entry in file.exclude]
    runs: dict[str, RunSettings] = {}
    for settings in kept:
        with _said_of(where):
            run = RunSettings(**settings)
            # What has all that is excluded is the same with it put in its place.
            if any(RunSettings(**merge(settings, entry)) == run for entry in excluded):
                continue
            run.pruning.check()
        # A dense network that is asked for has no use for the settings of tickets, and is the one beside them.
        for each in (*([run.as_dense()] if file.dense else []), run.as_dense() if run.is_dense else run):
            runs.setdefault(each.key, each)
    if not runs:
        raise SweepError(f"{where}: nothing is left to run; the grid is empty, or everything in it is excluded")
    return list(runs.values()) if file.until is None else _of_further_seeds(list(runs.values()), file.until, where)


def read_until(document: Mapping[str, Any]) -> Until | None:
    """Return until when a sweep goes on, from its file, which has been found to make sense."""
    return None if document.get("until") is None else Until.of(document["until"])


def _of_further_seeds(runs: Sequence[RunSettings], until: Until, where: str) -> list[RunSettings]:
    """Return runs again for each seed that there may be, from theirs on."""
    seeds = sorted({run.seed for run in runs})
    if len(seeds) > 1:
        raise SweepError(
            f"{where}: until: decided trains one seed after the other by itself; name none in a grid, but the first as "
            f"seed: {seeds[0]}"
        )
    return [run.model_copy(update={"seed": seeds[0] + more}) for more in range(until.most_seeds) for run in runs]


@contextmanager
def _said_of(where: str) -> Iterator[None]:
    try:
        yield
    except RobustPruneError as error:
        raise SweepError(f"{where}: {error}") from error


def _combinations(shared: Mapping[str, Any], grid: Mapping[str, list[Any]], where: str) -> Iterator[dict[str, Any]]:
    refuse_twice(list(grid), where)
    for name, values in grid.items():
        if not values:
            raise SweepError(f"{where} has no value for {name}; give at least one, or leave it out")
    for chosen in product(*grid.values()):
        settings = copy.deepcopy(dict(shared))
        for name, value in zip(grid, chosen, strict=True):
            put(settings, name, value)
        yield settings


def _as_tree(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings whose names may be paths with dots, as a tree; refuse those that no run has."""
    (tree,) = _combinations({}, {name: [value] for name, value in entry.items()}, where)
    with _said_of(where):
        RunSettings(**tree)
    for name in tree["pruning"] if isinstance(tree.get("pruning"), dict) else ():
        if name not in Pruning.model_fields:  # it would be taken for an option, which no run has
            raise SweepError(f"{where}: pruning has no setting {name!r}.{suggest(name, Pruning.model_fields)}")
    return tree
