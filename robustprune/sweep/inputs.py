"""What runs are about, with every default spelled out: image sets, networks, recipes, criteria, each looked up once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustprune.data import ImageData, load_data
from robustprune.models import build_model
from robustprune.models.user_file import own_code
from robustprune.pruning import make_criterion
from robustprune.runtime.files import hash_json
from robustprune.sweep.fingerprints import hash_content, look_at
from robustprune.sweep.spec import RunSettings
from robustprune.tickets.draws import Draw, make_draws
from robustprune.tickets.finding import check_network
from robustprune.tickets.rewinding import RewindPoint, parse_rewind_points
from robustprune.training import Recipe


@dataclass(frozen=True)
class Images:
    """An image set and what it is hashed to."""

    data: ImageData
    sha256: str


class Inputs:
    """Looks up what runs name.

    Attributes:
        watched: Files and folders that were read → what they look like from outside.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.watched: dict[str, str] = {}
        self._known: dict[str, Any] = {}

    def once(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` returns, called only for the first of equal keys."""
        place = f"{what} {json.dumps(key, sort_keys=True, default=str)}"
        if place not in self._known:
            self._known[place] = make()
        return self._known[place]

    def images(self, run: RunSettings) -> Images:
        """Return a run's image set."""

        def load() -> Images:
            data = load_data(**run.data.model_dump())
            for split in ("train", run.evaluate.split):
                data.require(split)
            self.watch(str(data.provenance.get("source") or ""))
            return Images(data, hash_json(data.identity))

        found: Images = self.once("data", [run.data.model_dump(), run.evaluate.split], load)
        return found

    def network(self, run: RunSettings) -> dict[str, Any]:
        """Return what a network is made of: the shape of it all, and the files behind its name."""

        def build() -> dict[str, Any]:
            network = build_model(run.model, self.images(run).data, **run.model_options)
            shapes = {name: [str(value.dtype), *value.shape] for name, value in network.state_dict().items()}
            files = [path for path in (own_code(run.model), run.model_options.get("weights_file")) if path]
            for path in files:
                self.watch(str(path))
            return {
                "model": run.model if not own_code(run.model) else run.model.rpartition(":")[2],
                "options": {name: value for name, value in run.model_options.items() if name != "weights_file"},
                "shape": hash_json(shapes),
                "files": [hash_content(path) for path in files],
            }

        found: dict[str, Any] = self.once("network", [run.model, run.model_options, run.data.model_dump()], build)
        return found

    def recipe(self, run: RunSettings) -> Recipe:
        """Return how a run's networks are trained."""
        return Recipe.of(run.train.recipe, **run.train.model_dump(exclude={"recipe"}))

    def point(self, run: RunSettings, recipe: Recipe) -> RewindPoint:
        """Return where a run's ticket gets its weights from."""
        return parse_rewind_points([run.rewind], recipe.epochs)[0]

    def options(self, run: RunSettings) -> dict[str, Any]:
        """Return all options of a run's criterion."""
        if run.criterion is None:
            return {}
        name = run.criterion
        found: dict[str, Any] = self.once(
            "criterion",
            [name, run.criterion_options],
            lambda: make_criterion(name, **run.criterion_options).model_dump(mode="json"),
        )
        return found

    def draw(self, run: RunSettings) -> Draw:
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
            network = build_model(run.model, self.images(run).data, **run.model_options)
            check_network(network, [draw])
            return True

        self.once("draw", [self.network(run), run.method, run.blocks, run.eligibility], check)
        return draw

    def watch(self, path: str) -> None:
        """Note what a file or folder looks like, as the plan holds only for as long as it does."""
        if path and (seen := look_at(path)):
            self.watched[path] = seen
