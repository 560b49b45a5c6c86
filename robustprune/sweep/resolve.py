"""From runs to stages: every default is spelled out, every image set is looked at, what cannot be is found out now.

This imports torch, and loads image sets; its outcome is kept (see :mod:`planning`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from robustprune.comparison import compare
from robustprune.data import ImageData
from robustprune.errors import RobustPruneError, SweepError
from robustprune.pruning import make_criterion
from robustprune.sweep.graph import Stage, SweepPlan
from robustprune.sweep.inputs import Inputs
from robustprune.sweep.measured import defaults
from robustprune.sweep.settings import RunSettings
from robustprune.tickets.requests import Pruning


def plan_runs(runs: Sequence[RunSettings], data: ImageData | None = None) -> tuple[SweepPlan, list[str]]:
    """Return the plan of runs, and the address of each one's evaluation, in their order.

    Args:
        runs: Those of a sweep.
        data: The image set of all of them, where it is at hand; else each run's is loaded.

    Raises:
        SweepError: Something they name is not there, or cannot be; the message says which run it is.
    """
    resolver = _Resolver(runs, Inputs(data))
    return resolver.resolve(), [address for _, address in resolver.evaluated]


class _Resolver:
    def __init__(self, runs: Sequence[RunSettings], inputs: Inputs) -> None:
        self.runs, self.inputs = runs, inputs
        self.plan = SweepPlan()
        self.evaluated: list[tuple[RunSettings, str]] = []
        self._own_dense = {run.key for run in runs if run.is_dense}

    def resolve(self) -> SweepPlan:
        for run in self.runs:
            try:
                self._add(run)
            except RobustPruneError as error:
                raise SweepError(f"the run “{run.title}” cannot be: {error}") from error
        for stage in _comparisons(self.evaluated):
            self.plan.comparisons.append(self.plan.add(stage))
        self.plan.drop_unneeded()
        self.plan.watched = self.inputs.watched
        return self.plan

    def _add(self, run: RunSettings) -> None:
        point = self.inputs.point(run)
        network = self._dense(run) if run.is_dense else self._ticket(run)
        evaluation = self._evaluation(run, network)
        settings = {
            **run.model_dump(mode="json", include={"model", "seed", "threads", "device"}),
            **run.pruning.model_dump(mode="json", exclude={"options"}),
            "rewind": str(point.origin),
            "epochs": run.recipe.epochs,
            **{f"train_{name}": value for name, value in run.recipe.model_dump(mode="json").items()},
            **{f"data_{name}": value for name, value in run.data if name not in ("workers", "download")},
            "criterion_options": self.inputs.options(run),
        }
        self.plan.add_run(run.title, settings, evaluation)
        self.evaluated.append((run, evaluation))

    def _stage(self, run: RunSettings, kind: str, inputs: Mapping[str, Any], needs: Mapping[str, str]) -> str:
        hints = run.model_dump(mode="json", include={"model", "model_options", "data", "evaluate", "device", "country"})
        return self.plan.add(Stage(kind, {**inputs, "threads": run.threads}, needs, hints, run.title))

    def _training(self, run: RunSettings) -> dict[str, Any]:
        return {**self.inputs.origin(run), "recipe": run.recipe.model_dump(mode="json")}

    def _dense(self, run: RunSettings) -> str:
        """Return the stage that trains the dense network."""
        return self._stage(run.as_dense(), "dense", self._training(run), {})

    def _ticket(self, run: RunSettings) -> str:
        """Return the stage that sets a ticket's weights back and trains it."""
        point = self.inputs.point(run)
        needs = {"ticket": self._found(run, run.pruning)}
        if point.epoch:
            dense = self._dense(run)
            needs["weights"] = self._stage(run.as_dense(), "weights", {"epoch": point.epoch}, {"dense": dense})
            keep = self.plan.stages[dense].hints.setdefault("keep", [])
            keep += [point.epoch] if point.epoch not in keep else []
        return self._stage(run, "train", {**self._training(run), "epoch": point.epoch, "random": point.random}, needs)

    def _found(self, run: RunSettings, asked: Pruning) -> str:
        """Return the stage that cuts a ticket out: of the initial network, or of the trained one."""
        self.inputs.check_possible(run)
        origin, base = self.inputs.origin(run), {} if asked.at_init else {"dense": self._dense(run)}
        scoring = {**origin, "criterion": asked.criterion, "options": self.inputs.options(run)}
        if asked.method == "weight":
            rounds = asked.rounds or make_criterion(str(asked.criterion), **asked.options).weight_rounds
            masks = {"method": "weight", "sparsity": asked.sparsity, "rounds": rounds}
            return self._stage(run, "prune", {**scoring, **masks}, base)
        target = "blocks" if asked.method == "layer" else "filters"
        needs = {**base, "scores": self._stage(run, "score", {**scoring, "of": target}, base)}
        inputs = {**origin, **asked.model_dump(include={"method", "blocks", "eligibility"})}
        if asked.method != "layer":
            inputs["match_by"] = asked.match_by
            needs["match"] = self._found(run, asked.model_copy(update={"method": "layer"}))
        return self._stage(run, "prune", inputs, needs)

    def _evaluation(self, run: RunSettings, network: str) -> str:
        """Return the stage that evaluates a network."""
        inputs, needs = self.inputs.evaluation(run), {"network": network}
        if run.evaluate.attacks.names and run.evaluate.attacks.transfer_from:
            needs["source"] = self._dense(run)
        # Errors under corruptions are also given relative to the dense network's, where it is evaluated.
        related = not run.is_dense and inputs["evaluate"]["corruptions"]
        if related and run.as_dense().key in self._own_dense:
            needs["dense"] = self._evaluation(run.as_dense(), self._dense(run))
        return self._stage(run, "evaluate", inputs, needs)


def _comparisons(evaluated: Sequence[tuple[RunSettings, str]]) -> Iterator[Stage]:
    """Yield what compares tickets with the dense networks that are trained and evaluated alike, over all seeds."""
    families: dict[str, dict[str, dict[str, str]]] = {}
    shared: dict[str, dict[str, Any]] = {}
    for run, address in evaluated:
        common = run.as_dense().model_copy(update={"seed": 0})
        key = common.key
        shared[key] = common.model_dump(mode="json")
        alike = run.model_copy(update={"seed": 0}).key
        families.setdefault(key, {}).setdefault(alike, {})[run.title] = address
    named = {key: _name_groups(family) for key, family in families.items()}
    compared = {key: groups for key, groups in named.items() if "dense" in groups and len(groups) > 1}
    titles = _tell_apart([shared[key] for key in compared])
    for groups, title in zip(compared.values(), titles, strict=True):
        needs = {role: address for own in groups.values() for role, address in own.items()}
        inputs = {"groups": {name: list(own) for name, own in groups.items()}, "threads": 1, **defaults(compare)}
        label = " and ".join(groups) + (f" ({title})" if title else "")
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
    told = [name for name in names if len({json.dumps(own.get(name)) for own in flat}) > 1]
    return [", ".join(f"{name} {_say(own.get(name))}" for name in told) for own in flat]


def _flatten(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _say(value: Any) -> str:
    return "default" if value is None else value if isinstance(value, str) else json.dumps(value)
