"""What runs are about, with every default spelled out: image sets, networks, criteria, each looked up once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from robustprune.data import ImageData, load_data
from robustprune.models import build_model
from robustprune.models.user_file import own_code
from robustprune.pruning import make_criterion
from robustprune.runtime.files import hash_json
from robustprune.sweep.measured import resolve_evaluation
from robustprune.sweep.planning import hash_content, look_at
from robustprune.sweep.settings import RunSettings
from robustprune.tickets.finding import check_possible
from robustprune.tickets.rewinding import RewindPoint, parse_rewind_point


class Inputs:
    """Looks up what runs name.

    Attributes:
        watched: Files and folders that were read → what they look like from outside.
    """

    def __init__(self, data: ImageData | None = None) -> None:
        """Know nothing yet, but for the image set of all runs where it is at hand."""
        self.watched: dict[str, str] = {}
        self._data = data
        self._known: dict[str, Any] = {}

    def _once(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` returns, called only for the first of equal keys."""
        place = f"{what} {json.dumps(key, sort_keys=True, default=str)}"
        if place not in self._known:
            self._known[place] = make()
        return self._known[place]

    def images(self, run: RunSettings) -> ImageData:
        """Return a run's image set."""

        def load() -> ImageData:
            data = self._data or load_data(**dict(run.data))
            for split in ("train", run.evaluate.split):
                data.require(split)
            self.watch(str(data.provenance.get("source") or ""))
            return data

        found: ImageData = self._once("data", [dict(run.data), run.evaluate.split], load)
        return found

    def origin(self, run: RunSettings) -> dict[str, Any]:
        """Return what all of a run's stages begin with: its network, its images and its seed."""

        def build() -> dict[str, Any]:
            data = self.images(run)
            network = build_model(run.model, data, **run.model_options)
            shapes = {name: [str(value.dtype), *value.shape] for name, value in network.state_dict().items()}
            files = [path for path in (own_code(run.model), run.model_options.get("weights_file")) if path]
            for path in files:
                self.watch(str(path))
            made_of = {
                "model": run.model if not own_code(run.model) else run.model.rpartition(":")[2],
                "options": {name: value for name, value in run.model_options.items() if name != "weights_file"},
                "shape": hash_json(shapes),
                "files": [hash_content(path) for path in files],
            }
            return {"network": made_of, "data": hash_json(data.identity)}

        found = self._once("network", [run.model, run.model_options, dict(run.data)], build)
        return {**found, "seed": run.seed}

    def point(self, run: RunSettings) -> RewindPoint:
        """Return where a run's ticket gets its weights from."""
        return parse_rewind_point(run.pruning.rewind, run.recipe.epochs)

    def options(self, run: RunSettings) -> dict[str, Any]:
        """Return all options of a run's criterion."""
        if run.pruning.criterion is None:
            return {}
        criterion = make_criterion(run.pruning.criterion, **run.pruning.options)
        return criterion.model_dump(mode="json")

    def check_possible(self, run: RunSettings) -> None:
        """Make sure that what a run's ticket is to lack can go.

        Raises:
            PruningError: It cannot.
        """

        def check() -> None:
            check_possible(build_model(run.model, self.images(run), **run.model_options), run.pruning)

        asked = {**dict(run.pruning), "at_init": True, "rewind": 0}
        self._once("possible", [self.origin(run)["network"], asked], check)

    def evaluation(self, run: RunSettings) -> dict[str, Any]:
        """Return all that decides what a run's evaluation finds."""
        data, asked = self.images(run), run.evaluate
        key = [asked.model_dump(mode="json"), dict(run.data)]
        resolved, watched = self._once("evaluation", key, lambda: resolve_evaluation(asked, data))
        for path in watched:
            self.watch(path)
        return {"data": hash_json(data.identity), "evaluate": resolved}

    def watch(self, path: str) -> None:
        """Note what a file or folder looks like, as the plan holds only for as long as it does."""
        if path and (seen := look_at(path)):
            self.watched[path] = seen
