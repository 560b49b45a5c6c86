"""An attack on disk, so that an interrupted one is picked up where it was.

Each chunk of samples has a file, written after every part of the attack: the books, and where the random generators
stand. What is computed after picking up is so what would have been computed without the interruption, bit by bit.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustprune.attacks.engine.attack_counts import FirstGradients
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.samples import Samples
from robustprune.attacks.registry import named
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.runtime.environment import hash_weights
from robustprune.runtime.files import hash_arrays, hash_json, write_atomically
from robustprune.runtime.randomness import generator_states, restore_generators
from robustprune.runtime.work import Work

FORMAT = 10
SUFFIX = ".attack"
_LEDGER = ("points", "logits", "is_broken", "first_broken", "stage", "asked", "sizes")
_PATH = ("start", "best", "before")


class SavedChunk:
    """The file of one chunk: what is behind of the attack on it, and whether that had drawn at random."""

    def __init__(self, path: Path, problem: AttackProblem, started: float) -> None:
        """Bring a problem of which nothing is attacked yet to where it was, if the file is there.

        Raises:
            AttackError: The file cannot be read, or is damaged.
        """
        self.had_drawn = False
        self._path, self._problem, self._started = path, problem, started
        self._done: list[list[Any]] = []
        if path.exists():
            self._restore()

    def _restore(self) -> None:
        path, problem = self._path, self._problem
        try:
            known: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            is_known = known["format"] == FORMAT
        except Exception as error:
            raise AttackError(f"{path} is no state of an attack: {error}; delete it to start anew") from error
        if not is_known:
            raise AttackError(f"{path} holds the state of an attack by another version; delete it to start anew")
        try:
            self._done, self.had_drawn = known["done"], known["drawn"]
            problem.queries, problem.stages[:], problem.looked = known["queries"], known["stages"], set(known["looked"])
            problem.details = json.loads(known["details"])
            for name in _LEDGER:
                setattr(problem.best, name, known["best"][name].to(problem.images.device))
            for name in _PATH:
                setattr(problem.path, name, known["path"][name].to(problem.images.device))
            problem.path.queries = known["path"]["queries"]
            starts = {name: FirstGradients(**start) for name, start in known["counts"]["starts"].items()}
            vars(problem.model_queries.counts).update({**known["counts"], "starts": starts})
            restore_generators(known["generators"], problem.images.device)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise AttackError(f"{path} is damaged ({error!r}); delete it to start anew") from error

    def is_done(self, restart: int, stage: str) -> bool:
        """Return whether a part is behind; the whole of a restart is the part ``""``."""
        return [restart, stage] in self._done

    def finish(self, restart: int, stage: str) -> None:
        """Write down that a part is behind."""
        self._done.append([restart, stage])
        problem, counts = self._problem, self._problem.model_queries.counts
        seconds = counts.earlier_seconds + time.perf_counter() - self._started
        content = {
            "format": FORMAT,
            "done": self._done,
            "drawn": problem.has_drawn,
            "queries": problem.queries,
            "stages": list(problem.stages),
            "looked": sorted(problem.looked),
            "details": json.dumps(named(problem.details), default=str),
            "best": {name: getattr(problem.best, name).cpu() for name in _LEDGER},
            "path": {**{name: getattr(problem.path, name).cpu() for name in _PATH}, "queries": problem.path.queries},
            "counts": {**asdict(counts), "earlier_seconds": seconds},
            "generators": generator_states(problem.images.device),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            write_atomically(self._path, buffer.getvalue())
        except OSError as error:
            raise AttackError(f"the state of the attack cannot be written to {self._path}: {error.strerror}") from error


def clear_states(work: Work) -> None:
    """Remove what the attacks of some work kept, once nobody needs it any more; what others keep there stays."""
    for file in work.kept:
        file.unlink(missing_ok=True)  # several processes, or equal works, may clear the same file


def state_file(folder: Path, model: nn.Module, samples: Samples, request: Attack, options: dict[str, Any]) -> Path:
    """Return where an attack on some samples keeps how far it has come: no other attack has this file."""
    arrays = {"images": samples.images, "labels": samples.labels, "ids": torch.tensor(samples.ids)}
    for name, tensor in (("targets", samples.targets), ("previous_points", samples.previously_broken)):
        if tensor is not None:
            arrays[name] = tensor
    key = hash_json(
        {
            # Its text tells apart networks of equal weights, such as one with another activation.
            "model": [hash_weights(model), str(model)],
            "data": hash_arrays({name: tensor.cpu().numpy() for name, tensor in arrays.items()}),
            "attack": request.name,
            "options": {name: str(named(value)) for name, value in options.items()},
            "settings": {name: str(value) for name, value in request.account.items()},
            "budget": [request.norm, request.epsilon],
        }
    )
    return folder / f"{key}{SUFFIX}"
