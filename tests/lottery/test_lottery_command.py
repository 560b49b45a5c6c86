from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import TINY, Run, check_failure

LOTTERY = ("lottery", *TINY, "--train-limit", "200", "--no-energy", "--batch-size", "64", "--epochs", "4")


@pytest.mark.slow
def test_table_and_second_call(run: Run) -> None:
    arguments = (
        *LOTTERY,
        "--criterion",
        "hrank,random",
        "--blocks",
        "1",
        "--rewind",
        "0,25%,50%",
        "--after-training",
        "--out",
        "new/out",
    )
    first = run(*arguments)
    assert first.code == 0
    assert "dense of dense seed 0" in first.err
    for word in ("hrank", "random", "epoch 0", "epoch 1", "epoch 2", "one seed", "of 359 test images"):
        assert word in first.out
    second = run(*arguments)
    assert second.out == first.out
    assert second.err == ""
    found = run(*arguments, "--json").json
    assert found["n"] == 359
    assert [(row["criterion"], row["rewound_to"]) for row in found["tickets"]] == [
        (criterion, epoch) for criterion in ("hrank", "random") for epoch in (0, 1, 2)
    ]
    ticket = found["tickets"][0]["seeds"]["0"]
    assert ticket["accuracy"] - found["dense"]["accuracy"]["0"] == pytest.approx(ticket["difference"] / 100)
    # What a lottery leaves can be used like any ticket.
    evaluated = run("evaluate", "--model", ticket["path"], "--json").json
    assert evaluated["clean"]["accuracy"] == ticket["accuracy"]
    assert evaluated["model"]["removed"] == ticket["removed"]
    # And its folder is a sweep's.
    (standing,) = run("status", "new/out", "--json").json
    assert (standing["runs"], standing["finished"]) == (7, 7)
    rows = run("query", "new/out", "--columns", "run, accuracy", "--format", "json").json
    assert len(rows) == 7
    assert run("report", "new/out", "--out", "report.html").code == 0


@pytest.mark.slow
def test_seeds_share_their_images_and_add_up(run: Run) -> None:
    settings = (*LOTTERY, "--criterion", "random", "--at-init", "--out", "out", "--json")
    apart = [run(*settings, "--seed", seed).json["tickets"][0]["seeds"][seed] for seed in ("0", "1")]
    together = run(*settings, "--seeds", "2")
    assert together.err == "compare of dense and layer random 1 …\n"  # nothing else is left to do
    row = together.json["tickets"][0]
    assert [row["seeds"][seed] for seed in ("0", "1")] == apart
    assert row["difference"] == pytest.approx((apart[0]["difference"] + apart[1]["difference"]) / 2)
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rewind", "50%", "--after-training"), "found after the dense training, trained from epoch 2;"),
        (("--rewind", "random", "--after-training"), "found after the dense training, trained from random weights;"),
        (("--rewind", "random"), "found at initialization, trained from random weights;"),
        (("--rewind", "0,random"), "found at initialization;"),
    ],
)
def test_table_says_where_the_weights_came_from(run: Run, arguments: tuple[str, ...], words: str) -> None:
    printed = run(*LOTTERY, "--criterion", "random", "--epochs", "4", "--out", "out", *arguments)
    assert words in " ".join(printed.out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--blocks", "one"), 2, ["whole numbers from 1 on", "'one'"]),
        (("--blocks", "0"), 2, ["whole numbers from 1 on"]),
        (("--blocks", ""), 2, ["--blocks is empty"]),
        (("--blocks", "1,4"), 1, ["asked for 4 blocks", "at most 3"]),
        (("--criterion", "hrank,gasp"), 1, ["Did you mean 'grasp'"]),
        (("--rewind", "4", "--after-training"), 1, ["leaves nothing to train"]),
        (("--rewind", "early", "--after-training"), 1, ["'early' is no rewinding point"]),
        (("--method", "weights"), 1, ["'filter-uniform'", "not 'weights'"]),
        (("--rewind", "50%"), 1, ["starts there", "at_init"]),
        (("--criterion", "grasp:bn_mod=x"), 1, ["Did you mean 'bn_mode'"]),
        (("--out", "file"), 2, ["is a file"]),
        (("--model", "file"), 2, ["takes a name, not a ticket"]),
        (("--dataset", "noise"), 1, ["no training images"]),
    ],
)
def test_wrong_input(run: Run, arguments: tuple[str, ...], code: int, words: list[str]) -> None:
    Path("file").write_text("a file\n")
    check_failure(run(*LOTTERY, "--out", "out", *arguments), code, *words)
    assert os.listdir() == ["file"]


@pytest.mark.slow
def test_twin_of_a_ticket_from_a_trained_network(run: Run) -> None:
    asked = ("--criterion", "hrank", "--rewind", "0,1", "--after-training", "--blocks", "2", "--out", "out")
    found = run(*LOTTERY, *asked, "--json").json
    at_start, rewound = (row["seeds"]["0"]["path"] for row in found["tickets"])
    dense, kept, cut = (str(Path(next(Path("out/stages").glob(f"{kind}-*")), "ticket.pt")) for kind in
                        ("dense", "weights", "prune"))  # fmt: skip
    twin = ("prune", "--method", "filter", "--criterion", "hrank", "--out", "twin.pt", "--json")
    for name in (cut, rewound):
        check_failure(run(*twin, *TINY, "--match", name), 1, "cut out of a trained network", "--model instead of")
    for model, name in ((dense, cut), (kept, rewound)):
        assert run(*twin, "--model", model, "--match", name).json["match_gap"] == 0
    assert run(*twin, *TINY, "--match", at_start).json["match_gap"] == 0
