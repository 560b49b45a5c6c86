"""From runs to stages: every default is spelled out, every image set is looked at, what cannot be is found out now.

This imports torch, and loads image sets; it runs in a worker, and its outcome is kept (see :mod:`planning`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from robustprune.comparison import compare
from robustprune.errors import RobustPruneError, SweepError
from robustprune.pruning import make_criterion
from robustprune.sweep.graph import Plan, Stage
from robustprune.sweep.inputs import Inputs
from robustprune.sweep.measured import defaults, resolve_evaluation
from robustprune.sweep.spec import RunSettings
from robustprune.tickets.rewinding import RewindPoint
from robustprune.training import Recipe


def plan_runs(runs: Sequence[Mapping[str, Any]], *, tell: Callable[[str, float], None]) -> str:
    """Return the plan of runs, as JSON.

    Args:
        runs: From :meth:`RunSettings.model_dump`.
        tell: Called with what is being done and how much of it is done, from 0 to 1.

    Raises:
        RobustPruneError: Something they name is not there, or cannot be; the message says which run it is.
    """
    return _Resolver([RunSettings.model_validate(run) for run in runs]).resolve(tell).to_json()


class _Resolver:
    def __init__(self, runs: Sequence[RunSettings]) -> None:
        self.runs = runs
        self.plan = Plan()
        self.inputs = Inputs()
        self._evaluated: list[tuple[RunSettings, str]] = []
        self._own_dense = {run.model_dump_json() for run in runs if run.method == "dense"}

    def resolve(self, tell: Callable[[str, float], None]) -> Plan:
        for number, run in enumerate(self.runs):
            tell("planning", number / len(self.runs))
            try:
                self._add(run)
            except RobustPruneError as error:
                raise SweepError(f"the run “{run.title}” cannot be: {error}") from error
        self._compare()
        self.plan.drop_unneeded()
        self.plan.watched = self.inputs.watched
        return self.plan

    def _compare(self) -> None:
        """Compare tickets with the dense networks that are trained and evaluated alike, over all seeds there are."""
        families: dict[str, dict[str, dict[str, str]]] = {}
        shared: dict[str, dict[str, Any]] = {}
        for run, address in self._evaluated:
            common = run.as_dense().model_copy(update={"seed": 0})
            key = common.model_dump_json()
            family = families.setdefault(key, {})
            shared[key] = common.model_dump(mode="json")
            alike = run.model_copy(update={"seed": 0}).model_dump_json()
            family.setdefault(alike, {})[run.title] = address
        named = {key: _name_groups(family) for key, family in families.items()}
        compared = {key: groups for key, groups in named.items() if "dense" in groups and len(groups) > 1}
        titles = _tell_apart([shared[key] for key in compared])
        for groups, title in zip(compared.values(), titles, strict=True):
            needs = {role: address for own in groups.values() for role, address in own.items()}
            inputs = {"groups": {name: list(own) for name, own in groups.items()}, "threads": 1}
            label = " and ".join(groups) + (f" ({title})" if title else "")
            hints = {"device": "cpu", "title": title}
            stage = Stage("compare", {**inputs, **defaults(compare)}, needs, hints, label)
            self.plan.comparisons.append(self.plan.add(stage))

    def _add(self, run: RunSettings) -> None:
        recipe = self.inputs.recipe(run)
        point = self.inputs.point(run, recipe)
        dense = self._dense(run, recipe)
        network = dense if run.method == "dense" else self._ticket(run, recipe, point, dense)
        evaluation = self._evaluation(run, network, dense)
        data = run.data.model_dump(exclude={"workers", "download"})
        settings = {
            **run.model_dump(mode="json", include=_ASKED_FOR),
            "rewind": point.name.removeprefix("epoch-"),
            "epochs": recipe.epochs,
            **{f"train_{name}": value for name, value in recipe.model_dump(mode="json").items()},
            **{f"data_{name}": value for name, value in data.items()},
            "criterion_options": self.inputs.options(run),
        }
        self.plan.add_run(run.title, settings, evaluation)
        self._evaluated.append((run, evaluation))

    def _stage(self, run: RunSettings, kind: str, inputs: Mapping[str, Any], needs: Mapping[str, str]) -> str:
        hints = {
            "model": run.model,
            "model_options": run.model_options,
            "data": run.data.model_dump(),
            **run.model_dump(include={"device", "country", "measure_energy"}),
            "evaluate": run.evaluate.model_dump(mode="json"),
        }
        return self.plan.add(Stage(kind, {**inputs, "threads": run.threads}, needs, hints, run.title))

    def _origin(self, run: RunSettings) -> dict[str, Any]:
        return {"network": self.inputs.network(run), "data": self.inputs.images(run).sha256, "seed": run.seed}

    def _dense(self, run: RunSettings, recipe: Recipe) -> str:
        return self._stage(run.as_dense(), "dense", {**self._origin(run), "recipe": recipe.model_dump()}, {})

    def _ticket(self, run: RunSettings, recipe: Recipe, point: RewindPoint, dense: str) -> str:
        found = self._found(run, dense)
        inputs = {
            **self._origin(run),
            "recipe": recipe.model_dump(),
            "epoch": point.epoch,
            "random": point.random,
        }
        needs = {"ticket": found}
        if point.epoch:
            needs["weights"] = self._stage(run.as_dense(), "weights", {"epoch": point.epoch}, {"dense": dense})
            keep = self.plan.stages[dense].hints.setdefault("keep", [])
            keep += [point.epoch] if point.epoch not in keep else []
        return self._stage(run, "train", inputs, needs)

    def _found(self, run: RunSettings, dense: str) -> str:
        """Return the stage that cuts a ticket out."""
        base = {} if run.at_init else {"dense": dense}
        scoring = {**self._origin(run), "criterion": run.criterion, "options": self.inputs.options(run)}
        if run.method == "weight":
            rounds = run.rounds or make_criterion(str(run.criterion), **run.criterion_options).weight_rounds
            masks = {"method": "weight", "sparsity": run.sparsity, "rounds": rounds}
            return self._stage(run, "prune", {**scoring, **masks}, base)
        draw = self.inputs.draw(run)
        target = "blocks" if run.method == "layer" else "filters"
        scores = self._stage(run, "score", {**scoring, "of": target}, base)
        needs = {**base, "scores": scores}
        inputs = {**self._origin(run), "method": run.method, "blocks": draw.blocks, "eligibility": draw.eligibility}
        if run.method != "layer":
            inputs["match_by"] = run.match_by
            needs["match"] = self._found(run.model_copy(update={"method": "layer"}), dense)
        return self._stage(run, "prune", inputs, needs)

    def _evaluation(self, run: RunSettings, network: str, dense: str) -> str:
        asked = run.evaluate
        images = self.inputs.images(run)
        inputs, watched = self.inputs.once(
            "evaluation",
            [asked.model_dump(), images.sha256],
            lambda: resolve_evaluation(asked, images.data),
        )
        for path in watched:
            self.inputs.watch(path)
        needs = {"network": network}
        if inputs["attacks"].get("transfer_from"):
            needs["source"] = dense
        # Errors under corruptions are also given relative to the dense network's, where it is evaluated.
        related = run.method != "dense" and inputs["corruptions"]
        if related and run.as_dense().model_dump_json() in self._own_dense:
            needs["dense"] = self._evaluation(run.as_dense(), dense, dense)
        return self._stage(run, "evaluate", {"data": images.sha256, "evaluate": inputs}, needs)


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


_ASKED_FOR = {
    *("model", "method", "criterion", "blocks", "sparsity", "rounds", "eligibility", "match_by", "at_init", "seed"),
    *("threads", "device"),
}
