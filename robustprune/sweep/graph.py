"""Stages, the runs that need them, and the address of each: the hash of everything that decides how it comes out.

A plan is kept once it is made: resolving defaults takes torch and the image sets, seconds at best. Whether it has to be
made again is found out in milliseconds, from what the code and the images look like from outside.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from robustprune.runtime.files import hash_json, user_path

# To be raised when a kind of stage comes to mean something else: what was made before is then made again.
SCHEMAS = {
    "dense": 1,
    "weights": 1,
    "score": 1,
    "prune": 1,
    "decide": 1,
    "tune": 1,
    "train": 1,
    "evaluate": 1,
    "compare": 2,
}

# What results, or lists of image sets and options, come from besides this package.
_PACKAGES = ("torch", "torchvision", "timm", "torchattacks", "robustbench", "scikit-learn", "torch-pruning", "pydantic")


@dataclass(frozen=True)
class Stage:
    """One piece of work.

    Attributes:
        kind: What is done: see :mod:`robustprune.sweep.stages`.
        inputs: What decides the outcome, defaults spelled out; JSON.
        needs: Role → address of a stage whose outcome is an input too.
        hints: What does not decide the outcome, such as where to compute.
        label: For readers: the first run that wants it.
    """

    kind: str
    inputs: Mapping[str, Any]
    needs: Mapping[str, str] = field(default_factory=dict)
    hints: dict[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def address(self) -> str:
        """``kind-hash``: equal for two stages if and only if their inputs are."""
        schema = SCHEMAS.get(self.kind, 0)
        whole = {"kind": self.kind, "schema": schema, "inputs": self.inputs, "needs": self.needs}
        return f"{self.kind}-{hash_json(whole)[:20]}"


@dataclass(frozen=True)
class PlannedRun:
    """One network that is evaluated.

    Attributes:
        name: For readers.
        settings: As resolved: what a query can ask for.
        stage: Address of its evaluation, which is its identity.
        needs: Addresses of all stages that lead there, itself last.
    """

    name: str
    settings: Mapping[str, Any]
    stage: str
    needs: tuple[str, ...]


@dataclass
class SweepPlan:
    """The runs of a sweep and the stages that they share.

    Attributes:
        runs: In the order of the file.
        stages: By address; what a stage needs comes before it.
        comparisons: Addresses of the stages that compare runs.
        looks: Of a sweep that goes on until its verdicts are decided, one look after the other: ``number``, ``of`` how
            many, ``seeds``, ``most_seeds``, and the addresses of its ``runs`` and ``comparisons``.
        watched: Files and folders → what they looked like; once one differs, the plan has to be made again.
        key: Hash of what was asked for, and of what the code looked like.
    """

    runs: list[PlannedRun] = field(default_factory=list)
    stages: dict[str, Stage] = field(default_factory=dict)
    comparisons: list[str] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)
    watched: dict[str, str] = field(default_factory=dict)
    key: str = ""

    def __post_init__(self) -> None:
        """Note which stages runs end with, and what they are called."""
        self._ends = {run.stage for run in self.runs}
        self._names = Counter(run.name for run in self.runs)

    def add(self, stage: Stage) -> str:
        """Add a stage, unless it is there; return its address."""
        address = stage.address
        self.stages.setdefault(address, stage)
        return address

    def add_run(self, name: str, settings: Mapping[str, Any], stage: str) -> None:
        """Add a run that ends with a stage, unless one does already; a second one of a name gets a number."""
        if stage not in self._ends:
            self._ends.add(stage)
            self._names[name] += 1
            numbered = name if self._names[name] == 1 else f"{name} #{self._names[name]}"
            self.runs.append(PlannedRun(numbered, settings, stage, tuple(dict.fromkeys(self._leading_to(stage)))))

    def at_look(self, place: int) -> SweepPlan:
        """Return what there is to do by one of the looks."""
        look = self.looks[place]
        runs = [run for run in self.runs if run.stage in look["runs"]]
        wanted = {need for run in runs for need in run.needs}.union(look["comparisons"])
        stages = {address: stage for address, stage in self.stages.items() if address in wanted}
        return SweepPlan(runs, stages, look["comparisons"], [look], self.watched, self.key)

    def _leading_to(self, address: str) -> Iterator[str]:
        """Yield a stage's address after those of all that it needs."""
        for need in self.stages[address].needs.values():
            yield from self._leading_to(need)
        yield address

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> SweepPlan:
        """Return the plan that :meth:`to_json` wrote."""
        try:
            found = json.loads(text)
            runs = [PlannedRun(**{**run, "needs": tuple(run["needs"])}) for run in found.pop("runs")]
            stages = {address: Stage(**stage) for address, stage in found.pop("stages").items()}
            return cls(runs, stages, **found)
        except (LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def plan_key(asked: object) -> str:
    """Return the hash of what is asked for, of what the code looks like, and of what its stages mean."""
    code = [look_at(Path(__file__).parent.parent), *map(_version, _PACKAGES)]
    return hash_json([SCHEMAS, hash_json(code), repr(asked)])


def look_at(path: str | Path) -> str:
    """Return what a file or folder looks like from outside: names, sizes, times; empty where there is nothing."""
    path = user_path(path)
    if not path.exists():
        return ""
    found = [(file.relative_to(path), file.stat()) for file in _files(path)]
    return hash_json([[str(name), looks.st_size, looks.st_mtime_ns] for name, looks in found])


def hash_content(path: str | Path) -> str:
    """Return the SHA-256 over the files at a place, and of those in folders within it over their names and sizes.

    Sets of millions of images lie in such folders; reading them all would take longer than evaluating a network.
    """
    path = user_path(path)
    found = []
    for file in _files(path):
        name = file.relative_to(path)
        if len(name.parts) < 2:
            with file.open("rb") as stream:
                found.append([name.as_posix(), hashlib.file_digest(stream, "sha256").hexdigest()])
        else:
            found.append([name.as_posix(), str(file.stat().st_size)])
    return hash_json(found)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            yield Path(folder) / name
