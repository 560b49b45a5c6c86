"""The state of a training run after an epoch, so that a killed run loses at most one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from robustprune.errors import TrainingError
from robustprune.runtime.kinds import CHECKPOINT
from robustprune.runtime.sealed import DamagedFileError, read_sealed, write_sealed

FORMAT = "robustprune-checkpoint"


@dataclass
class Checkpoint:
    """Where a run stands.

    Attributes:
        settings: Everything that decides its outcome; a run is only resumed under equal settings.
        history: One entry per finished epoch.
        weights: The network's parameters and buffers.
        optimizer: The optimizer's state.
        energy_method: How energy was measured so far.
    """

    settings: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    energy_method: str = ""

    def save(self, path: Path) -> None:
        """Write the checkpoint, atomically.

        Raises:
            TrainingError: The file cannot be written, or one of another kind is there.
        """
        try:
            write_sealed(path, {"format": FORMAT, **vars(self)}, CHECKPOINT)
        except OSError as error:
            raise TrainingError(f"the checkpoint {path} cannot be written: {error.strerror}") from error


def load_checkpoint(path: Path, settings: dict[str, Any]) -> Checkpoint | None:
    """Return the checkpoint at ``path``, or None where there is none yet.

    Raises:
        TrainingError: The file is damaged, or belongs to a run with other settings; the message names them.
    """
    if not path.exists():
        return None
    try:
        content = read_sealed(path, FORMAT)
    except DamagedFileError as error:
        raise TrainingError(f"training cannot be resumed: {error}; delete the file to start anew") from error
    differing = [
        f"{name} was {content['settings'].get(name)!r}, is {settings.get(name)!r}"
        for name in sorted({*settings, *content["settings"]})
        if settings.get(name) != content["settings"].get(name)
    ]
    if differing:
        raise TrainingError(
            f"training cannot be resumed from {path}, which belongs to another run: {'; '.join(differing)}. "
            "Give the same options as before, or delete the file to start anew"
        )
    del content["format"]
    return Checkpoint(**content)
