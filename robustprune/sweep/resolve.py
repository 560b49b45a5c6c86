"""From runs to stages: every default is spelled out, every image set is looked at, what cannot be is found out now.

This imports torch, and loads image sets; it runs in a worker, and its outcome is kept (see :mod:`planning`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustprune.attacks import parse_epsilon
from robustprune.comparison import compare
from robustprune.data import ImageData, load_data
from robustprune.errors import RobustPruneError, SweepError
from robustprune.files import hash_json
from robustprune.lottery import Draw, RewindPoint, check_network, make_draws, parse_rewind_points
from robustprune.models import build_model
from robustprune.models.user_file import own_code
from robustprune.pruning import make_criterion
from robustprune.sweep.fingerprints import hash_content, look_at
from robustprune.sweep.graph import Plan, Stage
from robustprune.sweep.measured import defaults, resolve_evaluation
from robustprune.sweep.spec import RunSettings
from robustprune.training import Recipe, make_recipe


def plan_runs(runs: Sequence[Mapping[str, Any]], *, tell: Callable[[str, float], None]) -> str:
    """Return the plan of runs, as JSON.

    Args:
        runs: From :meth:`RunSettings.model_dump`.
        tell: Called with what is being done and how much of it is done, from 0 to 1.

    Raises:
        RobustPruneError: Something they name is not there, or cannot be; the message says which run it is.
    """
    return _Resolver([RunSettings.model_validate(run) for run in runs]).resolve(tell).to_json()


@dataclass(frozen=True)
class _Images:
    """An image set and what it is hashed to."""

    data: ImageData
    sha256: str


class _Resolver:
    def __init__(self, runs: Sequence[RunSettings]) -> None:
        self.runs = runs
        self.plan = Plan()
        self._known: dict[str, Any] = {}
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
        return self.plan

    def _compare(self) -> None:
        """Compare tickets with the dense networks that are trained and evaluated alike, over all seeds there are."""
        families: dict[str, dict[str, dict[str, str]]] = {}
        for run, address in self._evaluated:
            family = families.setdefault(run.as_dense().model_copy(update={"seed": 0}).model_dump_json(), {})
            alike = run.model_copy(update={"seed": 0}).model_dump_json()
            family.setdefault(alike, {})[run.title] = address
        for family in families.values():
            groups = _name_groups(family)
            if "dense" in groups and len(groups) > 1:
                needs = {role: address for own in groups.values() for role, address in own.items()}
                inputs = {"groups": {name: list(own) for name, own in groups.items()}, "threads": 1}
                stage = Stage(
                    "compare", {**inputs, **defaults(compare)}, needs, {"device": "cpu"}, " and ".join(groups)
                )
                self.plan.comparisons.append(self.plan.add(stage))

    def _add(self, run: RunSettings) -> None:
        recipe = self._recipe(run)
        point = self._point(run, recipe)
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
            "criterion_options": self._options(run),
        }
        self.plan.add_run(run.title, settings, evaluation)
        self._evaluated.append((run, evaluation))

    # What a run is about, each looked up once.

    def _once(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        place = f"{what} {json.dumps(key, sort_keys=True, default=str)}"
        if place not in self._known:
            self._known[place] = make()
        return self._known[place]

    def _images(self, run: RunSettings) -> _Images:
        def load() -> _Images:
            data = load_data(**run.data.model_dump())
            for split in ("train", run.evaluate.split):
                data.require(split)
            self._watch(str(data.provenance.get("source") or ""))
            return _Images(data, hash_json(data.identity))

        found: _Images = self._once("data", run.data.model_dump(), load)
        return found

    def _network(self, run: RunSettings) -> dict[str, Any]:
        """Return what a network is made of: the shape of it all, and the files behind its name."""

        def build() -> dict[str, Any]:
            network = build_model(run.model, self._images(run).data, **run.model_options)
            shapes = {name: [str(value.dtype), *value.shape] for name, value in network.state_dict().items()}
            files = [path for path in (own_code(run.model), run.model_options.get("weights_file")) if path]
            for path in files:
                self._watch(str(path))
            return {
                "model": run.model if not own_code(run.model) else run.model.rpartition(":")[2],
                "options": {name: value for name, value in run.model_options.items() if name != "weights_file"},
                "shape": hash_json(shapes),
                "files": [hash_content(path) for path in files],
            }

        found: dict[str, Any] = self._once("network", [run.model, run.model_options, run.data.model_dump()], build)
        return found

    def _recipe(self, run: RunSettings) -> Recipe:
        def make() -> Recipe:
            own = run.train.model_dump(exclude={"recipe"})
            if own["epsilon"] is not None:
                own["epsilon"] = parse_epsilon(own["epsilon"])
            return make_recipe(run.train.recipe, **own)

        found: Recipe = self._once("recipe", run.train.model_dump(), make)
        return found

    def _point(self, run: RunSettings, recipe: Recipe) -> RewindPoint:
        return parse_rewind_points([run.rewind], recipe.epochs)[0]

    def _options(self, run: RunSettings) -> dict[str, Any]:
        """Return all options of a run's criterion."""
        if run.criterion is None:
            return {}
        name = run.criterion
        found: dict[str, Any] = self._once(
            "criterion",
            [name, run.criterion_options],
            lambda: make_criterion(name, **run.criterion_options).model_dump(mode="json"),
        )
        return found

    def _draw(self, run: RunSettings) -> Draw:
        """Return what a run's ticket is to lack, once it is sure that it can."""
        assert run.criterion is not None
        assert run.blocks is not None
        (draw,) = make_draws(
            [run.criterion],
            [run.blocks],
            methods=[run.method],
            options=run.criterion_options,
            at_init=run.at_init,
            eligibility=run.eligibility,
        )

        def check() -> bool:
            network = build_model(run.model, self._images(run).data, **run.model_options)
            check_network(network, [draw])
            return True

        self._once("draw", [self._network(run), run.method, run.blocks, run.eligibility], check)
        return draw

    def _watch(self, path: str) -> None:
        if path and (seen := look_at(path)):
            self.plan.watched[path] = seen

    # Its stages.

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
        return {"network": self._network(run), "data": self._images(run).sha256, "seed": run.seed}

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
        scoring = {**self._origin(run), "criterion": run.criterion, "options": self._options(run)}
        if run.method == "weight":
            rounds = run.rounds or make_criterion(str(run.criterion), **run.criterion_options).weight_rounds
            masks = {"method": "weight", "sparsity": run.sparsity, "rounds": rounds}
            return self._stage(run, "prune", {**scoring, **masks}, base)
        draw = self._draw(run)
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
        images = self._images(run)
        inputs, watched = self._once(
            "evaluation",
            [asked.model_dump(), images.sha256],
            lambda: resolve_evaluation(asked, images.data),
        )
        for path in watched:
            self._watch(path)
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


_ASKED_FOR = {
    *("model", "method", "criterion", "blocks", "sparsity", "rounds", "eligibility", "match_by", "at_init", "seed"),
    *("threads", "device"),
}
