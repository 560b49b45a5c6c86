"""An attack on disk, so that an interrupted one is picked up where it was.

Written after every stage, and every few seconds between two steps of a loop (`AttackProblem.steps`): the books, what
the loop carries, and where the random generators stand. What is computed after picking up is so what would have been
computed without the interruption, bit by bit.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from robustprune.attacks.engine.ledger import Start, Tally
from robustprune.attacks.engine.settings import Samples
from robustprune.attacks.engine.stages import Keeper, Midway
from robustprune.attacks.registry import named
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.runtime.environment import hash_weights
from robustprune.runtime.files import hash_arrays, hash_json, write_atomically
from robustprune.runtime.randomness import generator_states, restore_generators

if TYPE_CHECKING:
    from robustprune.attacks.engine.problem import AttackProblem

FORMAT = 5
SUFFIX = ".state"
SECONDS = 5.0
"""How long a loop goes on before it is saved."""
WRITING_SHARE = 0.02
"""Of the time, at most so much goes into saving loops."""


@dataclass(frozen=True)
class SavedState:
    """What is on disk of one attack: a file for each wave of samples.

    Attributes:
        path: The first of them, which need not exist.
        key: Says which attack it is, see `state_key`.
        started: When the attack was begun, or picked up, by `time.perf_counter`.
    """

    path: Path
    key: str
    started: float = field(default_factory=time.perf_counter)

    def attach(self, wave: int, problem: AttackProblem, tally: Tally) -> None:
        """Bring a problem to where it was, let it pass over what is behind, and save it as it goes on.

        Raises:
            AttackError: The file of this wave cannot be read, or is that of another attack.
        """
        problem.stages.keeper = _FileKeeper(self, wave_file(self.path, wave), problem, tally)


class _FileKeeper(Keeper):
    """The file of one wave."""

    def __init__(self, saved: SavedState, path: Path, problem: AttackProblem, tally: Tally) -> None:
        self._saved, self._path, self._problem, self._tally = saved, path, problem, tally
        self._done: list[list[Any]] = []
        self._due = time.monotonic() + SECONDS
        known = _read(path, saved.key)
        if known is None:
            return
        try:
            self._restore(known)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise AttackError(f"{path} is damaged ({error!r}); delete it to start anew") from error

    def _restore(self, known: dict[str, Any]) -> None:
        self._done = known["done"]
        self.had_drawn = known["problem"]["drawn"]
        self.midway = None if known["midway"] is None else Midway(**known["midway"])
        self._problem.restore(known["problem"], known["ledger"])
        for name, value in known["tally"].items():
            setattr(self._tally, name, value)
        self._tally.starts = {name: Start(**start) for name, start in known["tally"]["starts"].items()}
        restore_generators(known["generators"])

    def is_done(self, restart: int, stage: str) -> bool:
        return [restart, stage] in self._done

    def finish(self, restart: int, stage: str) -> None:
        self._done.append([restart, stage])
        self._write(None)

    def pass_by(self, look: Callable[[], Midway]) -> None:
        if time.monotonic() < self._due:
            return
        started = time.monotonic()
        self._write(look())
        spent = time.monotonic() - started
        self._due = time.monotonic() + max(SECONDS, spent / WRITING_SHARE)

    def _write(self, midway: Midway | None) -> None:
        seconds = self._tally.earlier_seconds + time.perf_counter() - self._saved.started
        content = {
            "format": FORMAT,
            "key": self._saved.key,
            "done": self._done,
            "problem": self._problem.state(),
            "ledger": self._problem.ledger.state(),
            "tally": {**asdict(self._tally), "earlier_seconds": seconds},
            "generators": generator_states(),
            "midway": None if midway is None else vars(midway),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        try:
            write_atomically(self._path, buffer.getvalue())
        except OSError as error:
            raise AttackError(f"the state of the attack cannot be written to {self._path}: {error.strerror}") from error


def clear_states(folder: str | Path) -> None:
    """Remove what attacks kept in a folder, once nobody needs it any more."""
    for file in Path(folder).glob(f"*{SUFFIX}*"):
        file.unlink()


def wave_file(path: Path, wave: int) -> Path:
    """Return where a wave of samples is kept: in the file itself, further ones beside it."""
    return path if wave == 0 else path.with_name(f"{path.name}-{wave}")


def state_key(model: nn.Module, samples: Samples, request: Attack, options: dict[str, Any]) -> str:
    """Return a hash over the model, the data and the configuration of an attack."""
    arrays = {"images": samples.images, "labels": samples.labels, "ids": torch.tensor(samples.ids)}
    for name, tensor in (("targets", samples.targets), ("carried", samples.carried_broken)):
        if tensor is not None:
            arrays[name] = tensor
    return hash_json(
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


def _read(path: Path, key: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True)
        is_same = found["format"] == FORMAT and found["key"] == key
    except Exception as error:
        raise AttackError(f"{path} is no state of an attack: {error}; delete it to start anew") from error
    if not is_same:
        raise AttackError(
            f"{path} holds the state of another attack: model, images or settings differ; finish that one, or "
            "delete the file to start anew"
        )
    return found
