"""From runs to stages: every default is spelled out, every image set is looked at, what cannot be is found out now.

This imports torch, and loads image sets; its outcome is kept (see :mod:`graph`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from robustprune.comparison import compare
from robustprune.data import ImageData, load_data
from robustprune.errors import RobustPruneError, SweepError
from robustprune.models import build_model
from robustprune.models.user_file import own_code
from robustprune.pruning import make_criterion, named_criterion, spell_search
from robustprune.pruning.criteria.by_name import criterion_files
from robustprune.runtime.files import hash_json
from robustprune.runtime.progress import counted, shown_progress
from robustprune.sweep.graph import Stage, SweepPlan, hash_content, look_at
from robustprune.sweep.measured import defaults, resolve_evaluation
from robustprune.sweep.settings import RunSettings
from robustprune.sweep.until import Until
from robustprune.tickets.finding import check_possible
from robustprune.tickets.requests import Pruning
from robustprune.tickets.rewinding import parse_rewind_point

_NAMED = 4
"""A comparison of more groups is called by how many they are."""


def plan_runs(
    runs: Sequence[RunSettings], data: ImageData | None = None, until: Until | None = None
) -> tuple[SweepPlan, list[str]]:
    """Return the plan of runs, and the address of each one's evaluation, in their order.

    Args:
        runs: Those of a sweep.
        data: The image set of all of them, where it is at hand; else each run's is loaded.
        until: When to end, where runs are those of as many seeds as there may be.

    Raises:
        SweepError: Something they name is not there, or cannot be; the message says which run it is.
    """
    resolver = _Resolver(runs, data)
    evaluated: list[tuple[RunSettings, str]] = []
    for run in counted(runs, shown_progress(), "planning runs"):
        try:
            evaluated.append((run, resolver.add(run)))
        except RobustPruneError as error:
            raise SweepError(f"the run “{run.title}” cannot be: {error}") from error
    plan = resolver.plan
    if until is None:
        plan.comparisons = [plan.add(stage) for stage in _comparisons(evaluated)]
    else:
        _add_looks(plan, evaluated, until)
    return plan, [address for _, address in evaluated]


def _add_looks(plan: SweepPlan, evaluated: Sequence[tuple[RunSettings, str]], until: Until) -> None:
    """Add a comparison for each look, and say which runs it is of."""
    seeds = sorted({run.seed for run, _ in evaluated})
    for look in until.looks:
        count = look.seeds[look.number - 1]
        own = [(run, address) for run, address in evaluated if run.seed < seeds[0] + count]
        stages = [replace(each, inputs={**each.inputs, **until.settings(look)}) for each in _comparisons(own)]
        if not stages:
            raise SweepError("until: decided takes tickets, and the dense networks that they are compared with")
        facts = {"number": look.number, "of": len(look.seeds), "seeds": count, "most_seeds": look.seeds[-1]}
        plan.looks.append({**facts, "runs": [each for _, each in own], "comparisons": [*map(plan.add, stages)]})
    plan.comparisons = [address for look in plan.looks for address in look["comparisons"]]


class _Resolver:
    """Adds runs to a plan; each image set, network and criterion that they name is looked up once."""

    def __init__(self, runs: Sequence[RunSettings], data: ImageData | None) -> None:
        self.plan, self._data = SweepPlan(), data
        self._own_dense = {run.key for run in runs if run.is_dense}
        self._known: dict[str, Any] = {}

    def add(self, run: RunSettings) -> str:
        """Add a run's stages; return the address of its evaluation."""
        network = self._dense(run) if run.is_dense else self._ticket(run)
        evaluation = self._evaluation(run, network)
        settings = {
            **run.model_dump(mode="json", include={"model", "seed", "order_seed", "threads", "device"}),
            **run.pruning.model_dump(mode="json", exclude={"options"}),
            "rewind": str(parse_rewind_point(run.pruning.rewind, run.recipe.epochs).origin),
            "epochs": run.own_recipe.epochs,
            **{f"train_{name}": value for name, value in run.own_recipe.model_dump(mode="json").items()},
            **{f"data_{name}": value for name, value in run.data if name not in ("workers", "download")},
            "criterion_options": self._options(run),
        }
        self.plan.add_run(run.title, settings, evaluation)
        return evaluation

    def _stage(self, run: RunSettings, kind: str, inputs: Mapping[str, Any], needs: Mapping[str, str]) -> str:
        hints = run.model_dump(mode="json", include={"model", "model_options", "data", "evaluate", "device", "country"})
        return self.plan.add(Stage(kind, {**inputs, "threads": run.threads}, needs, hints, run.title))

    def _training(self, run: RunSettings) -> dict[str, Any]:
        order = {} if run.order_seed in (None, run.seed) else {"order_seed": run.order_seed}
        return {**self._origin(run), **order, "recipe": run.own_recipe.model_dump(mode="json")}

    def _teacher(self, run: RunSettings) -> dict[str, str]:
        """Return the stage that trains the network which a ticket learns from, where it does."""
        return {"teacher": self._dense(run)} if run.own_recipe.distill else {}

    def _dense(self, run: RunSettings) -> str:
        """Return the stage that trains the dense network."""
        dense = run.as_dense()
        return self._stage(dense, "dense", self._training(dense), {})

    def _ticket(self, run: RunSettings) -> str:
        """Return the stage that sets a ticket's weights back and trains it."""
        point = parse_rewind_point(run.pruning.rewind, run.recipe.epochs)
        needs = {"ticket": self._found(run, run.pruning)[-1], **self._teacher(run)}
        if point.epoch:
            if run.own_recipe.epochs != run.recipe.epochs:
                raise SweepError(
                    "a ticket set back to an epoch goes on with the dense network's schedule; leave the epochs out of "
                    "ticket_recipe, or fine-tune with rewind: none"
                )
            dense = self._dense(run)
            needs["weights"] = self._stage(run.as_dense(), "weights", {"epoch": point.epoch}, {"dense": dense})
            keep = self.plan.stages[dense].hints.setdefault("keep", [])
            keep += [point.epoch] if point.epoch not in keep else []
        # What came later names itself: what was made before there were any keeps its address.
        named = {point.origin: True} if point.origin in ("shuffled", "none") else {}
        origin = {"epoch": point.epoch, "random": point.random, **named}
        return self._stage(run, "train", {**self._training(run), **origin}, needs)

    def _found(self, run: RunSettings, asked: Pruning) -> list[str]:
        """Return the stages that cut a ticket out, one for each round: of the initial or the trained network."""
        self._check_possible(run)
        base = {} if asked.at_init else {"dense": self._dense(run)}
        if asked.method == "weight":
            rounds = asked.rounds or make_criterion(str(asked.criterion), **asked.options).weight_rounds
            masks = {"method": "weight", "sparsity": asked.sparsity, "rounds": rounds}
            return [self._stage(run, "prune", {**self._scoring(run, asked), **masks}, base)]
        matched: Sequence[str | None] = [None] * max(1, len(asked.schedule))
        if asked.method not in ("layer", "joint"):
            layers = {"method": "layer", **({"criterion": None} if isinstance(asked.blocks, tuple) else {})}
            matched = self._found(run, asked.model_copy(update=layers))
        found: list[str] = []
        for count, match in zip(asked.schedule or [asked.blocks], matched, strict=True):
            if found:
                base = {"before": self._tuned(run, asked.fine_tune_epochs, found[-1])}
            one = asked.model_copy(update={"blocks": count})
            found.append((self._joint if asked.method == "joint" else self._round)(run, one, base, match))
        return found

    def _joint(self, run: RunSettings, asked: Pruning, base: Mapping[str, str], _match: str | None) -> str:
        """Return the stage that decides between a ticket without blocks and one without filters."""
        layers = self._round(run, asked.model_copy(update={"method": "layer"}), base, None)
        filters = self._round(run, asked.model_copy(update={"method": "filter"}), base, layers)
        name, given = named_criterion(asked.decide_by, {})
        judge = {"criterion": name, "options": make_criterion(name, **given).model_dump(mode="json")}
        needs = {**base, "layers": layers, "filters": filters}
        return self._stage(run, "decide", {**self._origin(run), **judge, **self._own_code(asked.decide_by)}, needs)

    def _scoring(self, run: RunSettings, asked: Pruning) -> dict[str, Any]:
        """Return what decides scores."""
        options = {"criterion": asked.criterion, "options": self._options(run)}
        return {**self._origin(run), **options, **self._own_code(asked.criterion or "")}

    def _round(self, run: RunSettings, asked: Pruning, base: Mapping[str, str], match: str | None) -> str:
        """Return the stage that removes blocks or filters of a network, as one round of scoring tells."""
        # Only branches name themselves: what was made before there were such units keeps its address.
        unit = {} if asked.unit == "block" else {"unit": asked.unit}
        how = asked.model_dump(mode="json", include={"method", "blocks", "eligibility"})
        inputs = {**self._origin(run), **how, **unit}
        if asked.budget is not None:
            inputs |= {"budget": asked.budget, "search": spell_search(asked.search)}
        if asked.criterion is None:  # blocks are named
            return self._stage(run, "prune", inputs, base)
        scoring = self._scoring(run, asked)
        if asked.objective == "ticket" and asked.method == "layer":  # tickets are scored as the search comes upon them
            return self._stage(run, "prune", {**inputs, **scoring, "objective": "ticket"}, base)
        target = "blocks" if asked.method == "layer" else "filters"
        needs = {**base, "scores": self._stage(run, "score", {**scoring, "of": target, **unit}, base)}
        if asked.choice != "lowest":
            inputs["choice"] = asked.choice
        if match is not None:
            inputs["match_by"], needs["match"] = asked.match_by, match
        return self._stage(run, "prune", inputs, needs)

    def _tuned(self, run: RunSettings, epochs: int, ticket: str) -> str:
        """Return the stage that trains what a round has left for a few epochs; of none, that of the round."""
        if not epochs:
            return ticket
        training = self._training(run)
        training["recipe"] = {**training["recipe"], "epochs": epochs}
        return self._stage(run, "tune", training, {"ticket": ticket, **self._teacher(run)})

    def _evaluation(self, run: RunSettings, network: str) -> str:
        """Return the stage that evaluates a network."""
        data, asked, needs = self._images(run), run.evaluate, {"network": network}
        key = [asked.model_dump(mode="json"), dict(run.data)]
        resolved, watched = self._once("evaluation", key, lambda: resolve_evaluation(asked, data))
        self._watch(*watched)
        if asked.attacks.names and asked.attacks.transfer_from:
            needs["source"] = self._dense(run)
        # Errors under corruptions are also given relative to the dense network's, where it is evaluated.
        if not run.is_dense and resolved["corruptions"] and run.as_dense().key in self._own_dense:
            needs["dense"] = self._evaluation(run.as_dense(), self._dense(run))
        return self._stage(run, "evaluate", {"data": hash_json(data.identity), "evaluate": resolved}, needs)

    def _images(self, run: RunSettings) -> ImageData:
        def load() -> ImageData:
            data = self._data or load_data(**dict(run.data))
            for split in ("train", run.evaluate.split):
                data.require(split)
            self._watch(data.provenance.get("source"))
            return data

        found: ImageData = self._once("data", [dict(run.data), run.evaluate.split], load)
        return found

    def _origin(self, run: RunSettings) -> dict[str, Any]:
        """Return what all of a run's stages begin with: its network, its images and its seed."""

        def build() -> dict[str, Any]:
            data, code = self._images(run), own_code(run.model)
            network = build_model(run.model, data, **run.model_options)
            shapes = {name: [str(value.dtype), *value.shape] for name, value in network.state_dict().items()}
            files = [path for path in (code, run.model_options.get("weights_file")) if path]
            self._watch(*files)
            made_of = {
                "model": run.model.rpartition(":")[2] if code else run.model,
                "options": {name: value for name, value in run.model_options.items() if name != "weights_file"},
                "shape": hash_json(shapes),
                "files": [hash_content(path) for path in files],
            }
            return {"network": made_of, "data": hash_json(data.identity)}

        return {**self._once("network", [run.model, run.model_options, dict(run.data)], build), "seed": run.seed}

    def _options(self, run: RunSettings) -> dict[str, Any]:
        """Return all options of a run's criterion."""
        asked = run.pruning
        return make_criterion(asked.criterion, **asked.options).model_dump(mode="json") if asked.criterion else {}

    def _own_code(self, criterion: str) -> dict[str, Any]:
        """Return what decides what a criterion in a user's own file does."""
        files = criterion_files(criterion)
        self._watch(*files)
        hashes = [hash_content(file) for file in files]
        return {"criterion_code": hashes if len(hashes) > 1 else hashes[0]} if hashes else {}

    def _check_possible(self, run: RunSettings) -> None:
        """Make sure that what a run's ticket is to lack can go."""

        def check() -> None:
            check_possible(build_model(run.model, self._images(run), **run.model_options), run.pruning)

        asked = {**dict(run.pruning), "at_init": True, "rewind": 0}
        self._once("possible", [self._origin(run)["network"], asked], check)

    def _once(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` returns, called only for the first of equal keys."""
        place = f"{what} {json.dumps(key, sort_keys=True, default=str)}"
        if place not in self._known:
            self._known[place] = make()
        return self._known[place]

    def _watch(self, *paths: Any) -> None:
        """Note what files and folders look like, as the plan holds only for as long as they do."""
        for path in paths:
            if path and (seen := look_at(path)):
                self.plan.watched[str(path)] = seen


def _comparisons(evaluated: Sequence[tuple[RunSettings, str]]) -> Iterator[Stage]:
    """Yield what compares tickets with the dense networks that are trained and evaluated alike, over all seeds."""
    families: dict[str, dict[str, dict[str, str]]] = {}
    for run, address in evaluated:
        common, alike = (each.model_copy(update={"seed": 0}).key for each in (run.as_dense(), run))
        families.setdefault(common, {}).setdefault(alike, {})[run.title] = address
    named = {common: _name_groups(family) for common, family in families.items()}
    compared = {common: groups for common, groups in named.items() if "dense" in groups and len(groups) > 1}
    titles = _tell_apart([json.loads(common) for common in compared])
    for groups, title in zip(compared.values(), titles, strict=True):
        needs = {role: address for own in groups.values() for role, address in own.items()}
        inputs = {"groups": {name: list(own) for name, own in groups.items()}, "threads": 1, **defaults(compare)}
        called = " and ".join(groups) if len(groups) <= _NAMED else f"dense and {len(groups) - 1} others"
        label = called + (f" ({title})" if title else "")
        yield Stage("compare", inputs, needs, {"device": "cpu", "title": title}, label)


def _name_groups(family: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Return networks that differ in their seed alone, by what they are called, and by their names with a number."""
    groups: dict[str, dict[str, str]] = {}
    for own in family.values():
        plain = next(iter(own)).rpartition(" seed ")[0]
        same = sum(name == plain or name.startswith(f"{plain} #") for name in groups)
        name = f"{plain} #{same + 1}" if same else plain
        groups[name] = {f"{name} {number}": address for number, address in enumerate(own.values())}
    return groups


def _tell_apart(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each of several settings what it has otherwise than another: ``model resnet56``."""
    flat = [dict(_flatten(each)) for each in settings]
    names = dict.fromkeys(name for own in flat for name in own)
    told = [name for name in names if len({own.get(name) for own in flat}) > 1]
    return [", ".join(f"{name} {own.get(name, 'default')}" for name in told) for own in flat]


def _flatten(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{before}{name}.")
        elif value is not None:
            yield f"{before}{name}", value if isinstance(value, str) else json.dumps(value)
