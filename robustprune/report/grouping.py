"""Groups records for a report: by the names that they are given, or by what they say.

Records that say how their networks were found and trained alike are the seeds of one method.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustprune.comparison import DENSE
from robustprune.comparison.sources import is_named, read_records, split_named
from robustprune.errors import RecordWarning, ReportError
from robustprune.records import Record

Groups = dict[str, list[Record]]
"""Name of a method → the records of its seeds; ``dense`` comes first."""


@dataclass(frozen=True)
class Group:
    """One part of a report: networks of one architecture and way of training, evaluated on the same images."""

    title: str
    records: Groups

    @property
    def candidates(self) -> Groups:
        """The groups of records without the dense one."""
        return {name: records for name, records in self.records.items() if name != DENSE}


def load_groups(sources: Sequence[str | Path]) -> list[Group]:
    """Return the records at some sources in groups; :func:`robustprune.report.write_report` says what sources are.

    Raises:
        ReportError: Some sources have a name and some have none, or a group has nothing to compare.
        ComparisonError: A folder holds no record.
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
    for name, places in map(split_named, named):
        given.setdefault(name, []).extend(_read(places, left_out))
    return [make_group(given)]


def _read(places: Sequence[str], left_out: list[Path]) -> list[Record]:
    """Return the records at some places; a file that two places hold counts once."""
    found: dict[Path, Record] = {}
    for place in places:
        for path, record in read_records(place, left_out):
            if record.samples is not None:
                record.samples = {name: _narrowed(values) for name, values in record.samples.items()}
            found.setdefault(path.resolve(), record)
    return list(found.values())


