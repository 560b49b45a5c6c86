from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats
from synthetic_records import make_record

from robustprune.corruptions import HEADLINE
from robustprune.lottery.paper_tables import paper_tables
from robustprune.records import Record
from robustprune.report.table import Table, TableSet

SEEDS = (0, 1, 2)


def ticket(seed: int, accuracy: float, *, kind: str, macs: int = 900, after: bool = False, **plan: Any) -> Record:
    """Return the record of a ticket whose dense network is that of its seed."""
    record = make_record(
        kind=kind,
        seed=seed,
        n=400,
        accuracy=accuracy,
        macs=macs,
        attacks=(),
        corruptions=HEADLINE,
        shift=("cifar10.2",),
    )
    record.model.plan = {"method": "layer", "criterion": "snip", "removed": {"layer1.1": "relu"}, **plan}
    record.model.training |= {"seconds": 80.0, "epochs": 10, "co2_kg": 0.009}
    record.model.earlier_training = [{"seconds": 100.0}] if after else []
    return record


def dense(seed: int) -> Record:
    record = make_record(kind="dense", seed=seed, n=400, attacks=(), corruptions=HEADLINE, shift=("cifar10.2",))
    record.model.training |= {"seconds": 100.0, "epochs": 10, "co2_kg": 0.010}
    return record


DENSE = [dense(seed) for seed in SEEDS]
TWO = {"layer1.1": "relu", "layer1.2": "relu"}


def by_number(found: TableSet) -> dict[str, Table]:
    return {table.title.partition(",")[0]: table for table in found.tables}


def expected(own: list[Record], form: str = "{:+.2f}") -> str:
    """Return the cell of an accuracy by hand."""
    differences = [100 * (a.clean.accuracy - b.clean.accuracy) for a, b in zip(own, DENSE, strict=True)]
    half = stats.t.ppf(0.975, 2) * np.std(differences, ddof=1) / np.sqrt(3)
    return f"{form.format(np.mean(differences))} ± {half:.2f}".replace("-", "−")


def test_table_1_by_hand() -> None:
    rewound = {
        point: [ticket(seed, 0.88, kind=f"r{point}", after=True, rewound_to=point) for seed in SEEDS]
        for point in (25, 0, "random")
    }
    found = paper_tables([*DENSE, *(record for records in rewound.values() for record in records)])
    table = by_number(found)["Table 1"]
    assert table.columns == ["criterion", "blocks", "epoch 0", "epoch 25", "random weights"]
    assert table.rows == [["snip", 1, *(expected(rewound[point]) for point in (0, 25, "random"))]]
    assert "3 seeds" in table.note
    assert "at initialization" in found.left_out["Table 2, resnet32 on cifar10"]


def test_tables_2_to_5_by_hand() -> None:
    one = [ticket(seed, 0.91, kind="one") for seed in SEEDS]
    two = [ticket(seed, 0.85, kind="two", macs=800, removed=TWO) for seed in SEEDS]
    other = [ticket(seed, 0.89, kind="grasp", criterion="grasp") for seed in SEEDS]
    filters = [
        ticket(seed, 0.8, kind="f", method="filter", removed={}, match={"by": "filters", "removed": ["layer1.1"]})
        for seed in SEEDS
    ]
    found = by_number(paper_tables([*one, *filters, *other, *two, *DENSE]))
    assert found.keys() == {"Table 2", "Table 3", "Table 4", "Table 5"}
    assert found["Table 2"].columns == ["criterion", "1 block", "2 blocks"]
    assert found["Table 2"].rows == [["snip", expected(one), expected(two)], ["grasp", expected(other), None]]
    assert found["Table 3"].rows == [["snip", 1, "at initialization", expected(filters), expected(one)]]
    costs = {(row[1], row[0]): row[3:] for row in found["Table 4"].rows}
    assert found["Table 4"].columns[3:] == ["FLOPs (%)", "memory (%)", "CO₂ (%)", "training speed-up (×)"]
    assert costs["snip", 1] == ["10.00 ± 0.00", "10.00 ± 0.00", "10.00 ± 0.00", "1.25 ± 0.00"]
    assert costs["snip", 2][0] == "20.00 ± 0.00"
    robustness = {(row[1], row[0]): row[3:] for row in found["Table 5"].rows}
    shifts = [100 * (a.shift[0].accuracy - b.shift[0].accuracy) for a, b in zip(one, DENSE, strict=True)]
    assert found["Table 5"].columns[3:] == ["corruptions (pp)", "cifar10.2 (pp)"]
    assert str(robustness["snip", 1][1]).split(" ± ")[0] == f"{np.mean(shifts):+.2f}".replace("-", "−")


def test_table_3_has_a_column_for_every_way_to_take_filters() -> None:
    layers = [ticket(seed, 0.91, kind="layers") for seed in SEEDS]
    taken = {
        variant: [
            ticket(
                seed,
                share,
                kind=variant,
                method="filter",
                removed={},
                variant=variant,
                match={"by": "filters", "removed": ["layer1.1"]},
            )
            for seed in SEEDS
        ]
        for variant, share in {"global": 0.8, "uniform": 0.85}.items()
    }
    table = by_number(paper_tables([*DENSE, *layers, *taken["uniform"], *taken["global"]]))["Table 3"]
    assert table.columns == ["criterion", "blocks", "found", "filters (global)", "filters (uniform)", "layers"]
    cells = [expected(taken["global"]), expected(taken["uniform"]), expected(layers)]
    assert table.rows == [["snip", 1, "at initialization", *cells]]


