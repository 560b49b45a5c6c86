"""What is compared with what, what is refused, and what a comparison says."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_records import make_record

import robustprune as rp
from robustprune.comparison import Comparison, ComparisonRow, compare
from robustprune.comparison.record_metrics import read_metrics
from robustprune.corruptions import HEADLINE
from robustprune.errors import ComparisonError, EvaluationError
from robustprune.records import Record

EVERYTHING: dict[str, Any] = {
    "n": 200,
    "corruptions": HEADLINE,
    "detectors": ("energy",),
    "shift": ("cifar10.2",),
}


def records(kind: str, seeds: range = range(3), **options: Any) -> list[Record]:
    return [make_record(kind=kind, seed=seed, **options) for seed in seeds]


def row(comparison: Comparison, metric: str, candidate: str = "layer") -> ComparisonRow:
    (found,) = [each for each in comparison.rows if (each.candidate, each.metric) == (candidate, metric)]
    return found


@pytest.fixture(scope="module")
def whole() -> Comparison:
    layer = records("layer", accuracy=0.9, macs=700, **EVERYTHING)
    return compare(records("dense", **EVERYTHING), {"layer": layer, "filter": records("filter", **EVERYTHING)})


def test_public_name() -> None:
    assert rp.compare is compare


def test_metrics(whole: Comparison) -> None:
    assert [each.metric for each in whole.rows if each.candidate == "layer"] == [
        *("accuracy", "robust_accuracy[pgd Linf 0.0314]", "corruption_accuracy", "shift_accuracy[cifar10.2]"),
        *("auroc[energy svhn]", "ece", "nll", "brier"),
        *("macs", "parameters", "memory", "training_seconds", "energy_kwh"),
    ]
    assert whole.candidates == ("layer", "filter")


def test_values_are_means_of_the_records(whole: Comparison) -> None:
    dense, layer = records("dense", **EVERYTHING), records("layer", accuracy=0.9, macs=700, **EVERYTHING)
    for metric, read in {
        "accuracy": lambda record: 100 * record.clean.accuracy,
        "robust_accuracy[pgd Linf 0.0314]": lambda record: 100 * record.attacks[0].robust_accuracy,
        "corruption_accuracy": lambda record: 100 * record.corruptions.mean_accuracy,
        "shift_accuracy[cifar10.2]": lambda record: 100 * record.shift[0].accuracy,
        "auroc[energy svhn]": lambda record: 100 * record.ood[0].detectors["energy"].auroc,
        "ece": lambda record: 100 * record.clean.ece,
        "nll": lambda record: record.clean.nll,
        "macs": lambda record: record.model.macs,
    }.items():
        found = row(whole, metric)
        assert found.reference == pytest.approx(np.mean([read(record) for record in dense]))
        assert found.value == pytest.approx(np.mean([read(record) for record in layer]))
        assert found.difference == pytest.approx(found.value - found.reference)
        assert found.n_seeds == 3


def test_samples_add_up_to_the_values() -> None:
    outcomes = read_metrics(make_record(**EVERYTHING), resamples=100)
    linear = {metric.key: outcome for metric, outcome in outcomes.items() if outcome.samples}
    assert linear.keys() == {each.key for each in outcomes if each.group != "cost"} - {"ece"}
    for outcome in linear.values():
        for part in outcome.samples:
            assert outcome.scale * part.mean(dtype=np.float64) == pytest.approx(outcome.value, abs=1e-4)


def test_less_of_an_error_is_better() -> None:
    surer = make_record()
    surer.samples = {**(surer.samples or {}), "nll": (surer.samples or {})["nll"] - 0.05}
    surer.clean.nll -= 0.05
    assert row(compare(make_record(), {"layer": surer}), "nll").verdict == "better"
    assert row(compare(surer, {"layer": make_record()}), "nll").verdict == "worse"


def test_mcnemar_counts_by_hand(whole: Comparison) -> None:
    dense, layer = records("dense", **EVERYTHING), records("layer", accuracy=0.9, macs=700, **EVERYTHING)
    for i, entry in enumerate(row(whole, "robust_accuracy[pgd Linf 0.0314]").per_seed):
        first, second = ([not broken for broken in of[i].samples["attack0_broken"]] for of in (dense, layer))
        assert entry["seed"] == i
        assert entry["b"] == sum(a and not b for a, b in zip(first, second, strict=True))
        assert entry["c"] == sum(b and not a for a, b in zip(first, second, strict=True))
        assert entry["difference"] == pytest.approx(100 * (entry["c"] - entry["b"]) / 200)


def test_holm_is_over_all_rows(whole: Comparison) -> None:
    tested = sorted((each for each in whole.rows if each.p_value is not None), key=lambda each: each.p_value or 0)
    assert len(tested) == 16  # eight metrics of either candidate; costs are not tested
    assert tested[0].p_adjusted == pytest.approx(min(1, 16 * (tested[0].p_value or 0)))
    assert all((a.p_adjusted or 0) <= (b.p_adjusted or 0) for a, b in pairwise(tested))


def test_costs_are_saved_and_have_no_verdict(whole: Comparison) -> None:
    found = row(whole, "macs")
    assert (found.reference, found.value, found.saved_percent, found.verdict) == (1000, 700, pytest.approx(30), None)
    assert found.interval is None
    seconds = row(whole, "training_seconds")
    assert seconds.interval is not None
    assert seconds.interval[0] < (seconds.difference or 0) < seconds.interval[1]


def test_one_sentence_for_each_candidate(whole: Comparison) -> None:
    layer, other = whole.summary
    accuracy = row(whole, "accuracy")
    assert accuracy.statement == "method"
    assert layer.startswith(f"layer vs. dense: clean accuracy {accuracy.verdict} ")
    assert layer.endswith(", 30 % fewer MACs.")
    assert other.startswith("filter vs. dense: ")


def test_plain_values(whole: Comparison) -> None:
    found = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert len(found["rows"]) == len(whole.rows)
    assert found["tolerances"]["accuracy"] == 1.0


def test_table_has_a_line_for_each_row_and_each_group(whole: Comparison) -> None:
    headings, lines = whole.table("layer", "dense")
    assert len(lines) == 13 + 7
    assert {len(line) for line in lines} == {len(headings)}


@given(st.permutations(range(3)), st.integers(0, 5))
@settings(max_examples=10)
def test_order_changes_nothing(order: list[int], shuffle: int) -> None:
    dense, layer = records("dense", n=120, detectors=("energy",)), records("layer", n=120, detectors=("energy",))
    expected = compare(dense, {"layer": layer}, metrics=["accuracy", "robustness", "ood", "nll"])
    places = np.random.default_rng(shuffle).permutation(120)
    for record in (*dense, *layer):
        record.samples = {name: values[places] for name, values in (record.samples or {}).items()}
    found = compare([dense[i] for i in order], {"layer": layer}, metrics=["accuracy", "robustness", "ood", "nll"])
    for one, other in zip(found.rows, expected.rows, strict=True):
        assert one.interval == pytest.approx(other.interval)
        assert one.p_value == pytest.approx(other.p_value)
        assert one.per_seed == other.per_seed


@given(st.integers(1, 4), st.integers(50, 150), st.booleans())
@settings(max_examples=10)
def test_changing_sides_changes_the_sign(seeds: int, n: int, paired: bool) -> None:
    dense = records("dense", range(seeds), n=n)
    layer = records("layer", range(seeds) if paired else range(10, 11 + seeds), n=n, accuracy=0.85)
    there = compare(dense, {"other": layer})
    back = compare(layer, {"other": dense})
    for one, other in zip(there.rows, back.rows, strict=True):
        assert one.metric == other.metric
        assert one.difference == pytest.approx(-(other.difference or 0))
        if one.interval is not None and other.interval is not None:
            assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))
        assert one.p_value == pytest.approx(other.p_value)


@given(st.integers(1, 5), st.floats(0, 5))
@settings(max_examples=10)
def test_a_network_is_not_better_than_itself(seeds: int, tolerance: float) -> None:
    dense = records("dense", range(seeds), n=80, detectors=("energy",))
    found = compare(dense, {"same": dense}, tolerance=tolerance)
    for each in found.rows:
        assert each.difference == 0
        assert each.verdict != "better"
        assert each.p_value in (None, 1.0)


def test_sentence_without_robustness_or_accuracy() -> None:
    dense, layer = make_record(), make_record(kind="layer", macs=1200)
    assert compare(dense, {"layer": layer}, metrics=["macs"]).summary == ("layer vs. dense: 20 % more MACs.",)
    assert compare(dense, {"same": dense}, metrics=["macs"]).summary == ("same vs. dense: as many MACs.",)
    for metric in ("calibration", "ece", "nll", "brier", "parameters", "memory", "training_seconds"):
        found = compare(dense, {"layer": layer}, metrics=[metric])
        assert found.summary[0].endswith(" vs. dense: see the table."), metric
    layer.attacks[0].valid = False
    attack = "robust accuracy (pgd L∞ 8/255) failed a check"
    assert compare(dense, {"layer": layer}, metrics=["robustness"]).summary == (f"layer vs. dense: {attack}.",)
    # A sentence about costs alone would read as an answer.
    layer.samples = None
    said = f"layer vs. dense: clean accuracy not compared, {attack}, 20 % more MACs."
    assert compare(dense, {"layer": layer}).summary == (said,)


def test_few_seeds_speak_of_networks() -> None:
    found = compare(records("dense", range(2)), {"layer": records("layer", range(2))})
    assert row(found, "accuracy").statement == "networks"
    assert found.summary[0].startswith("layer (2 seeds) vs. dense: ")
    assert "hold for these networks, not for the method" in found.limitations[0]


def test_one_pair_has_the_p_value_of_mcnemar() -> None:
    found = row(compare(make_record(), {"layer": make_record(kind="layer", seed=5)}), "accuracy")
    assert found.p_value == found.per_seed[0]["p"]
    assert found.seeds_paired  # of two networks there is but one way to make a pair


def test_other_seeds_are_two_groups() -> None:
    dense, layer = records("dense", range(4)), records("layer", range(2, 5))
    found = compare(dense, {"layer": layer})
    accuracy = row(found, "accuracy")
    assert not accuracy.seeds_paired
    assert accuracy.paired
    assert [(entry["seed"], entry["reference"] is None) for entry in accuracy.per_seed] == [
        *((seed, False) for seed in range(4)),
        *((seed, True) for seed in range(2, 5)),
    ]
    assert "not those of the dense network (0, 1, 2, 3)" in found.limitations[0]


def test_tolerance_of_one_standard_deviation() -> None:
    dense = records("dense", range(5))
    found = compare(dense, {"layer": records("layer", range(5))}, tolerance="std")
    accuracies = [100 * record.clean.accuracy for record in dense]
    assert row(found, "accuracy").tolerance == pytest.approx(np.std(accuracies, ddof=1))
    assert row(found, "nll").tolerance == pytest.approx(np.std([record.clean.nll for record in dense], ddof=1))


def test_scores_without_a_tolerance_never_just_win() -> None:
    dense = make_record(n=4000)
    found = row(compare(dense, {"layer": make_record(kind="layer", n=4000)}, tolerance=50.0), "nll")
    assert (found.tolerance, found.verdict) == (0.0, "undecided")


def changed(change: Callable[[Record], object], **options: Any) -> Record:
    record = make_record(kind="layer", **options)
    change(record)
    return record


def test_invalid_numbers_are_not_compared() -> None:
    def fail(record: Record) -> None:
        record.attacks[0].valid = False
        record.attacks[0].checks[0].verdict = "FAIL"

    found = compare(make_record(), {"layer": changed(fail)})
    robust = row(found, "robust_accuracy[pgd Linf 0.0314]")
    assert (robust.reference, robust.value, robust.difference, robust.verdict) == (None, None, None, None)
    assert robust.reason == "invalid for layer: failed check: containment"
    assert any("failed a check are not compared" in limitation for limitation in found.limitations)
    assert found.notes("layer", "dense") == ["pgd L∞ 8/255: invalid for layer: failed check: containment"]
    assert row(found, "accuracy").verdict is not None


def test_what_not_all_have_is_left_out_with_a_reason() -> None:
    layer = [*records("layer", range(2)), make_record(kind="layer", seed=2, attacks=())]
    found = compare(records("dense"), {"layer": layer})
    assert row(found, "robust_accuracy[pgd Linf 0.0314]").reason == "no value in the records of layer (seed 2)"
    assert row(found, "accuracy").verdict is not None


def test_without_outcomes_per_sample_there_is_no_verdict() -> None:
    bare = make_record(kind="layer")
    bare.samples = None
    found = row(compare(make_record(), {"layer": bare}), "accuracy")
    assert found.difference == pytest.approx(100 * (bare.clean.accuracy - make_record().clean.accuracy))
    assert found.interval is None
    assert found.reason == "no outcomes per sample (samples.npz) for layer"
    two = compare(records("dense", range(2)), {"layer": [make_record(kind="layer"), make_record(kind="layer", seed=1)]})
    assert row(two, "accuracy").reason is None
    assert row(
        compare(records("dense", range(2)), {"layer": [bare, make_record(kind="layer", seed=1)]}), "accuracy"
    ).reason == ("no outcomes per sample (samples.npz) for layer (seed 0)")


def test_records_before_calibration_per_sample() -> None:
    old = make_record(kind="layer")
    old.samples = {name: v for name, v in (old.samples or {}).items() if name not in ("confidence", "nll", "brier")}
    found = compare(make_record(), {"layer": old})
    assert row(found, "ece").reason == "no outcomes per sample (samples.npz) for layer"
    assert row(found, "accuracy").interval is not None


def test_times_on_other_threads_are_not_compared() -> None:
    def more_threads(record: Record) -> None:
        record.model.training["threads"] = 8

    found = compare(make_record(), {"layer": changed(more_threads)})
    assert row(found, "training_seconds").reason == "threads differs: 1, 8"
    assert row(found, "macs").saved_percent is not None


@pytest.mark.parametrize(("name", "value", "reason"), [("device", "cuda", "cpu, cuda"), ("epochs", 5, "20, 5")])
def test_trainings_on_other_devices_or_of_other_lengths_are_not_compared(name: str, value: object, reason: str) -> None:
    def trained(**more: object) -> Callable[[Record], object]:
        return lambda record: record.model.training.update({"epochs": 20, **more})

    found = compare(changed(trained()), {"layer": changed(trained(**{name: value}))})
    for key in ("training_seconds", "energy_kwh"):
        assert row(found, key).reason == f"{name} differs: {reason}"
    # Where no device is on record, it was a CPU.
    alike = compare(changed(trained()), {"layer": changed(trained(device="cpu"))})
    assert row(alike, "energy_kwh").saved_percent == 0


def test_latencies_of_one_kind_of_machine() -> None:
    def timed(median: float, device: str = "cpu") -> Callable[[Record], object]:
        return lambda record: setattr(record.model, "latency_ms", {"median": median, "threads": 1, "device": device})

    dense, layer = changed(timed(4.0), seed=0), changed(timed(3.0), seed=1)
    found = row(compare(dense, {"layer": layer}), "latency")
    assert (found.reference, found.value, found.saved_percent) == (4.0, 3.0, 25.0)
    layer = changed(timed(3.0, "cuda"), seed=1)
    assert row(compare(dense, {"layer": layer}), "latency").reason == "device differs: cpu, cuda"


def set_options(**options: Any) -> Callable[[Record], object]:
    return lambda record: record.attacks[0].options.update(options)


def set_value(part: str, name: str, value: Any) -> Callable[[Record], object]:
    return lambda record: setattr(getattr(record, part) if part else record, name, value)


REFUSED: list[tuple[Callable[[Record], object], str]] = [
    (set_value("", "samples_sha256", "1" * 64), "samples is 000000000000 in dense-0.pt .dense. and 111111111111"),
    (set_value("", "split", "val"), "split is test in dense-0.pt .dense. and val in layer-0.pt .layer."),
    (set_value("", "dataset", "svhn"), "dataset is cifar10"),
    (set_options(steps=20), "robust_accuracy.pgd Linf 0.0314.: steps is 10 .* and 20"),
    (set_options(loss="margin", norm="l2"), "--metric"),
    (lambda record: setattr(record.attacks[0], "epsilon", 0.0314), "epsilon is 0.03137.* and 0.0314"),
    (set_value("corruptions", "source", "CIFAR-10-C"), "source is cifar10-c-like .* and CIFAR-10-C"),
    (set_value("", "seed", 7), "seed of the evaluation is 0 in .* and 7 in"),
]


@pytest.mark.parametrize(("change", "match"), REFUSED)
def test_other_samples_and_settings_are_refused(change: Callable[[Record], object], match: str) -> None:
    def both(record: Record) -> None:
        record.attacks[0].options.setdefault("loss", "ce")
        change(record)

    dense = make_record(**EVERYTHING)
    dense.attacks[0].options["loss"] = "ce"
    with pytest.raises(ComparisonError, match=match):
        compare(dense, {"layer": changed(both, **EVERYTHING)})


def test_an_attack_under_other_settings_can_be_left_aside() -> None:
    found = compare(make_record(), {"layer": changed(set_options(steps=20))}, metrics=["accuracy", "cost"])
    assert row(found, "accuracy").verdict is not None


def test_how_an_attack_was_computed_is_no_setting() -> None:
    incidental = {"batch_size": 7, "frozen": False, "attacks": {"pgd": {"steps": 5, "batch_size": 8}}}
    dense = changed(set_options(frozen=True, attacks={"pgd": {"steps": 5, "batch_size": 9}}), seed=0)
    layer = changed(set_options(**incidental), seed=1)
    assert row(compare(dense, {"layer": layer}), "robust_accuracy[pgd Linf 0.0314]").verdict
    other = changed(set_options(**incidental | {"attacks": {"pgd": {"steps": 6}}}), seed=1)
    with pytest.raises(ComparisonError, match="attacks is"):
        compare(dense, {"layer": other})


def test_pairs_may_have_been_evaluated_with_seeds_of_their_own() -> None:
    def reseeded(kind: str) -> list[Record]:
        found = records(kind)
        for seed, record in enumerate(found):
            set_value("", "seed", seed)(record)
        return found

    assert row(compare(reseeded("dense"), {"layer": reseeded("layer")}), "robust_accuracy[pgd Linf 0.0314]").verdict


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"candidates": {}}, "no candidate"),
        ({"candidates": {"dense": []}}, "two groups are called 'dense'"),
        ({"candidates": {"layer": []}}, "no records were given for 'layer'"),
        ({"tolerance": -1}, "percentage points from 0"),
        ({"tolerance": float("nan")}, "percentage points from 0"),
        ({"tolerance": "sd"}, "'std' or percentage points"),
        ({"tolerance": "std"}, "two seeds or more"),
        ({"confidence": 1.0}, "confidence"),
        ({"resamples": 1}, "at least 100 resamples"),
        ({"metrics": ["robustnes"]}, "Did you mean 'robustness'"),
    ],
)
def test_nonsense(arguments: dict[str, Any], match: str) -> None:
    candidates = arguments.pop("candidates", {"layer": [make_record(kind="layer")]})
    with pytest.raises(ComparisonError, match=match):
        compare([make_record()], candidates, **arguments)


def test_other_training_is_said() -> None:
    def trained(**recipe: Any) -> Callable[[Record], object]:
        return lambda record: record.model.training.update(recipe={"name": "quick", "epochs": 20, **recipe})

    dense = changed(trained(adversarial="none"), seed=0)
    found = compare(dense, {"layer": changed(trained(adversarial="pgd"), seed=1)})
    assert "layer: trained with adversarial pgd, the dense network with none" in found.limitations
    alike = compare(dense, {"layer": changed(trained(adversarial="none"), seed=1)})
    assert not any("trained with" in each for each in alike.limitations)


def test_two_networks_of_one_seed() -> None:
    other = make_record(kind="other", seed=0)
    with pytest.raises(ComparisonError, match="networks of one seed, 0"):
        compare(make_record(), {"layer": [make_record(kind="layer"), other]})


def test_folders_hold_records_among_other_files(tmp_path: Path) -> None:
    for seed in range(3):
        make_record(seed=seed).save(tmp_path / f"dense/seed{seed}/record.json")
    (tmp_path / "dense" / "notes.json").write_text("{}")
    (tmp_path / "dense" / "broken.json").write_text("{")
    found = compare(tmp_path / "dense", {"same": [tmp_path / "dense/seed0/record.json"]})
    assert row(found, "accuracy", "same").n_seeds == 1


def test_a_damaged_record_in_a_folder_is_an_error(tmp_path: Path) -> None:
    make_record().save(tmp_path / "dense" / "record.json")
    content = json.loads((tmp_path / "dense" / "record.json").read_text())
    del content["clean"]
    (tmp_path / "dense" / "record.json").write_text(json.dumps(content))
    with pytest.raises(EvaluationError, match="no record of this version"):
        compare(tmp_path / "dense", {"layer": make_record(kind="layer")})


def test_a_record_that_was_cut_off_is_not_left_out_of_its_folder(tmp_path: Path) -> None:
    for seed in range(2):
        make_record(seed=seed).save(tmp_path / "dense" / f"{seed}.json")
    path = tmp_path / "dense" / "1.json"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(EvaluationError, match=r"1\.json is no record of this version"):
        compare(tmp_path / "dense", {"layer": make_record(kind="layer")})