def _narrowed(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers in as few bytes as they can have: hundreds of records are held at once."""
    if values.dtype.kind != "i" or not values.size:
        return values
    return values.astype(np.min_scalar_type(-1 - int(np.abs(values).max())))


def group_records(records: Sequence[Record], *, lenient: bool = False) -> list[Group]:
    """Return one group for each architecture, way of training, recipe of dense networks and sample of images, by title.

    A record whose every measurement stands in another record of the same network and images is left out.

    If ``lenient``, a group without a dense network or without a candidate is left out with a warning, unless it is the
    only one: so a record that cannot be read stops the rest of a report no more than it has to.

    Raises:
        ReportError: A group has no dense network, or nothing to compare it with.
    """
    parts: Groups = {}
    for title, alike in _together(fullest(records), name_context).items():
        for recipe_title, members in _by_recipe(title, alike).items():
            samples = _together(members, lambda record: record.samples_sha256)
            parts |= {recipe_title + _images(samples, each): own for each, own in samples.items()}
    groups: list[Group] = []
    problems: list[ReportError] = []
    for title, own in sorted(parts.items()):
        try:
            groups.append(make_group(dict(sorted(by_method(own).items())), title))
        except ReportError as error:
            problems.append(error)
    if problems and not (lenient and groups):
        raise problems[0]
    for problem in problems:
        warnings.warn(f"left out: {problem}", RecordWarning, stacklevel=3)
    return groups


def _together(records: Sequence[Record], name: Callable[[Record], str]) -> Groups:
    groups: Groups = {}
    for record in records:
        groups.setdefault(name(record), []).append(record)
    return groups


def _by_recipe(title: str, records: Sequence[Record]) -> Groups:
    """Return a part for each recipe of dense networks; its title names the settings in which the recipes differ."""
    varying = differing([recipe(record) for record in records if name_method(record) == DENSE])

    def name(record: Record) -> str:
        own = recipe(record)
        return title + (
            "".join(f", {each} {own.get(each)}" for each in varying) if own or not varying else ", untrained"
        )

    return _together(records, name)


def by_method(records: Sequence[Record]) -> Groups:
    """Return the seeds of each method; where methods have the same name, the settings that differ are added to it."""
    groups: Groups = {}
    for method, alike in _together(records, name_method).items():
        varying = [] if method == DENSE else differing([method_facts(record) for record in alike])
        for record in alike:
            own = method_facts(record)
            name = ", ".join([method, *(f"{each} {own.get(each)}" for each in varying)])
            groups.setdefault(name, []).append(record)
    return groups


def _images(groups: Groups, samples: str) -> str:
    """Return what distinguishes a sample of images from others that the same networks were evaluated on."""
    if len(groups) == 1:
        return ""
    sizes = {each: own[0].n for each, own in groups.items()}
    is_single = list(sizes.values()).count(sizes[samples]) == 1
    return f", {sizes[samples]:,} images" + ("" if is_single else f" ({samples[:8]})")


def make_group(records: Mapping[str, Sequence[Record]], title: str | None = None) -> Group:
    """Return named records as a group, the dense network first."""
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


def identity(record: Record) -> dict[str, Any]:
    """Return the facts that two tickets of one method share."""
    plan = record.model.plan
    match = plan.get("match") or {}
    gone = match["removed"] if match else plan.get("removed", ())
    after, rewound = bool(record.model.earlier_training), plan.get("rewound_to")
    decided = plan.get("decided_by")
    # Criteria may choose others for each seed, and searches another number; blocks that were named are the method.
    blocks = len(gone) if plan.get("criterion") else sorted(gone)
    return {
        "method": "joint" if decided else plan.get("method", "none"),
        "decided_by": decided,
        "criterion": plan.get("criterion"),
        "options": plan.get("options") or {},
        "eligibility": None if decided else plan.get("eligibility"),
        "unit": plan.get("unit") or "block",
        "choice": plan.get("choice") or "lowest",
        "maps": bool(plan.get("replaced")),
        "search": [plan.get(name) for name in ("budget", "search", "objective")],
        "rounds": _rounds(record),
        "variant": None if decided else plan.get("variant"),
        "match": None if decided else match.get("by"),
        "blocks": None if plan.get("budget") else _blocks_worth(plan) if decided else blocks,
        "after": after,
        # What was found at initialization has the weights of then, whether or not it was set back to them.
        "rewound": None if rewound == 0 and not after else rewound,
    }


def recipe(record: Record) -> dict[str, Any]:
    """Return the settings that a network was trained with; none where it was not trained."""
    return {name: value for name, value in (record.model.training.get("recipe") or {}).items() if value is not None}


def differing(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the facts that are not the same in all mappings."""
    return [
        name
        for name in sorted({name for each in facts for name in each})
        if len({json.dumps(each.get(name), sort_keys=True) for each in facts}) > 1
    ]


def name_method(record: Record) -> str:
    """Return what the seeds of a method have in common, for readers: ``layer ticket (grasp, 4 blocks)``."""
    plan = record.model.plan
    method, criterion = plan.get("method", "none"), str(plan.get("criterion"))
    if method == "none":
        kind, facts = DENSE, []
    elif plan.get("decided_by"):
        kind, facts = "joint ticket", [criterion, f"by {plan['decided_by']}", _count("block", _blocks_worth(plan))]
        facts += [_count("round", rounds[0])] if (rounds := _rounds(record)) else []
    elif method == "layer" and plan.get("criterion") is None:
        kind, facts = "layer ticket", [f"without {', '.join(plan['removed'])}"]
    elif method == "layer":
        control = _CONTROLS.get(str(plan.get("choice")))
        count = _count(_UNITS[plan.get("unit") or "block"], len(plan["removed"]))
        size = [plan["budget"], plan["search"]] if plan.get("budget") else [count]
        size += ["by whole tickets"] if plan.get("objective") == "ticket" else []
        size += [f"{rounds[0]} rounds"] if (rounds := _rounds(record)) else []
        kind, facts = "layer ticket", [criterion, *size, *([control] if control else [])]
    elif method == "filter":
        kind, facts = "filter ticket", [criterion, *(["uniform"] if plan.get("variant") == "uniform" else [])]
        match = plan.get("match")
        if match and match["removed"]:
            facts.append(f"matched to {_count('block', len(match['removed']))}")
        else:
            facts.append(_count("filter", sum(map(len, plan["removed_filters"].values()))))
    else:
        kind, facts = "masked weights", [criterion, f"{100 * (plan.get('sparsity') or 0):.4g} %"]
    facts += ["linear maps in their place"] if plan.get("replaced") else []
    rewound = identity(record)["rewound"]
    facts += [] if rewound is None else [f"rewound to {rewound}"]
    return f"{kind} ({', '.join(facts)})" if facts else kind


def _blocks_worth(plan: Mapping[str, Any]) -> int:
    """Return how many blocks a joint ticket has lost, those counted that filters went instead of."""
    return sum(each.get("blocks_worth") or 0 for each in (*(plan.get("earlier") or ()), plan))


def _rounds(record: Record) -> list[int]:
    """Return how many rounds found a ticket, and the epochs of each training before its own; of one round nothing."""
    rounds = 1 + len(record.model.plan.get("earlier") or ())
    return [rounds, *(each["epochs"] for each in record.model.earlier_training)] if rounds > 1 else []


_UNITS = {"block": "block", "attention": "attention branch", "mlp": "MLP branch"}
"""What layer tickets lose, in words."""
_CONTROLS = {"highest": "highest scores", "random-per-stage": "random per stage"}
"""Choice of blocks → the same in words; the lowest scores go without saying."""


def _count(noun: str, count: int) -> str:
    return f"{count} {noun}{('es' if noun.endswith('ch') else 's') if count != 1 else ''}"


def name_context(record: Record) -> str:
    """Return what comparable records have in common, for readers: architecture, image set and way of training."""
    recipe = record.model.training.get("recipe") or {}
    chosen = [recipe.get(name) for name in ("adversarial", "augmentation")]
    trained = " and ".join(str(name) for name in chosen if name not in (None, "none", "standard"))
    return f"{record.model.architecture} on {record.dataset}{f', trained with {trained}' if trained else ''}"


def method_facts(record: Record) -> dict[str, Any]:
    """Return the facts in which networks may differ whose methods have the same name."""
    own = identity(record)
    return {
        "found": "in the trained network" if own["after"] else "at initialization",
        **{name: own[name] for name in ("eligibility", "variant")},
        "matched by": own["match"],
        **{f"with {name}": value for name, value in own["options"].items()},
        **{f"trained with {name}": value for name, value in recipe(record).items()},
    }


def fullest(records: Sequence[Record]) -> list[Record]:
    """Return the records without those that another one of the same network and images includes."""
    known = [(_network(record), _content(record)) for record in records]

    def is_in_another(place: int) -> bool:
        network, content = known[place]
        return any(
            own == network and (content < more or (content == more and other < place))  # of two alike the first stays
            for other, (own, more) in enumerate(known)
        )

    return [record for place, record in enumerate(records) if not is_in_another(place)]


def _network(record: Record) -> tuple[str, ...]:
    # Several ways to find a ticket may end at one network, which is the ticket of each.
    way = json.dumps(method_facts(record), sort_keys=True, default=str)
    return name_context(record), name_method(record), way, record.model.sha256, record.samples_sha256


def _content(record: Record) -> set[str]:
    """Return everything that was measured, with the settings that decide its outcome."""
    found = {f"attack {each.name} {each.norm} {each.epsilon} {each.options} {record.seed}" for each in record.attacks}
    found |= {f"ood {each.dataset} {sorted(each.detectors)}" for each in record.ood}
    found |= {f"shift {each.name}" for each in record.shift}
    if record.corruptions is not None:
        source = record.corruptions.source
        found |= {f"corruption {source} {record.seed} {name}" for name in record.corruptions.table}
    if (proven := record.certified) is not None:
        found |= {f"certified {proven.sigma} {proven.votes} {proven.votes_to_choose} {proven.alpha} {record.seed}"}
    return found | ({"latency"} if record.model.latency_ms else set())
