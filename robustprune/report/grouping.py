"""Which records belong together: those that are named so, or what may be compared and the seeds of one method."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.comparison import DENSE
from robustprune.comparison.sources import is_named, read_records, split_named
from robustprune.errors import RecordWarning, ReportError
from robustprune.records import Record
from robustprune.report.methods import differing, fullest, method_facts, name_context, name_method, recipe

Groups = dict[str, list[Record]]
"""Name of a method → the records of its seeds; ``dense`` comes first."""


@dataclass(frozen=True)
class Group:
    """One part of a report: the networks of one architecture on the same images, with one defence."""

    title: str
    records: Groups

    @property
    def candidates(self) -> Groups:
        """All but the dense network."""
        return {name: records for name, records in self.records.items() if name != DENSE}


def load_groups(sources: Sequence[str | Path]) -> list[Group]:
    """Return the records that sources name, grouped.

    Args:
        sources: Either ``name=FILE,FILE,…``, each a method and the records of its seeds, ``dense`` among them; or
            files, folders and patterns of files, grouped by what the records say.

    Raises:
        ReportError: Both kinds at once, or groups that make no report.
        ComparisonError: There is no record in a folder.
        EvaluationError: A record cannot be read.
    """
    texts = [str(source) for source in sources]
    named = [text for text in texts if is_named(text)]
    left_out: list[Path] = []
    if not named:
        records = _read(texts, left_out)
        return group_records(records, lenient=bool(left_out))
    if len(named) < len(texts):
        raise ReportError(
            f"{next(text for text in texts if text not in named)} has no name while {named[0]} has; name all "
            "records (name=FILE,FILE) or none"
        )
    given: dict[str, list[Record]] = {}
    for text in named:
        name, places = split_named(text)
        given.setdefault(name, []).extend(_read(places, left_out))
    return [make_group(given)]


def _read(places: Sequence[str], left_out: list[Path]) -> list[Record]:
    """Return the records of some places, each once, though it may be in two of them."""
    found: dict[Path, Record] = {}
    for place in places:
        for path, record in read_records(place, left_out):
            found.setdefault(path.resolve(), _narrowed(record))
    return list(found.values())


def _narrowed(record: Record) -> Record:
    """Return a record whose predictions take as few bytes as they can: hundreds are held at once."""
    if record.samples is not None:
        record.samples = {name: _narrow(values) for name, values in record.samples.items()}
    return record


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "i" or not values.size:
        return values
    return values.astype(np.min_scalar_type(-1 - int(np.abs(values).max())))


def group_records(records: Sequence[Record], *, lenient: bool = False) -> list[Group]:
    """Return one group for each architecture, defence, recipe of dense networks and sample of images, by title.

    Of several records of one network on the same images, those that have nothing which another has not are left out.

    Args:
        records: Of all networks.
        lenient: Whether to leave out, with a warning, a group of which too little is left, as long as there is another:
            where a record could not be read, it is to stop nothing but what it was about.

    Raises:
        ReportError: There is no dense network in one of them, or nothing to compare it with.
    """
    parts: Groups = {}
    kept = fullest(records)
    for title, alike in _together(kept, [name_context(record) for record in kept]).items():
        for recipe_title, members in _by_recipe(title, alike).items():
            samples = _together(members, [record.samples_sha256 for record in members])
            parts |= {recipe_title + _images(samples, each): own for each, own in samples.items()}
    groups: list[Group] = []
    problems: list[ReportError] = []
    for title, own in sorted(parts.items()):
        try:
            groups.append(make_group(dict(sorted(_by_method(own).items())), title))
        except ReportError as error:
            problems.append(error)
    if problems and not (lenient and groups):
        raise problems[0]
    for problem in problems:
        warnings.warn(f"left out: {problem}", RecordWarning, stacklevel=3)
    return groups


def _together(records: Sequence[Record], names: Sequence[str]) -> Groups:
    groups: Groups = {}
    for record, name in zip(records, names, strict=True):
        groups.setdefault(name, []).append(record)
    return groups


def _by_recipe(title: str, records: Sequence[Record]) -> Groups:
    """Return a part for each way in which dense networks were trained, its title saying in what they differ."""
    told = differing([recipe(record) for record in records if name_method(record) == DENSE])
    names = []
    for record in records:
        own = recipe(record)
        names.append(
            title + ("".join(f", {each} {own.get(each)}" for each in told) if own or not told else ", untrained")
        )
    return _together(records, names)


def _by_method(records: Sequence[Record]) -> Groups:
    """Return the seeds of each method; what methods of one name differ in is added to it."""
    groups: Groups = {}
    for name, alike in _together(records, [name_method(record) for record in records]).items():
        facts = [{} if name == DENSE else method_facts(record) for record in alike]
        told = differing(facts)
        groups |= _together(alike, [", ".join([name, *(f"{each} {own.get(each)}" for each in told)]) for own in facts])
    return groups


def _images(groups: Groups, samples: str) -> str:
    """Return what sets one sample of images apart from others of the same networks."""
    if len(groups) == 1:
        return ""
    sizes = {each: own[0].n for each, own in groups.items()}
    same = [size for size in sizes.values() if size == sizes[samples]]
    return f", {sizes[samples]:,} images" + (f" ({samples[:8]})" if len(same) > 1 else "")


def make_group(records: Mapping[str, Sequence[Record]], title: str | None = None) -> Group:
    """Return named records as a group, the dense network first.

    Raises:
        ReportError: As for :func:`group_records`.
    """
    title = title or name_context(next(iter(records.values()))[0])
    if DENSE not in records:
        raise ReportError(
            f"{title}: there is no record of a dense network to compare {', '.join(sorted(records))} with; evaluate "
            f"the network that nothing was removed from, or name its records: {DENSE}=FILE,…"
        )
    if len(records) == 1:
        raise ReportError(f"{title}: there is no record of a pruned network to compare with the dense one")
    names = [DENSE, *(name for name in records if name != DENSE)]
    return Group(title, {name: list(records[name]) for name in names})
