"""Which records belong together: what may be compared, and which are seeds of one method."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from robustprune.comparison import DENSE
from robustprune.errors import RecordWarning, ReportError
from robustprune.records import Record
from robustprune.report.identity import differing, identity, recipe

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
    for title, alike in _together(kept, [_title(record) for record in kept]).items():
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
        facts = [{} if name == DENSE else _facts(record) for record in alike]
        told = differing(facts)
        groups |= _together(alike, [", ".join([name, *(f"{each} {own.get(each)}" for each in told)]) for own in facts])
    return groups


def _facts(record: Record) -> dict[str, Any]:
    """Return what may set a network apart from others whose method has the same name."""
    own = identity(record)
    return {
        "found": "in the trained network" if own["after"] else "at initialization",
        **{name: own[name] for name in ("eligibility", "variant")},
        "matched by": own["match"],
        **{f"with {name}": value for name, value in own["options"].items()},
        **{f"trained with {name}": value for name, value in recipe(record).items()},
    }


def fullest(records: Sequence[Record]) -> list[Record]:
    """Return the records without those whose network and images another one has, with all that they have measured."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, record in enumerate(records):
        # Several ways to find a ticket may end at one network, which is the ticket of each.
        ways = json.dumps(_facts(record), sort_keys=True, default=str)
        key = (_title(record), name_method(record), ways, record.model.sha256, record.samples_sha256)
        alike.setdefault(key, []).append(place)
    contents = [_content(record) for record in records]
    left_out = {
        place
        for own in alike.values()
        for place in own
        for other in own
        # Of two with the same content, the first one stays.
        if contents[place] < contents[other] or (contents[place] == contents[other] and other < place)
    }
    return [record for place, record in enumerate(records) if place not in left_out]


def _content(record: Record) -> set[str]:
    """Return what was measured, with the settings that decide it."""
    attacks = {f"attack {each.name} {each.norm} {each.epsilon} {each.options} {record.seed}" for each in record.attacks}
    corrupted = set()
    if record.corruptions is not None:
        corrupted = {
            f"corruption {record.corruptions.source} {record.seed} {name}" for name in record.corruptions.table
        }
    foreign = {f"ood {each.dataset} {sorted(each.detectors)}" for each in record.ood}
    shifted = {f"shift {each.name}" for each in record.shift}
    timed = {"latency"} if record.model.latency_ms else set()
    return attacks | corrupted | foreign | shifted | timed


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
    title = title or _title(next(iter(records.values()))[0])
    if DENSE not in records:
        raise ReportError(
            f"{title}: there is no record of a dense network to compare {', '.join(sorted(records))} with; evaluate "
            f"the network that nothing was removed from, or name its records: {DENSE}=FILE,…"
        )
    if len(records) == 1:
        raise ReportError(f"{title}: there is no record of a pruned network to compare with the dense one")
    names = [DENSE, *(name for name in records if name != DENSE)]
    return Group(title, {name: list(records[name]) for name in names})


def name_method(record: Record) -> str:
    """Return what the seeds of a method have in common, for readers: ``grasp, 4 layers``."""
    plan = record.model.plan
    method, criterion = plan.get("method", "none"), plan.get("criterion")
    if method == "none":
        name = DENSE
    elif method == "layer":
        name = f"{criterion}, {_layers(len(plan['removed']))}"
    elif method == "filter":
        match = plan.get("match")
        matched = f" like {_layers(len(match['removed']))}" if match and match["removed"] else ""
        uniform = " uniformly" if plan.get("variant") == "uniform" else ""
        size = matched or f", {sum(map(len, plan['removed_filters'].values()))}"
        name = f"{criterion}, filters{uniform}{size}"
    else:
        name = f"{criterion}, {100 * (plan.get('sparsity') or 0):.4g} % of weights"
    rewound = identity(record)["rewound"]
    return name if rewound is None else f"{name}, rewound to {rewound}"


def _layers(count: int) -> str:
    return f"{count} layer{'s' if count != 1 else ''}"


def _title(record: Record) -> str:
    recipe = record.model.training.get("recipe") or {}
    defences = [recipe.get(name) for name in ("adversarial", "defence")]
    hardened = " and ".join(str(name) for name in defences if name not in (None, "none"))
    return f"{record.model.architecture} on {record.dataset}{f', trained with {hardened}' if hardened else ''}"
