"""A record as tidy rows: one for each number that was measured, with what it was measured under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

Group = (
    Literal["accuracy", "robustness", "distance", "certification", "corruptions"]
    | Literal["shift", "ood", "calibration", "cost"]
)

GROUPS: dict[Group, str] = {
    "accuracy": "Accuracy",
    "robustness": "Robust accuracy",
    "distance": "Distance to the decision boundary",
    "certification": "Certified in L2",
    "corruptions": "Under corruptions",
    "shift": "On shifted sets",
    "ood": "OOD (AUROC)",
    "calibration": "Calibration",
    "cost": "Cost",
}
"""Group of metrics → its heading, in the order of tables."""

COSTS = {
    "macs": ("MACs per image", "MACs"),
    "parameters": ("parameters", ""),
    "memory": ("memory in training", "bytes"),
    "latency": ("latency, 1 image", "ms"),
    "training_seconds": ("training time", "s"),
    "energy_kwh": ("training energy", "kWh"),
    "co2_kg": ("training CO₂", "kg"),
}
"""Cost → what it is called for readers, and its unit: first what is counted, then what is measured."""

OF_TRAINING = {"training_seconds": "seconds", "energy_kwh": "energy_kwh", "co2_kg": "co2_kg"}
"""Cost → what the record of a training calls it."""

COLUMNS = (
    *("group", "metric", "name", "dataset", "norm", "epsilon", "severity"),
    *("value", "low", "high", "n", "valid"),
)

TidyRow = dict[str, Any]
_Found = Iterator[TidyRow]
_CORRUPTED = {"accuracy": "table", **{name: name for name in ("nll", "ece", "brier", "consistency")}}
_CORRUPTED_MEANS = ("mean_accuracy", "mean_error", "mean_error_19", "mean_error_evaluated", "relative_mean_error")
_DETECTION = ("auroc", "aupr_in", "aupr_out", "fpr95_ood_positive", "fpr95_id_positive")
_ATTACKED = ("auroc_clean", "auroc_in_attacked", "auroc_out_attacked", "auroc_both_attacked")


def tidy_rows(record: Mapping[str, Any], costs: Mapping[str, float | None]) -> list[TidyRow]:
    """Return the rows of a record, given as plain values, and of what its network costs; each has all of `COLUMNS`."""
    shared = {**dict.fromkeys(COLUMNS), "dataset": record["dataset"], "n": record["n"], "valid": True}
    readers = (_accuracy, _attacks, _certified, _corruptions, _shift, _detection, _calibration)
    rows: list[TidyRow] = [shared | row for read in readers for row in read(record)]
    of_costs = {"group": "cost", "dataset": None, "n": None}
    rows += [{**shared, **of_costs, "metric": name, "value": cost} for name, cost in costs.items()]
    nothing = dict.fromkeys(("value", "low", "high"))
    tidy = [row if row["valid"] else row | nothing for row in rows]
    return [row for row in tidy if row["value"] is not None or not row["valid"]]


def _accuracy(record: Mapping[str, Any]) -> _Found:
    yield {"group": "accuracy", "metric": "accuracy", **_of(record["clean"], "accuracy")}


def _calibration(record: Mapping[str, Any]) -> _Found:
    for name in ("ece", "nll", "brier"):
        yield {"group": "calibration", "metric": name, "value": record["clean"][name]}


def _of(entry: Mapping[str, Any], name: str) -> TidyRow:
    """Return a value with its interval."""
    low, high = entry["interval"]
    return {"value": entry[name], "low": low, "high": high}


def _attacks(record: Mapping[str, Any]) -> _Found:
    for entry in record["attacks"]:
        about = {name: entry[name] for name in ("name", "norm", "epsilon", "valid")}
        yield {"group": "robustness", "metric": "robust_accuracy", **about, **_of(entry, "robust_accuracy")}
    for (name, norm), entry in searches(record["attacks"]).items():
        distance = {end: entry["distance"][end] for end in ("low", "high")} | {"value": entry["distance"]["median"]}
        about = {"name": name, "norm": norm, "valid": entry["valid"]}
        yield {"group": "distance", "metric": "median_distance", **about, **distance}


def searches(attacks: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return (attack, norm) → its entry, of minimum-norm attacks, whose distance is that of all their budgets."""
    return {(entry["name"], entry["norm"]): entry for entry in attacks if entry.get("distance")}


def _certified(record: Mapping[str, Any]) -> _Found:
    found = record["certified"]
    if found is None:
        return
    about = {"group": "certification", "norm": "l2", "n": found["n"]}
    for each in found["at"]:
        yield about | {"metric": "certified_accuracy", "epsilon": each["radius"], **_of(each, "accuracy")}
    for name in ("abstained", "average_radius"):
        yield about | {"metric": name, "value": found[name]}


def _corruptions(record: Mapping[str, Any]) -> _Found:
    found = record["corruptions"]
    if found is None:
        return
    about = {"group": "corruptions", "n": found["n"]}
    for metric, table in _CORRUPTED.items():
        for name, values in (found[table] or {}).items():
            idle = found["unchanged"].get(name, ())
            for severity, value in enumerate(values, start=1):
                cell = {"metric": metric, "name": name, "severity": severity, "value": value}
                yield about | cell | {"valid": severity not in idle}
    yield from (about | {"metric": name, "value": found[name]} for name in _CORRUPTED_MEANS)
    if found["dense"]:
        yield about | {"metric": "mce_vs_dense", "value": found["dense"]["mce_vs_dense"]}


def _shift(record: Mapping[str, Any]) -> _Found:
    for entry in record["shift"]:
        about = {"group": "shift", "dataset": entry["name"], "n": entry["n"]}
        yield about | {"metric": "accuracy", **_of(entry, "accuracy")}
        yield about | {"metric": "gap", "value": entry["gap"]}


def _detection(record: Mapping[str, Any]) -> _Found:
    for entry in record["ood"]:
        about = {"group": "ood", "dataset": entry["dataset"], "n": entry["n_in"] + entry["n_out"]}
        yield from (about | row for row in _figures(entry["detectors"]))
        # Of a full spectrum, how many images there are is not on file.
        full = _figures(entry["full_spectrum"])
        yield from (about | row | {"metric": f"full_spectrum_{row['metric']}", "n": None} for row in full)
        for attacked in entry["attacks"]:
            own = about | {"norm": "linf", "epsilon": attacked["epsilon"], "n": attacked["n_in"] + attacked["n_out"]}
            for name, figures in attacked["detectors"].items():
                for metric in _ATTACKED:
                    valid = figures["valid"] or metric == "auroc_clean"
                    yield own | {"metric": metric, "name": name, "value": figures[metric], "valid": valid}


def _figures(detectors: Mapping[str, Mapping[str, Any]]) -> _Found:
    for name, figures in detectors.items():
        for metric in _DETECTION:
            low, high = figures["intervals"].get(metric, (None, None))
            yield {"metric": metric, "name": name, "value": figures[metric], "low": low, "high": high}
