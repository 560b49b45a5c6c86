from __future__ import annotations

from pathlib import Path

import pytest
from support import Run, check_failure
from synthetic_records import make_record


@pytest.fixture
def files(run: Run) -> Path:
    """Write records of three seeds into folders of the folder that commands run in."""
    for seed in range(3):
        make_record(seed=seed).save(f"dense/{seed}.json")
        make_record(kind="layer", seed=seed, macs=700).save(f"layer/seed{seed}/record.json")
    Path("dense/summary.json").write_text('{"schema": 1, "rows": []}')  # not a record
    return Path.cwd()


def test_table(files: Path, run: Run) -> None:
    found = run("compare", "dense=dense", "layer=layer")
    assert found.code == 0, found.err
    assert [line.partition(", accuracy")[0] for line in found.err.splitlines()] == [
        "Limitation: layer: with 500 images and 3 seeds"
    ]
    assert found.out.startswith("layer vs. dense: clean accuracy ")
    lines = found.out.splitlines()
    # A table is read on a terminal of 80 columns.
    assert max(map(len, lines[lines.index(next(line for line in lines if line.strip() == "layer vs. dense")) :])) <= 80
    assert "Robust accuracy" in found.out
    assert "30.0 % less" in found.out
    (seconds,) = [line for line in lines if "training time" in line]
    assert "±" in seconds  # measured, so that three seeds have an interval


def test_what_costs_more_is_not_saved(files: Path, run: Run) -> None:
    found = run("compare", "dense=layer", "layer=dense", "--metric", "macs")
    assert "42.9 % more" in found.out  # 1000 / 700
    assert "% less" not in found.out


def test_json(files: Path, run: Run) -> None:
    found = run("compare", "dense=dense", "layer=layer/*/record.json", "--json").json
    assert {"rows", "summary", "tolerances", "confidence", "limitations", "failures"} <= found.keys()
    row = found["rows"][0]
    assert row["metric"] == "accuracy"
    assert row["n_seeds"] == 3
    assert {"difference", "interval", "bounds", "p_value", "p_equivalent", "n_seeds", "verdict"} <= row.keys()


def test_one_metric(files: Path, run: Run) -> None:
    found = run(
        "compare", "dense=dense", "layer=layer", "--metric", "robust_accuracy", "--metric", "cost", "--json"
    ).json
    assert {row["group"] for row in found["rows"]} == {"robustness", "cost"}


def test_tolerances_of_kinds(files: Path, run: Run) -> None:
    both = ("compare", "dense=dense", "layer=layer", "--json")
    found = run(*both, "--tolerance", "0.5,auroc=3", "--tolerance", "ece=std").json
    expected = {"accuracy": 0.5, "robust_accuracy": 0.5, "auroc": 3.0, "ece": "std", "nll": 0.0}
    assert expected.items() <= found["tolerances"].items()
    assert run(*both, "--tolerance", "nll=0.1").json["tolerances"]["accuracy"] == 1.0  # as without it
    shown = run(*both[:-1], "--tolerance", "0.5,nll=0.1").out
    assert "ξ: 0.5 pp (accuracy, robust accuracy, ECE); 0.1 (NLL); none (Brier score)" in " ".join(shown.split())


def test_few_seeds_are_said_to_be_few(files: Path, run: Run) -> None:
    found = run("compare", "dense=dense/0.json", "layer=layer/seed0/record.json")
    assert found.code == 0, found.err
    assert found.out.startswith("layer (1 seed) vs. dense: ")
    assert "Limitation: layer: only 1 seed: verdicts hold for these networks, not for the method" in found.err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["layer=layer"], 2, "name the dense network and a candidate"),
        (["dense=dense"], 2, "name the dense network and a candidate"),
        (["dense=dense", "layer"], 2, "NAME=FILE"),
        (["dense=dense", "layer="], 2, "NAME=FILE"),
        (["dense=dense", "layer=layer", "--tolerance", "much"], 2, "percentage points or std"),
        (["dense=dense", "layer=layer", "--tolerance", "-1"], 1, "percentage points from 0"),
        (["dense=dense", "layer=layer", "--tolerance", "1", "--tolerance", "2"], 2, "more than once"),
        (["dense=dense", "layer=layer", "--tolerance", "acuracy=1"], 1, "Did you mean 'accuracy'"),
        (["dense=dense", "layer=nowhere"], 1, "nowhere cannot be read"),
        (["dense=dense", "layer=nowhere/*.json"], 1, "matches no file"),
        (["dense=dense", "layer=empty"], 1, "holds no record"),
        (["dense=dense", "layer=dense/summary.json"], 1, "no record of this version"),
        (["dense=dense", "layer=layer", "--metric", "acuracy"], 1, "'accuracy'"),
        (["dense=dense", "layer=layer,layer/seed0/record.json"], 1, "records of one network"),
    ],
)
def test_refusals(files: Path, run: Run, arguments: list[str], code: int, word: str) -> None:
    Path("empty").mkdir()
    check_failure(run("compare", *arguments), code, word)
