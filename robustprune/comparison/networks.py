"""Networks to compare: their records, found and reduced to what comparing takes."""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustprune.comparison.outcomes import Outcomes
from robustprune.comparison.reading import read_outcomes
from robustprune.errors import ComparisonError, EvaluationError, RecordWarning
from robustprune.records import Record, load_record
from robustprune.runtime.files import user_path

Source = Record | str | Path


@dataclass(frozen=True, eq=False)
class Network:
    """One network of a comparison.

    Attributes:
        name: Where its record came from, for messages.
        group: ``dense``, or the candidate it is one of.
        seed: Of its training, else of its initial weights; None for a network that does not know.
        sha256: Of its weights.
        facts: What has to be equal for any two networks: which images they saw.
        recipe: How it was trained; empty where that is not on file.
        outcomes: By metric.
    """

    name: str
    group: str
    seed: int | None
    sha256: str
    facts: dict[str, Any]
    recipe: dict[str, Any]
    outcomes: Outcomes


def read_networks(group: str, sources: Source | Sequence[Source], **settings: Any) -> list[Network]:
    """Return the networks of a group in the order of their seeds; one record is held at a time.

    Args:
        group: Its name.
        sources: Records, their files, folders of them, or patterns such as ``runs/*/layer.json``.
        settings: Of :func:`read_outcomes`.

    Raises:
        ComparisonError: There is no record, one network twice, or two of one seed.
        EvaluationError: A record cannot be read.
    """
    listed = [sources] if isinstance(sources, Record | str | Path) else list(sources)
    networks = [_network(group, place, record, settings) for place, record in _records(listed)]
    if not networks:
        raise ComparisonError(f"no records were given for {group!r}; give files, or folders that hold some")
    _refuse_repeated(networks)
    return sorted(networks, key=lambda network: (network.seed is None, network.seed or 0))


def _records(sources: Sequence[Source]) -> Iterator[tuple[str, Record]]:
    for place, source in enumerate(sources, start=1):
        if isinstance(source, Record):
            yield source.model.path or f"record {place}", source
        else:
            for path, record in read_records(source):
                yield str(path), record


def read_records(source: str | Path, left_out: list[Path] | None = None) -> Iterator[tuple[Path, Record]]:
    """Yield the records that a path names.

    Args:
        source: A file, a folder or a pattern.
        left_out: Gets the files of a folder that cannot be read, each of which is named in a warning; without it such a
            file is an error.

    Raises:
        ComparisonError: Nothing is there, or nothing that can be read.
        EvaluationError: A record cannot be read that is named by itself or by a pattern, or is not to be left out.
    """
    is_lenient = left_out is not None and user_path(source).is_dir()
    problem, count = None, 0
    for path in find_records(source, lenient=is_lenient):
        try:
            record = load_record(path)
        except EvaluationError as error:
            if left_out is None or not is_lenient:
                raise
            problem = problem or error
            warnings.warn(f"left out: {error}", RecordWarning, stacklevel=2)
            left_out.append(path)
            continue
        count += 1
        yield path, record
    if not count:
        raise ComparisonError(f"{source} holds no record that can be read: {problem}") from problem


def find_records(source: str | Path, *, lenient: bool = False) -> list[Path]:
    """Return the files that a path names: itself, all records in it and below, or what a pattern matches.

    Args:
        source: A file, a folder or a pattern.
        lenient: Whether in a folder all counts that cannot be read, and may be a record.

    Raises:
        ComparisonError: Nothing is there.
    """
    path = user_path(source)
    if path.is_dir():
        found = [each for each in sorted(path.rglob("*.json")) if _is_record(each, lenient)]
        missing = "holds no record"
    elif path.exists() or not glob.has_magic(str(path)):
        return [path]
    else:
        found = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
        missing = "matches no file"
    if not found:
        raise ComparisonError(f"{source} {missing}; `robustprune evaluate … --out FILE.json` writes one")
    return found


def _is_record(path: Path, lenient: bool) -> bool:
    """Return whether a file is a record rather than some other JSON.

    A damaged record counts, to be complained of: a seed that is silently left out would change the verdict.
    """
    text = b""
    try:
        text = path.read_bytes()
        content = json.loads(text)
    except (OSError, ValueError, RecursionError):
        # Records begin with their schema, also those that were cut off.
        return lenient or b'"schema"' in text[:40]
    return isinstance(content, dict) and {"schema", "model", "samples_sha256"} <= content.keys()


def _network(group: str, place: str, record: Record, settings: dict[str, Any]) -> Network:
    training = record.model.training
    return Network(
        name=place,
        group=group,
        seed=record.model.seed,
        sha256=record.model.sha256,
        facts={
            "dataset": record.dataset,
            "split": record.split,
            "number of samples": record.n,
            "samples": record.samples_sha256[:12],
        },
        recipe=dict(training.get("recipe") or {}),
        outcomes=read_outcomes(record, **settings),
    )


def _refuse_repeated(networks: Sequence[Network]) -> None:
    weights: dict[str, Network] = {}
    seeds: dict[int, Network] = {}
    for network in networks:
        same = weights.setdefault(network.sha256, network)
        if same is not network:
            raise ComparisonError(
                f"{same.name} and {network.name}, both given for {network.group!r}, are records of one network; each "
                "network counts once"
            )
        same = network if network.seed is None else seeds.setdefault(network.seed, network)
        if same is not network:
            raise ComparisonError(
                f"{same.name} and {network.name}, both given for {network.group!r}, are networks of one seed, "
                f"{network.seed}; networks of another kind are another candidate, with a name of its own"
            )
