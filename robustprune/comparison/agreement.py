"""Whether records may be compared: on the same samples, under the same settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from robustprune.comparison.networks import Network
from robustprune.comparison.outcomes import Metric
from robustprune.errors import ComparisonError


def require_same_samples(networks: Sequence[Network]) -> None:
    """Check that all networks saw the same images.

    Raises:
        ComparisonError: They did not; it says in what they differ.
    """
    for name in networks[0].facts:
        values = {id(network): network.facts[name] for network in networks}
        _require_one(
            name, networks, values, "evaluate them with the same --dataset, --split and --limit (and --seed of it)"
        )


def require_same_settings(metric: Metric, networks: Sequence[Network]) -> None:
    """Check that a metric was measured in the same way in all networks that have it.

    Raises:
        ComparisonError: It was not; it says what differs.
    """
    having = [network for network in networks if metric in network.outcomes]
    difference = differing_setting(metric, having)
    if difference is not None:
        name, values = difference
        advice = f"evaluate them alike, or compare only other metrics (--metric) than {metric.key}"
        _require_one(f"{metric.key}: {name}", having, values, advice)


def differing_setting(metric: Metric, networks: Sequence[Network]) -> tuple[str, dict[int, Any]] | None:
    """Return a setting in which networks differ, with their values by identity; None if there is none."""
    settings = {id(network): network.outcomes[metric].settings for network in networks}
    for name in dict.fromkeys(name for own in settings.values() for name in own):
        values = {key: own[name] for key, own in settings.items() if own.get(name) is not None}
        if len({_comparable(value) for value in values.values()}) > 1:
            return name, values
    return None


def require_same_draws(metric: Metric, compared: Sequence[Sequence[Network]]) -> None:
    """Check that what was drawn for a metric was the same for networks that are compared with each other.

    Raises:
        ComparisonError: The seeds of the evaluations differ.
    """
    for group in compared:
        values = {id(network): network.outcomes[metric].seed for network in group}
        _require_one(f"{metric.key}: seed of the evaluation", group, values, "evaluate them with the same --seed")


def _require_one(what: str, networks: Sequence[Network], values: Mapping[int, Any], advice: str) -> None:
    """Check that those networks that have a value have one and the same."""
    having = [network for network in networks if values.get(id(network)) is not None]
    for other in having[1:]:
        one, two = values[id(having[0])], values[id(other)]
        if _comparable(one) != _comparable(two):
            raise ComparisonError(
                f"records that cannot be compared: {what} is {one} in {having[0].name} ({having[0].group}) and "
                f"{two} in {other.name} ({other.group}); {advice}"
            )


def _comparable(value: Any) -> str:
    # As a file would hold it, in which there are no tuples.
    return json.dumps(value, sort_keys=True, default=str)
