"""An attack on disk between its stages, so that an interrupted one is picked up where it was."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robustprune.attacks.ledger import Start, Tally
from robustprune.attacks.settings import Samples, Settings
from robustprune.attacks.stages import Keeper
from robustprune.errors import AttackError
from robustprune.files import hash_arrays, hash_json, write_atomically
from robustprune.provenance import hash_weights

if TYPE_CHECKING:
    from robustprune.attacks.problem import AttackProblem

FORMAT = 1


class _WaveKeeper(Keeper):
    """Knows what the file has of one wave, and writes it after each further stage."""

    def __init__(self, write: Callable[[], None], known: dict[str, Any], problem: AttackProblem, tally: Tally) -> None:
        self.had_drawn = known.get("problem", {}).get("drawn", False)
        self._write, self._known, self._problem, self._tally = write, known, problem, tally

    def is_done(self, restart: int, stage: str) -> bool:
        return [restart, stage] in self._known["done"]

    def finish(self, restart: int, stage: str) -> None:
        problem, known = self._problem, self._known
        known["done"].append([restart, stage])
        known.update(problem=problem.state(), ledger=problem.ledger.state(), tally=asdict(self._tally))
        self._write()


class SavedState:
    """The file of one attack: for each wave of samples its books and the stages that are finished."""

    def __init__(self, path: Path, key: str) -> None:
        """Open ``path``, which need not exist, for the attack with the key ``key``.

        Raises:
            AttackError: The file cannot be read, or is that of another attack.
        """
        self._path, self._key = path, key
        self._waves: dict[int, dict[str, Any]] = {}
        if path.exists():
            self._waves = _read(path, key)

    def attach(self, wave: int, problem: AttackProblem, tally: Tally) -> None:
        """Bring a problem to where it was, skip its finished stages, and save it after each further one."""
        known = self._waves.setdefault(wave, {"done": []})
        if "ledger" in known:
            problem.restore(known["problem"], known["ledger"])
            for name, value in known["tally"].items():
                setattr(tally, name, value)
            tally.starts = {name: Start(**start) for name, start in known["tally"]["starts"].items()}

        problem.stages.keeper = _WaveKeeper(self._write, known, problem, tally)

    def _write(self) -> None:
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "key": self._key, "waves": self._waves}, buffer)
        try:
            write_atomically(self._path, buffer.getvalue())
        except OSError as error:
            raise AttackError(f"the state of the attack cannot be written to {self._path}: {error.strerror}") from error


def state_key(model: nn.Module, samples: Samples, attack: str, options: dict[str, Any], settings: Settings) -> str:
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
            "attack": attack,
            "options": {name: str(value) for name, value in options.items()},
            "settings": {name: str(value) for name, value in settings.shared_options().items()},
            "budget": [settings.norm.name, settings.epsilon],
        }
    )


def _read(path: Path, key: str) -> dict[int, dict[str, Any]]:
    try:
        found = torch.load(path, weights_only=True)
        known: dict[int, dict[str, Any]] = found["waves"]
        is_same = found["format"] == FORMAT and found["key"] == key
    except Exception as error:
        raise AttackError(f"{path} is no state of an attack: {error}; delete it to start anew") from error
    if not is_same:
        raise AttackError(
            f"{path} holds the state of another attack: model, images or settings differ; finish that one, or "
            "delete the file to start anew"
        )
    tensors = (wave.get("ledger", {}) for wave in known.values())
    if any(not isinstance(value, Tensor) for ledger in tensors for value in ledger.values()):
        raise AttackError(f"{path} is damaged; delete it to start anew")
    return known