def test_random_weights_are_a_control_and_no_ticket_found_at_initialization() -> None:
    filters = {"method": "filter", "removed": {}, "match": {"by": "filters", "removed": ["layer1.1"]}}
    own = [ticket(seed, 0.91, kind="own", rewound_to=0) for seed in SEEDS]
    again = [ticket(seed, 0.91, kind="own") for seed in SEEDS]  # the same: its weights are those of epoch 0
    taken = [ticket(seed, 0.8, kind="f", **filters) for seed in SEEDS]
    new = [ticket(seed, 0.5, kind="new", rewound_to="random", **more) for seed in SEEDS for more in ({}, filters)]
    with_control, without = (paper_tables([*DENSE, *own, *again, *taken, *more]) for more in (new, ()))
    assert with_control.tables == without.tables
    assert by_number(with_control)["Table 2"].rows == [["snip", expected(own)]]
    assert by_number(with_control)["Table 3"].rows == [["snip", 1, "at initialization", expected(taken), expected(own)]]


def test_two_kinds_of_tickets_in_one_cell_are_not_shown_as_one() -> None:
    # One criterion's name says what another one's options say.
    other = [ticket(0, 0.5, kind=f"o{a}", options={"a": a}) for a in (1, 2)]
    other.append(ticket(0, 0.9, kind="x", criterion="snip (a 1)"))
    found = paper_tables([*DENSE, *other])
    assert "Table 2" not in by_number(found)
    assert "snip (a 1), 1" in found.left_out["Table 2, resnet32 on cifar10"]


def test_one_seed_has_no_interval() -> None:
    found = by_number(paper_tables([DENSE[0], ticket(0, 0.8, kind="one")]))
    assert "±" not in str(found["Table 2"].rows)
    assert "one seed" in found["Table 2"].note


def test_what_records_do_not_tell_stays_empty() -> None:
    bare, reference = ticket(0, 0.8, kind="one"), dense(0)
    for record in (bare, reference):
        record.corruptions, record.shift, record.model.memory_bytes = None, [], None
        record.model.training = {"seed": 0}
    found = paper_tables([bare, reference])
    assert by_number(found)["Table 4"].columns == ["blocks", "criterion", "found", "FLOPs (%)"]
    assert "corruptions" in found.left_out["Table 5, resnet32 on cifar10"]


def test_a_corrupted_set_is_the_same_in_another_folder() -> None:
    one, reference = ticket(0, 0.8, kind="one"), dense(0)
    assert one.corruptions is not None
    assert reference.corruptions is not None
    one.corruptions.source, reference.corruptions.source = "/here/CIFAR-10-C", "/there/CIFAR-10-C"
    assert "corruptions (pp)" in by_number(paper_tables([one, reference]))["Table 5"].columns
    one.corruptions.source = "/there/CIFAR-10-C-bar"
    assert "corruptions (pp)" not in by_number(paper_tables([one, reference]))["Table 5"].columns


def test_only_networks_of_one_seed_and_context_are_compared() -> None:
    lonely = ticket(7, 0.8, kind="lonely")
    elsewhere = ticket(0, 0.8, kind="elsewhere")
    elsewhere.samples_sha256 = "1" * 64
    found = paper_tables([*DENSE, lonely, elsewhere])
    assert found.tables == ()
    assert len(found.left_out) == 10  # five tables of either set of images
    # A ticket that trained for fewer epochs is no faster for that.
    short = ticket(0, 0.8, kind="short")
    short.model.training["epochs"] = 5
    assert "training speed-up (×)" not in by_number(paper_tables([DENSE[0], short]))["Table 4"].columns
    # Nor one that had more of the machine.
    for name in ("threads", "processes"):
        helped = ticket(0, 0.8, kind="helped")
        helped.model.training[name] = 8
        assert by_number(paper_tables([DENSE[0], helped]))["Table 4"].columns[3:] == ["FLOPs (%)", "memory (%)"]


def test_titles_say_what_sets_contexts_apart() -> None:
    longer = [dense(0), ticket(0, 0.8, kind="one")]
    fewer = [dense(0), ticket(0, 0.8, kind="one")]
    for record in longer:
        record.model.training["recipe"] = {"name": "quick", "epochs": 20, "momentum": 0.9}
    for record in fewer:
        record.model.training["recipe"] = {"name": "quick", "epochs": 10, "momentum": 0.9}
        record.samples_sha256, record.n = "f" * 64, 7
    titles = [table.title for table in paper_tables([*longer, *fewer]).tables if "Table 2" in table.title]
    assert [title.partition(": ")[0] for title in titles] == [
        "Table 2, resnet32 on cifar10, epochs 10, 7 images (ffffffff)",
        f"Table 2, resnet32 on cifar10, epochs 20, 400 images ({longer[0].samples_sha256[:8]})",
    ]


def test_criteria_with_other_options_are_told_apart() -> None:
    plain = [ticket(seed, 0.88, kind="a", options={"reduction": "sum"}) for seed in SEEDS]
    mean = [ticket(seed, 0.86, kind="b", options={"reduction": "mean"}) for seed in SEEDS]
    rows = by_number(paper_tables([*DENSE, *plain, *mean]))["Table 2"].rows
    assert rows == [["snip (reduction sum)", expected(plain)], ["snip (reduction mean)", expected(mean)]]


@pytest.mark.parametrize(("name", "written"), [("a_b & 100%", r"a\_b & 100%"), ("<script>|", r"\<script\>\|")])
def test_names_are_data(name: str, written: str) -> None:
    found = paper_tables([DENSE[0], ticket(0, 0.8, kind="x", criterion=name)])
    assert name not in found.to_latex()
    assert found.to_latex().count(r"\begin{tabular}") == len(found.tables) == 3
    lines = [line for line in found.to_markdown().splitlines() if line.startswith("|")]
    assert len(lines) == 3 * 3
    assert found.to_markdown().count(f" {written} |") == 3
