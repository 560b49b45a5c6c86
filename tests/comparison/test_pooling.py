"""Records of several image sets and architectures in one answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pooling_simulation import Settings, pooled_shares
from scipy import stats
from support import Run, check_failure
from synthetic_records import make_record

from robustprune.comparison import Comparison, ComparisonRow, compare
from robustprune.comparison.pooling import judge_pooled
from robustprune.errors import ComparisonError
from robustprune.metrics.pooled import pool_settings
from robustprune.records import Record

SETS = ("cifar10", "digits", "svhn")


def records(kind: str, sets=SETS, seeds=range(3), **options) -> list[Record]:
    """Return records of some seeds on each image set; they differ from set to set."""
    found = []
    for place, name in enumerate(sets):
        for seed in seeds:
            record = make_record(**{"kind": kind, "seed": seed + 10 * place, "n": 300} | options)
            record.model.training["seed"] = seed
            record.dataset, record.samples_sha256 = name, str(place) * 64
            found.append(record)
    return found


def with_architecture(records: list[Record], name: str) -> list[Record]:
    for record in records:
        record.model.architecture = name
        record.model.sha256 += name
    return records


def row(comparison: Comparison, metric: str = "accuracy") -> ComparisonRow:
    (found,) = [each for each in comparison.rows if (each.candidate, each.metric) == ("layer", metric)]
    return found


@pytest.fixture(scope="module")
def pooled() -> Comparison:
    return compare(records("dense"), {"layer": records("layer", accuracy=0.91, macs=700)})


def test_what_is_found_in_each_setting_is_what_it_is_alone(pooled):
    assert list(pooled.settings) == sorted(SETS)
    for name, found in pooled.settings.items():
        dense, layer = records("dense"), records("layer", accuracy=0.91, macs=700)
        own = [[record for record in side if record.dataset == name] for side in (dense, layer)]
        assert found == compare(own[0], {"layer": own[1]})


def test_a_row_is_students_interval_over_settings(pooled):
    for metric in ("accuracy", "robust_accuracy[pgd Linf 0.0314]", "nll"):
        found, own = row(pooled, metric), [row(each, metric) for each in pooled.settings.values()]
        differences = [each.difference for each in own]
        expected = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
        assert found.difference == pytest.approx(np.mean(differences))
        assert found.heterogeneity is not None
        within = found.heterogeneity.within.interval()
        if within[1] > expected[1]:
            assert found.interval == pytest.approx(within)
        else:
            assert found.interval == pytest.approx(expected)
            assert found.p_value == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
        assert (found.heterogeneity.n_settings, found.statement) == (3, "settings")
    assert row(pooled).tolerance == 1.0


def test_costs_are_the_mean_of_what_is_saved(pooled):
    found = row(pooled, "macs")
    assert (found.saved_percent, found.reference, found.verdict) == (pytest.approx(30), None, None)


def test_the_answer_names_the_settings(pooled):
    assert pooled.summary[0] == "Means over 3 settings: cifar10, digits, svhn."
    assert pooled.summary[1].startswith("layer vs. dense: clean accuracy ")
    headings, lines = pooled.table("layer", "dense")
    start = next(place for place, line in enumerate(lines) if line[0] == "  accuracy")
    beneath = [line[0].strip() for line in lines[start + 1 : start + 5]]
    assert beneath == ["cifar10", "digits", "svhn", "new setting"]
    assert {len(line) for line in lines} == {len(headings)}
    assert any(note.startswith("New setting") for note in pooled.notes("layer", "dense"))
    assert "new setting" in pooled._repr_html_()
    plain = json.loads(json.dumps(pooled.to_dict(), allow_nan=False))
    assert plain["settings"]["digits"]["rows"][0]["metric"] == "accuracy"
    assert plain["rows"][0]["heterogeneity"]["n_settings"] == 3


def test_holm_is_over_the_rows_of_the_mean(pooled):
    tested = [each for each in pooled.rows if each.p_value is not None]
    smallest = min(tested, key=lambda each: each.p_value or 0)
    assert smallest.p_adjusted == pytest.approx(min(1, len(tested) * smallest.p_value))


def test_architectures_are_settings_too():
    def both(kind: str) -> list[Record]:
        two = ("resnet20", "resnet56")
        return [each for name in two for each in with_architecture(records(kind, ["digits", "svhn"]), name)]

    found = compare(both("dense"), {"layer": both("layer")})
    assert list(found.settings) == [f"{name} on {place}" for name in ("resnet20", "resnet56") for place in SETS[1:]]
    one_set = [[r for r in both(kind) if r.dataset == "digits"] for kind in ("dense", "layer")]
    assert list(compare(one_set[0], {"layer": one_set[1]}).settings) == ["resnet20", "resnet56"]


def test_a_smaller_architecture_is_a_candidate():
    small = with_architecture(records("layer", ["digits"]), "resnet20")
    assert compare(records("dense", ["digits"]), {"layer": small}).settings == {}
    small = with_architecture(records("layer"), "resnet20")
    assert list(compare(records("dense"), {"layer": small}).settings) == sorted(SETS)


def test_two_settings_are_few_and_networks_may_be_one():
    sets = SETS[:2]
    found = compare(records("dense", sets), {"layer": records("layer", sets)})
    assert "2 settings are few" in found.limitations[0]
    assert row(found).heterogeneity.prediction is None
    single = compare(records("dense", seeds=range(1)), {"layer": records("layer", seeds=range(1))})
    assert row(single).statement == "settings"
    assert (
        sum("layer: only 1 seed" in limitation for limitation in single.limitations) == 1
    )  # and not once for each setting


def test_a_standard_deviation_is_that_of_all_settings():
    found = compare(records("dense"), {"layer": records("layer")}, tolerance="std")
    own = [row(each).tolerance for each in found.settings.values()]
    assert row(found).tolerance == pytest.approx(np.sqrt(np.mean(np.square(own))))


def test_what_fails_in_one_setting_wins_in_none():
    layer = records("layer")
    for record in layer[:1]:
        record.model.history = [{"epoch": 1, "train_accuracy": 0.1}]
    for record in layer[1:]:
        record.model.history = [{"epoch": 1, "train_accuracy": 0.9}]
    found = compare(records("dense"), {"layer": layer}, tolerance=50.0)
    assert "layer vs. dense: 1 of 9 trainings failed, " in found.summary[1]
    assert row(found).verdict == "undecided"
    assert any(limitation.startswith("cifar10: layer: 1 of 3 trainings failed") for limitation in found.limitations)


def test_what_is_measured_in_one_setting_has_no_mean():
    dense, layer = records("dense"), records("layer")
    for record in (*dense, *layer):
        if record.dataset != "svhn":
            record.attacks = []
    found = row(compare(dense, {"layer": layer}), "robust_accuracy[pgd Linf 0.0314]")
    assert (found.interval, found.verdict, found.reason) == (None, None, "compared in 1 of 3 settings")


def test_settings_that_agree_by_chance_do_not_decide():
    means, variances = np.array([0.46, 1.40, 1.95]), np.full(3, 2.1**2)
    found = judge_pooled(pool_settings(means, variances, np.full(3, 2.0)), 1.0, 0.95)
    half = stats.t.ppf(0.975, 6) * 2.1 / np.sqrt(3)
    assert found["interval"] == pytest.approx((means.mean() - half, means.mean() + half))
    assert stats.t.interval(0.9, 2, means.mean(), stats.sem(means))[0] > -1
    assert found["verdict"] == "undecided"
    certain = judge_pooled(pool_settings(means, np.full(3, 0.1), np.full(3, 2.0)), 1.0, 0.95)
    assert certain["verdict"] == "no worse"
    # Of seeds that leave more than the settings differ by.
    noisy = compare(records("dense", n=60), {"layer": records("layer", n=60)})
    notes = " ".join(noisy.notes("layer", "dense"))
    for row in noisy.rows:
        if row.heterogeneity is not None and row.interval is not None:
            ends = row.heterogeneity.within.interval()
            spread = [each.rows[noisy.rows.index(row)].difference for each in noisy.settings.values()]
            over_settings = stats.t.interval(0.95, 2, np.mean(spread), stats.sem(spread))
            assert row.interval[1] >= max(ends[1], over_settings[1]) - 1e-9
            assert (ends[1] > over_settings[1]) == (row.label in notes)


def test_better_here_and_worse_there_is_said():
    layer = records("layer", ["cifar10"], accuracy=0.98) + records("layer", SETS, accuracy=0.7)[3:]
    found = compare(records("dense"), {"layer": layer})
    assert any("is better on cifar10 and worse on digits, svhn" in limitation for limitation in found.limitations)


@pytest.mark.parametrize(
    ("sets", "match"),
    [
        (["digits"], "dense and layer have only digits in common"),
        (["fashion-mnist", "mnist"], "dense and layer have none in common"),
    ],
)
def test_a_setting_takes_both_sides(sets, match):
    with pytest.raises(ComparisonError, match=match):
        compare(records("dense"), {"layer": records("layer", sets)})


def test_a_candidate_may_lack_a_setting():
    found = compare(records("dense"), {"layer": records("layer"), "filter": records("filter", SETS[:2])})
    assert any("filter: not compared with dense on svhn" in limitation for limitation in found.limitations)
    assert {name for name, each in found.settings.items() if "filter" in each.candidates} == {"cifar10", "digits"}


def test_kinds_are_ranked_over_settings():
    found = compare(records("dense"), {"layer": records("layer", accuracy=0.95), "filter": records("filter")})
    ranking = found.rankings[0]
    assert (ranking.over, ranking.blocks, ranking.names[0]) == ("settings", SETS, "layer")
    assert ranking.ranks.means[0] == 1
    lacking = {"layer": records("layer"), "filter": records("filter", SETS[:2])}
    assert compare(records("dense"), lacking).rankings == ()


def test_other_samples_of_a_set_are_still_refused():
    layer = records("layer")
    layer[4].samples_sha256 = "f" * 64
    with pytest.raises(ComparisonError, match="samples is 111111111111 in"):
        compare(records("dense"), {"layer": layer})
    with pytest.raises(ComparisonError, match="networks of one seed, 0"):
        compare(records("dense"), {"layer": [*records("layer"), *records("other", ["digits"])]})
    with pytest.raises(ComparisonError, match="dataset is digits in"):
        compare(records("dense", ["digits"]), {"layer": records("layer", ["svhn"])})


def test_on_the_command_line(run: Run):
    for kind in ("dense", "layer"):
        for record in records(kind):
            record.save(Path(kind, record.dataset, f"{record.model.seed}.json"))
    found = run("compare", "dense=dense", "layer=layer")
    assert found.code == 0, found.err
    assert found.out.startswith("Means over 3 settings: cifar10, digits, svhn.")
    lines = found.out.splitlines()
    assert max(map(len, lines[lines.index(next(line for line in lines if line.strip() == "layer vs. dense")) :])) <= 90
    assert run("compare", "dense=dense", "layer=layer", "--json").json["settings"].keys() == set(SETS)
    check_failure(run("compare", "dense=dense", "layer=layer/digits"), 1, "in common")


@pytest.mark.slow
@pytest.mark.parametrize("world", [(3, 3, 0.0), (5, 5, 0.3), (8, 3, 0.6)], ids=str)
def test_intervals_hold_the_true_mean_and_verdicts_are_seldom_wrong(world):
    equal, worse = (pooled_shares(Settings(*world, difference=each)) for each in (0.0, -1.0))
    assert equal["covered"] == pytest.approx(95, abs=2)
    assert max(equal["better"], worse["wins"]) <= 5 + 1.3  # and what chance adds to 2,000 draws, one time in a hundred
