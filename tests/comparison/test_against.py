"""Any networks against any others."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support import Run, check_failure
from synthetic_records import make_record

from robustprune.comparison import Comparison, compare
from robustprune.errors import ComparisonError
from robustprune.metrics.superiority import chance_to_be_ahead
from robustprune.records import Record

NAMES = ("dense", "layer", "filter")


@pytest.fixture(scope="module")
def given() -> dict[str, list[Record]]:
    return {name: [make_record(kind=name, seed=seed, n=300) for seed in range(3)] for name in NAMES}


def tickets(given: dict[str, list[Record]]) -> dict[str, list[Record]]:
    return {name: given[name] for name in NAMES[1:]}


def figures(found: Comparison, candidate: str, against: str) -> list[Any]:
    rows = [row for row in found.rows if (row.candidate, row.against) == (candidate, against)]
    return [(row.metric, row.reference, row.value, row.interval, row.verdict) for row in rows]


def test_filter_tickets_in_the_place_of_the_dense_network(given):
    found = compare(given["dense"], tickets(given), against="filter")
    assert found.pairs == (("dense", "filter"), ("layer", "filter"))
    alone = compare(given["filter"], {"layer": given["layer"]})
    assert figures(found, "layer", "filter") == figures(alone, "layer", "dense")
    assert found.summary[1].startswith("layer vs. filter: clean accuracy ")
    headings, _ = found.table("layer", "filter")
    assert headings[1] == ">filter"
    without = compare(None, tickets(given), against="filter")
    assert figures(without, "layer", "filter") == figures(found, "layer", "filter")


def test_each_against_each_is_one_family(given):
    found = compare(given["dense"], tickets(given), all_pairs=True)
    assert found.against is None
    assert found.pairs == tuple((own, other) for other, own in combinations(NAMES, 2))
    assert figures(found, "layer", "dense") == figures(compare(given["dense"], tickets(given)), "layer", "dense")
    tested = [row for row in found.rows if row.p_value is not None and row.p_adjusted is not None]
    smallest = min(tested, key=lambda row: row.p_value)
    # Holm 1979: the smallest p-value counts for as many as there are.
    assert smallest.p_adjusted == pytest.approx(min(1, len(tested) * smallest.p_value))


def test_the_chance_that_one_network_is_better(given):
    for row in compare(given["dense"], tickets(given)).rows:
        if row.group == "cost":
            assert row.chance_better is None
            continue
        values = [np.array([each[side] for each in row.per_seed]) for side in ("reference", "value")]
        sides = values if row.higher_is_better else [-side for side in values]
        expected = chance_to_be_ahead(*sides, paired=True)
        assert expected is not None
        assert (row.chance_better, row.chance_interval) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    two = compare(given["dense"][:2], {"layer": given["layer"][:2]})
    assert all(row.chance_better is None for row in two.rows)


def sized(kind: str, method: str, **sizes: int) -> list[Record]:
    found = [make_record(kind=kind, seed=seed, n=300) for seed in range(3)]
    for record in found:
        record.model = record.model.model_copy(update={"plan": {"method": method}, **sizes})
    return found


def limits_of_size(found: Comparison) -> list[str]:
    return [each for each in found.limitations if "Table 3" in each]


def test_layer_and_filter_tickets_of_unequal_size_are_no_table_3():
    layer = sized("layer", "layer", filters=80, macs=700, parameters=60)
    unequal = sized("filter", "filter", filters=92, macs=910, parameters=72)
    (unmatched,) = limits_of_size(compare(None, {"layer": layer, "filter": unequal}, against="filter"))
    assert unmatched.startswith("layer: 13 % fewer filters, 23 % fewer MACs, 17 % fewer parameters than filter;")
    for sizes in ({"filters": 80, "macs": 910}, {"filters": 92, "macs": 730}, {"parameters": 62}):
        matched = sized("filter", "filter", **{"filters": 92, "macs": 910, "parameters": 72} | sizes)
        assert limits_of_size(compare(None, {"layer": layer, "filter": matched}, against="filter")) == []
    other = sized("other", "layer", filters=92, macs=910, parameters=72)
    assert limits_of_size(compare(None, {"layer": layer, "filter": other}, against="filter")) == []


def test_three_kinds_of_networks_are_ranked_over_seeds(given):
    found = compare(given["dense"], tickets(given))
    ranking = found.rankings[0]
    accuracies = np.array([[record.clean.accuracy for record in given[name]] for name in ranking.names])
    ranks = stats.rankdata(-accuracies, axis=0)
    assert (ranking.metric, ranking.over, ranking.blocks) == ("accuracy", "seeds", ("0", "1", "2"))
    assert ranking.ranks.means == pytest.approx(ranks.mean(axis=1))
    assert list(ranking.ranks.means) == sorted(ranking.ranks.means)
    assert ranking.ranks.statistic == pytest.approx(stats.friedmanchisquare(*accuracies).statistic)
    every = compare(given["dense"], tickets(given), all_pairs=True)
    assert every.rankings == found.rankings
    assert {each.metric for each in found.rankings} == {row.metric for row in found.rows if row.group != "cost"}
    assert "mean ranks in accuracy, over 3 seeds" in found._repr_html_()
    assert found.to_dict()["rankings"][0]["names"] == ranking.names


def test_two_kinds_other_seeds_and_two_seeds_are_not_ranked(given):
    assert compare(given["dense"], {"layer": given["layer"]}).rankings == ()
    assert compare(given["dense"], tickets(given) | {"filter": given["filter"][:2]}).rankings == ()
    assert compare(given["dense"][:2], {name: own[:2] for name, own in tickets(given).items()}).rankings == ()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"against": "filters"}, "Did you mean 'filter'"),
        ({"candidates": {"layer": []}, "dense": None}, "no candidate"),
        ({"dense": None}, "no group is called 'dense'"),
    ],
)
def test_nonsense(given, arguments, match):
    with pytest.raises(ComparisonError, match=match):
        compare(**{"dense": given["dense"], "candidates": tickets(given)} | arguments)


def test_on_the_command_line(given, run: Run):
    for name, records in given.items():
        for record in records:
            record.save(Path(name, f"{record.model.seed}.json"))
    found = run("compare", "filter=filter", "layer=layer", "--against", "filter")
    assert found.code == 0, found.err
    assert "layer vs. filter:" in found.out
    assert "Chance that one layer network is more accurate than one filter" in found.out
    assert "mean ranks in accuracy, over 3 seeds" in run("compare", *(f"{name}={name}" for name in NAMES)).out
    every = run("compare", *(f"{name}={name}" for name in NAMES), "--all-pairs", "--json", "--figures", "ranks").json
    assert Path("ranks/ranks-accuracy.svg").read_text().startswith("<svg")
    check_failure(run("compare", "dense=dense", "layer=layer", "--figures", "ranks"), 1, "three kinds of networks")
    assert {(row["candidate"], row["against"]) for row in every["rows"]} == {
        *(("layer", "dense"), ("filter", "dense"), ("filter", "layer"))
    }
    check_failure(run("compare", "filter=filter", "layer=layer"), 2, "name the dense network and a candidate")
    check_failure(run("compare", "filter=filter", "layer=layer", "--against", "sth"), 2, "name sth and a candidate")
