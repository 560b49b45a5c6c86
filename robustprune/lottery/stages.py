"""The stages of a lottery: each leaves a file, and is not run again once that is there.

A lottery's folder is about one network, image set and recipe, which ``lottery.json`` says::

    lottery.json
    seed0/dense/epoch-0.pt      the initial weights
    seed0/dense/epoch-5.pt      those that tickets are rewound to
    seed0/dense/trained.pt      with its record, trained.json
    seed0/hrank/blocks-1-layer.pt          a ticket as it was found, with its scores
    seed0/hrank/blocks-1-layer-epoch-5.pt  rewound and trained, with its record
    seed0/trained/                         trained networks, shared by criteria that found the same
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning
from robustprune.evaluation import evaluate
from robustprune.models import build_model
from robustprune.models.user_file import own_code
from robustprune.pruning import BlockScores, FilterScores
from robustprune.records import Record, load_record
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.files import hash_json, write_atomically
from robustprune.tickets.draws import Draw
from robustprune.tickets.finding import cut, score, set_back
from robustprune.tickets.rewinding import RewindPoint
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Course, Recipe, train_to_file

_ARITHMETIC = ("threads", "torch", "platform")


@dataclass(frozen=True)
class Stages:
    """Where and how: everything that the networks of a lottery have in common.

    Attributes:
        folder: Of all files.
        data: The image set, the same for every seed.
        model: Name of the network.
        model_options: What its builder takes.
        recipe: How dense networks and tickets are trained.
        device: Where to compute.
        training: What else :func:`robustprune.train` takes.
        say: Called with a line about what is done.
    """

    folder: Path
    data: ImageData
    model: str
    model_options: Mapping[str, Any]
    recipe: Recipe
    device: torch.device
    training: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _line: None
    _scored: dict[str, BlockScores | FilterScores] = field(default_factory=dict, init=False, repr=False, compare=False)

    def claim_folder(self) -> None:
        """Write down what the folder is about, or check that it is about this.

        Raises:
            PruningError: It holds a lottery with other settings, or something else under that name, or cannot be
                written.
        """
        own = {
            "schema": 1,
            "model": self.model,
            "model_options": dict(self.model_options),
            "data": self.data.identity,
            "recipe": self.recipe.model_dump(),
        }
        # What a network is made of may change behind its name.
        sources = (own_code(self.model), self.model_options.get("weights_file"))
        if files := {str(path): hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in sources if path}:
            own["files"] = files
        path = self.folder / "lottery.json"
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:
            self._write_settings(path, own)
            return
        except (OSError, ValueError) as error:
            raise PruningError(f"{path} cannot be read as the settings of a lottery: {error}") from error
        differing = _differences(found, json.loads(json.dumps(own)))
        if differing:
            raise PruningError(
                f"{self.folder} holds a lottery with other settings: {'; '.join(differing)}. Its networks cannot be "
                "shared with this one; choose another --out"
            )

    def _write_settings(self, path: Path, own: Mapping[str, Any]) -> None:
        try:
            write_atomically(path, (json.dumps(own, indent=2) + "\n").encode())
        except OSError as error:
            raise PruningError(f"the lottery cannot be written to {self.folder}: {error.strerror}") from error

    def dense(self, seed: int, keep: Sequence[int]) -> Record:
        """Train the dense network once, keep its weights at some epochs, and test it."""
        home = self._dense_folder(seed)
        trained = home / "trained.pt"
        kept = {epoch: home / f"epoch-{epoch}.pt" for epoch in sorted(keep) if epoch}
        if not (home / "epoch-0.pt").exists():
            network = build_model(self.model, self.data, seed=seed, **self.model_options)
            Ticket.from_model(network, self.data).save(home / "epoch-0.pt")
        if not trained.exists():
            self.say(f"seed {seed}: training the dense {self.model}, {self.recipe.epochs} epochs")
            _record_path(trained).unlink(missing_ok=True)
            train_to_file(self.weights(seed, 0), self.data, trained, keep=kept, resume=True, **self._training(seed))
        self._warn_of_other_arithmetic(trained, seed)
        missing = {epoch: path for epoch, path in kept.items() if not path.exists()}
        if missing:
            self._replay(seed, missing)
        return self._test(trained, seed)

    def _warn_of_other_arithmetic(self, trained: Path, seed: int) -> None:
        """Say so where tickets would be compared with a dense network whose sums were rounded otherwise."""
        was, now = self._load(trained).provenance, describe_environment()
        differing = [f"{what} {was.get(what)}, now {now[what]}" for what in _ARITHMETIC if was.get(what) != now[what]]
        if differing:
            warnings.warn(
                f"the dense network of seed {seed} was trained with {', '.join(differing)}: its sums were rounded "
                "otherwise than those of tickets trained now, which is one more difference between the two",
                PruningWarning,
                stacklevel=2,
            )

    def weights(self, seed: int, epoch: int) -> Ticket:
        """Return the dense network as it was after so many epochs."""
        return self._load(self._dense_folder(seed) / f"epoch-{epoch}.pt")

    def find(self, seed: int, draw: Draw) -> Ticket:
        """Score, and cut out a ticket; it has the weights that it was scored with."""
        path = self._path(seed, draw.name)
        if path.exists():
            return self._load(path)
        dense = self.weights(seed, 0) if draw.at_init else self._load(self._dense_folder(seed) / "trained.pt")
        dense.network.to(self.device)
        scores = self._score(dense, draw, seed)
        match = None if draw.method == "layer" else self.find(seed, replace(draw, method="layer"))
        ticket = cut(dense, scores, draw, match)
        ticket.network.cpu()
        ticket.save(path)
        return ticket

    def _score(self, dense: Ticket, draw: Draw, seed: int) -> BlockScores | FilterScores:
        """Score once what draws have in common: how much is to go changes nothing of it."""
        what = "blocks" if draw.method == "layer" else "filters"
        key = json.dumps([seed, draw.criterion, dict(draw.options), draw.at_init, what], sort_keys=True)
        if key not in self._scored:
            self._scored[key] = score(dense, self.data, draw, seed)
        return self._scored[key]

    def play(self, seed: int, draw: Draw, point: RewindPoint) -> Record:
        """Find a ticket, set its weights back, train it for the epochs that are left, and test it."""
        path = self._path(seed, f"{draw.name}-{point.name}")
        if not path.exists():
            _record_path(path).unlink(missing_ok=True)
            self._train(self.find(seed, draw), seed, draw, point).save(path)
        return self._test(path, seed)

    def _train(self, found: Ticket, seed: int, draw: Draw, point: RewindPoint) -> Ticket:
        """Set a ticket's weights back and train it, unless one just like it was trained before."""
        ticket = set_back(found, point, self.weights(seed, point.epoch))
        course = Course.of(self.recipe, seed=seed, device=self.device, start_epoch=point.epoch)
        # By what decides the outcome: criteria often choose the same blocks, and then share one training.
        path = self.folder / f"seed{seed}" / "trained" / f"{hash_json(course.identity(ticket, self.data))[:16]}.pt"
        if not path.exists():
            self.say(f"seed {seed}: training {draw.name}, {point.label}")
        own: dict[str, Any] = {
            "plan": ticket.plan,
            "scores": ticket.scores,
            "earlier_training": ticket.earlier_training,
        }
        trained = train_to_file(ticket, self.data, path, start_epoch=point.epoch, resume=True, **self._training(seed))
        return replace(trained, **own)

    def _replay(self, seed: int, missing: Mapping[int, Path]) -> None:
        """Go through the first epochs of the dense training again, for weights that nobody had asked for yet.

        Raises:
            PruningError: They come out differently here, as with other threads or releases of torch.
        """
        self.say(f"seed {seed}: repeating {max(missing)} epochs of the dense training, for weights not kept then")
        home = self._dense_folder(seed)
        # By what it keeps: one that was interrupted may be past the epochs that another is to keep.
        place = home / f"replay-{hash_json(sorted(missing))[:8]}"
        replayed = {epoch: place / path.name for epoch, path in missing.items()}
        options = self._training(seed) | {"keep": replayed, "stop_epoch": max(missing), "resume": True}
        again = train_to_file(self.weights(seed, 0), self.data, place / "ticket.pt", **options)
        first = self._load(home / "trained.pt")
        losses = [[entry["train_loss"] for entry in ticket.history[: max(missing)]] for ticket in (first, again)]
        if losses[0] != losses[1]:
            shutil.rmtree(place, ignore_errors=True)
            was, now = first.provenance, again.provenance
            raise PruningError(
                f"the weights of epoch {max(missing)} were not kept when the dense network of seed {seed} was trained, "
                "and its training comes out differently now: "
                + ", ".join(f"{what} {was.get(what)}, now {now.get(what)}" for what in _ARITHMETIC)
                + ". Rewind to epochs that were kept, set --threads as it was, or choose another --out"
            )
        for epoch, path in replayed.items():
            with suppress(FileNotFoundError):  # another process has put the same in place
                os.replace(path, missing[epoch])
        shutil.rmtree(place, ignore_errors=True)

    def _test(self, path: Path, seed: int) -> Record:
        record_path = _record_path(path)
        if record_path.exists():
            record = load_record(record_path)
            record.model.path = str(path)  # the folder may have been moved
            return record
        ticket = self._load(path)
        ticket.network.to(self.device)
        record = evaluate(ticket, self.data, seed=seed)
        record.save(record_path)
        return record

    def _training(self, seed: int) -> dict[str, Any]:
        return {"recipe": self.recipe, "seed": seed, "device": self.device, **self.training}

    def _dense_folder(self, seed: int) -> Path:
        return self.folder / f"seed{seed}" / "dense"

    def _path(self, seed: int, name: str) -> Path:
        return self.folder / f"seed{seed}" / f"{name}.pt"

    def _load(self, path: Path) -> Ticket:
        return load_ticket(path, model_code=own_code(self.model))


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _differences(found: Any, own: Any, where: str = "") -> list[str]:
    """Return where two JSON values differ, as ``recipe.epochs was 20, is 10``."""
    if isinstance(found, dict) and isinstance(own, dict):
        keys = sorted({*found, *own})
        return [
            line for key in keys for line in _differences(found.get(key), own.get(key), f"{where}.{key}".strip("."))
        ]
    return [] if found == own else [f"{where} was {found!r}, is {own!r}"]
