"""The tables that come with the package: complete, undamaged, and made of networks that can be trained anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from robustprune.sweep.document import read_document
from robustprune.tables.table_spec import read_spec
from robustprune.tables.ticket_table import SHIPPED, TicketTable, blocks_of, load_table, shipped_tables

EXAMPLES = Path(__file__).parents[2] / "examples" / "tables"
LEAST_SEEDS = {"resnet20/digits": 20, "resnet20/fashion-mnist": 10, "resnet32/digits": 5}
LEAST_PROFILES = {"resnet20": 8, "resnet32": 64}


@pytest.fixture(scope="module", params=shipped_tables())
def table(request: pytest.FixtureRequest) -> TicketTable:
    return load_table(request.param)  # which checks schema and checksum


def test_they_are_small() -> None:
    assert shipped_tables()
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 20e6


def test_reading_one_takes_no_torch() -> None:
    script = f"import sys, robustprune as rp; rp.load_table({shipped_tables()[0]!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_it_is_what_its_file_asks_for(table: TicketTable) -> None:
    file = EXAMPLES / f"{table.name.replace('/', '-')}.yaml"
    spec = read_spec(read_document(file), file.name)
    # Settings that came after the table have their defaults.
    assert table.spec == spec
    assert len(table.seeds) >= LEAST_SEEDS[table.name]
    assert len({row["kept"] for row in table.rows}) == LEAST_PROFILES[spec.model]
    for seed in table.seeds:
        own = [row for row in table.rows if row["seed"] == seed]
        assert Counter(blocks_of(row) for row in own if row["method"] == "layer") == Counter(spec.subsets(seed))
        assert sum(row["method"] == "dense" for row in own) == 1
        assert spec.filters is not None
        filters = Counter((row["kept"], row["match_by"]) for row in own if row["method"] == "filter")
        assert filters == {
            ("-".join(map(str, profile)), match_by): 1
            for profile in spec.filters.profiles
            for match_by in spec.filters.match_by
        }


def test_columns_have_one_type(table: TicketTable) -> None:
    for name in table.rows[0]:
        assert len({type(row[name]) for row in table.rows} - {type(None)}) == 1, name
        assert not any(isinstance(row[name], float) and not np.isfinite(row[name]) for row in table.rows), name
    assert len({row["sha256"] for row in table.rows}) == len(table.rows)


def test_figures_are_those_of_the_outcomes(table: TicketTable) -> None:
    attacks = [name for name in table.metrics if "linf" in name]
    assert len(attacks) == 9
    assert len(table.corruptions) == 15
    for row in table.rows:
        for name in attacks:
            assert np.mean(table.outcomes(row, name)) == pytest.approx(row[name])
            # An attack breaks images; it mends none.
            assert not (table.outcomes(row, name) & ~table.outcomes(row, "clean")).any()
        assert np.mean(table.outcomes(row, "clean")) == pytest.approx(row["accuracy"])


def test_blocks_cost_what_they_cost(table: TicketTable) -> None:
    """Profiles of one table have one cost, and a matched filter ticket is no more than a filter's worth away."""
    by_profile: dict[str, set[int]] = {}
    for row in table.layer_tickets:
        by_profile.setdefault(row["kept"], set()).add(row["macs"])
    assert all(len(costs) == 1 for costs in by_profile.values())
    for row in table.rows:
        if row["match_by"] == "macs":
            (macs,) = by_profile[row["kept"]]
            assert row["macs"] == pytest.approx(macs, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("removed", "seed"), [("", 0), ("layer2.1", 3), ("layer1.2,layer2.1,layer3.2", 11)])
def test_three_cells_are_trained_anew(removed: str, seed: int, tmp_path: Path) -> None:
    asked = ["table", "check", "resnet20/digits", "--seed", str(seed), "--folder", str(tmp_path), "--json"]
    facts = load_table("resnet20/digits").facts
    chosen = {name: value for name, value in facts["variables"].items() if value}
    done = subprocess.run(
        [sys.executable, "-m", "robustprune", *asked, *(["--remove", removed] if removed else [])],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name not in facts["variables"]} | chosen,
    )
    found = json.loads(done.stdout)
    if found["is_alike"]:
        assert found["is_same"]
        assert found["now"] == found["table"]
    else:  # sums are rounded otherwise, and trainings drift apart
        assert found["now"]["accuracy"] == pytest.approx(found["table"]["accuracy"], abs=0.03)
        assert found["now"]["corruption_mean_accuracy"] == pytest.approx(
            found["table"]["corruption_mean_accuracy"], abs=0.1
        )


@pytest.mark.slow
def test_the_results_are_printed_by_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES.parents[1] / "docs"))
    from make_results import PAGE, SESSION, renewed  # type: ignore[import-not-found]

    page = PAGE.read_text()
    assert len(SESSION.findall(page)) >= 3
    assert renewed(page) == page
