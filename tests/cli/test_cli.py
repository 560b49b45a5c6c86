"""The command line as users meet it: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from functools import partial
from itertools import chain
from pathlib import Path

import click
import pytest
import torch
from support import TINY, Run, check_failure

from robustprune.cli import commands, every_command
from robustprune.cli.application import PANELS
from robustprune.data import load_data
from robustprune.records import load_record
from robustprune.tickets.ticket import load_ticket

WEIGHT = ("--method", "weight", "--sparsity", "0.8")
COMMANDS = (
    *("ablate", "blocks", "compare", "corrupt", "cost", "demo", "evaluate", "export", "list", "lottery", "power"),
    *("prune", "query", "report", "reproduce", "status", "sweep", "table", "train", "variance"),
)


@pytest.fixture
def ticket(run: Run) -> str:
    assert run("prune", *TINY, "--criterion", "random", "--blocks", "2", "--out", "ticket.pt").code == 0
    return "ticket.pt"


@pytest.mark.slow
def test_five_blocks_of_twelve(run: Run) -> None:
    arguments = ("prune", "--model", "resnet32", "--dataset", "digits", "--criterion", "grasp")
    found = run(*arguments, "--blocks", "5", "--out", "t.pt", "--json").json
    assert found.keys() == {
        *("method", "criterion", "blocks", "removed", "eligible", "scores", "before", "after", "match_gap"),
        *("seconds", "out", "unit", "budget", "search", "objective", "replaced", "rounds", "decided_by"),
    }
    assert (found["method"], found["criterion"], found["blocks"]) == ("layer", "grasp", 5)
    assert len(found["removed"]) == 5
    assert len(found["eligible"]) == 12
    assert set(found["removed"]) < set(found["eligible"]) < set(found["scores"])
    assert found["before"].keys() == {"parameters", "macs", "filters"}
    # Each block is a pair of 3×3 convolutions that keep size and width, and costs the same everywhere.
    assert found["before"]["macs"] - found["after"]["macs"] == 5 * 2 * 9 * 16 * 16 * 8 * 8
    assert list(load_ticket("t.pt").plan.removed) == found["removed"]
    check_failure(run(*arguments, "--blocks", "10", "--out", "u.pt"), 1, "asked for 10 blocks", "--blocks 9")
    assert os.listdir() == ["t.pt"]


FILTER = ("--method", "filter", "--criterion", "snip")


def test_the_table_of_scores_says_why_a_block_stays(run: Run) -> None:
    # Each stage has three blocks and keeps two, so the three lowest scores are removed only if no two share a stage.
    shown = run("prune", *TINY, "--blocks", "3", "--out", "ticket.pt").out
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "layer" in line]
    decisions = {cells[0]: cells[2] for cells in rows if len(cells) == 3}
    assert len(decisions) == 7
    assert decisions["layer1.0"] == "kept: first block of its stage"
    for stage in (1, 2, 3):
        assert sorted(decisions[f"layer{stage}.{place}"].partition(":")[0] for place in (1, 2)) == ["kept", "removed"]
    names = [name for name in decisions if name != "layer1.0"]  # lowest score first
    last = max(names.index(name) for name in names if decisions[name] == "removed")
    for name in names:
        if decisions[name] != "removed":
            low = names.index(name) < last
            assert decisions[name] == ("kept: its stage is down to two blocks" if low else "kept")


@pytest.mark.slow
def test_as_many_filters_as_two_blocks_have(run: Run) -> None:
    layers = ("prune", *TINY, "--train-limit", "300", "--criterion", "snip", "--blocks", "2", "--seed", "3")
    without = run(*layers, "--out", "layers.pt", "--json").json
    # Data set, options of the model and seed are those of the ticket.
    arguments = ("prune", "--model", "resnet20", *FILTER, "--match", "layers.pt")
    found = run(*arguments, "--out", "filters.pt", "--json").json
    assert found.keys() == {
        *("method", "criterion", "blocks", "removed", "eligible", "scores", "before", "after", "match_gap"),
        *("seconds", "out", "filters", "removed_filters", "variant", "match"),
    }
    assert (found["method"], found["blocks"], found["removed"], found["variant"]) == ("filter", None, [], "global")
    assert found["before"] == without["before"]
    assert found["after"]["filters"] == without["after"]["filters"]
    assert found["match_gap"] == 0
    twin, ticket = load_ticket("filters.pt"), load_ticket("layers.pt")
    assert found["match"] == {
        "by": "filters",
        "target": without["after"]["filters"],
        "reached": without["after"]["filters"],
        "gap": 0,
        "sha256": ticket.sha256,
        "removed": without["removed"],
    }
    assert found["filters"] == sum(map(len, found["removed_filters"].values())) == sum(
        len(scores) - twin.network.get_submodule(name).out_channels for name, scores in found["scores"].items()
    )  # fmt: skip
    assert (twin.seed, twin.plan.seed, twin.data) == (3, 3, ticket.data)
    assert torch.equal(twin.network.get_parameter("conv1.weight"), ticket.network.get_parameter("conv1.weight"))
    for by in ("macs", "params"):
        matched = run(*arguments, "--match-by", by, "--method", "filter-uniform", "--out", "m.pt", "--json").json
        cost = {"macs": "macs", "params": "parameters"}[by]
        assert (matched["match"]["by"], matched["variant"]) == (by, "uniform")
        assert matched["match_gap"] == matched["after"][cost] - without["after"][cost]
        assert abs(matched["match_gap"]) < 0.02 * without["after"][cost]
    note = (
        f"matched by filters to the ticket without {', '.join(without['removed'])}: {found['after']['filters']} wanted"
    )
    for command in (("cost", "--model", "filters.pt"), (*arguments, "--out", "again.pt")):
        drawn = run(*command)
        assert (drawn.code, drawn.err) == (0, "")
        assert f"{found['filters']} filters are removed, from {len(found['removed_filters'])} convolutions" in drawn.out
        assert note in drawn.out
    assert load_ticket("again.pt").sha256 == twin.sha256
    counted = run(
        "prune", *TINY, *FILTER, "--filters", "7", "--method", "filter-uniform", "--out", "c.pt", "--json"
    ).json
    assert (counted["filters"], counted["match"], counted["match_gap"]) == (7, None, None)
    trained = run(
        "train", "--model", "filters.pt", "--epochs", "1", "--no-energy", "--out", "trained.pt", "--json"
    ).json
    assert run("blocks", "--model", "trained.pt").code == 0
    evaluated = run("evaluate", "--model", "trained.pt", "--limit", "10", "--json").json
    assert evaluated["model"]["sha256"] == trained["sha256"]
    assert evaluated["model"]["plan"]["match"] == found["match"]


@pytest.mark.slow
def test_twins_of_another_network(run: Run) -> None:
    assert run("prune", *TINY, "--criterion", "random", "--blocks", "1", "--seed", "3", "--out", "l.pt").code == 0
    assert run("prune", *TINY, "--criterion", "random", "--blocks", "1", "--out", "seed0.pt").code == 0
    for model, more, words in (
        (("resnet20",), ("--seed", "4"), ["the weights of seed 3", "those of seed 4", "leave out --seed"]),
        (("seed0.pt",), (), ["the weights of seed 3", "seed0.pt from those of seed 0"]),
        (("resnet32",), (), ["not cut from the same one", "name resnet20 and resnet32"]),
        (("resnet20:width=8",), (), ["not cut from the same one", "'width': 4"]),
        (("resnet20",), ("--image-size", "16"), ["not cut from the same one", "image_size"]),
    ):
        done = run("prune", "--model", *model, *FILTER, "--match", "l.pt", *more, "--out", "x.pt")
        check_failure(done, 1, *words)
    done = run("prune", "--model", "resnet20", *FILTER, "--match", "missing.pt", "--out", "x.pt")
    check_failure(done, 1, "there is no file missing.pt")
    check_failure(run("prune", *TINY, *FILTER, "--match", "l.pt", "--out", "l.pt"), 2, "that --match names")
    assert not Path("x.pt").exists()


def test_four_of_five_weights(run: Run) -> None:
    asking = ("prune", *TINY, *WEIGHT, "--criterion", "synflow", "--rounds", "3", "--out", "t.pt")
    found = run(*asking, "--json").json
    assert found.keys() == {
        *("method", "criterion", "blocks", "removed", "eligible", "scores", "before", "after", "match_gap"),
        *("seconds", "out", "sparsity", "rounds", "masks", "layers"),
    }
    assert (found["method"], found["criterion"], found["sparsity"], found["rounds"]) == ("weight", "synflow", 0.8, 3)
    assert (found["blocks"], found["removed"]) == (None, [])
    assert found["before"] == found["after"]
    assert found["masks"]["kept"] == round(0.2 * found["masks"]["weights"])
    assert sum(layer["kept"] for layer in found["layers"].values()) == found["masks"]["kept"]
    assert found["layers"]["fc.weight"]["weights"] == 10 * 16
    note = f"masked: {found['masks']['kept']:,} of {found['masks']['weights']:,} convolution and linear weights"
    assert run("cost", "--model", "t.pt", "--json").json["masks"] == found["masks"]
    for outcome in (run(*asking), run("cost", "--model", "t.pt")):
        assert note in outcome.out
        assert "save neither parameters nor MACs nor time" in outcome.out
    assert "in 3 rounds" in run(*asking).out
    assert "masks" not in run("cost", *TINY, "--json").json
    training = ("--epochs", "1", "--train-limit", "200", "--no-energy", "--out", "trained.pt")
    assert run("train", "--model", "t.pt", *training).code == 0
    record = run("evaluate", "--model", "trained.pt", "--limit", "20", "--json").json
    assert record["model"]["masks"] == found["masks"]
    assert record["model"]["plan"]["rounds"] == 3


@pytest.mark.slow
def test_scoring_on_adversarial_images_is_a_criterion_option(run: Run) -> None:
    asking = ("prune", *TINY, "--blocks", "1", "--out", "t.pt", "--json", "--criterion")
    attacked, clean, default = (
        run(*asking, f"snip:scoring_images={on}" if on else "snip").json["scores"]
        for on in ("adversarial", "clean", None)
    )
    assert attacked != clean == default
    assert "scoring_images=clean" in run("list", "criteria").out


def test_the_whole_path(run: Run) -> None:
    pruned = run("prune", *TINY, "--blocks", "2", "--train-limit", "200", "--out", "new/folder/t.pt", "--json").json
    training = ("train", "--model", "new/folder/t.pt", "--no-energy", "--batch-size", "20", "--out", "trained.pt")
    trained = run(*training, "--epochs", "2", "--json")
    assert trained.err.count("epoch") == 2
    assert trained.json["epochs"] == 2
    assert len(trained.json["history"]) == 2
    assert trained.json["energy_kwh"] is None
    again = run(*training, "--epochs", "2", "--resume", "--json")
    assert again.json == trained.json
    assert "epoch" not in again.err
    evaluating = ("evaluate", "--model", "trained.pt", "--attack", "fgsm", "--attack", "pgd", "--steps", "2")
    evaluated = run(*evaluating, "--eps", "2/255, 8/255", "--limit", "40", "--out", "record.json", "--json").json
    assert evaluated == json.loads(Path("record.json").read_text())
    assert evaluated["dataset"] == "digits"
    assert evaluated["data"]["train_limit"] == 200
    assert evaluated["model"]["removed"] == pruned["removed"]
    assert evaluated["model"]["sha256"] == trained.json["sha256"]
    assert len(evaluated["attacks"]) == 4
    assert load_record("record.json").samples is not None
    dense = run("cost", "--model", "trained.pt", "--dense", "resnet20:width=4", "--json").json
    assert {name: dense[name] for name in pruned["after"]} == pruned["after"]
    for name, before in pruned["before"].items():
        assert dense["saved_percent"][name] == pytest.approx(100 * (1 - pruned["after"][name] / before))
    assert run("cost", "--model", *TINY[1:], "--dense", "trained.pt", "--json").json["saved_percent"]["macs"] < 0
    blocks = run("blocks", "--model", "trained.pt", "--json").json["blocks"]
    assert not {row["name"] for row in blocks} & set(pruned["removed"])
    assert [name for name in os.listdir() if "checkpoint" in name or name.endswith(".tmp")] == []


@pytest.mark.slow
def test_augmentation(run: Run, ticket: str) -> None:
    training = ("train", "--model", ticket, "--epochs", "1", "--train-limit", "100", "--no-energy", "--out", "x.pt")
    for name in ("none", "corruptions"):
        assert run(*training, "--augmentation", name).code == 0
        assert load_ticket("x.pt").training["recipe"]["augmentation"] == name


@pytest.mark.slow
def test_tables_go_to_stdout_and_progress_to_stderr(run: Run, ticket: str) -> None:
    trained = run("train", "--model", ticket, "--epochs", "1", "--train-limit", "200", "--no-energy", "--out", "x.pt")
    assert trained.code == 0
    assert "Trained ticket.pt" in trained.out
    assert "epoch 1/1" not in trained.out
    assert "epoch 1/1" in trained.err
    for arguments, words in {
        ("evaluate", "--model", ticket, "--attack", "fgsm", "--limit", "20"): ("fgsm", "95 % interval"),
        ("blocks", "--model", ticket): ("layer3.0", "at most"),
        ("cost", "--model", ticket): ("MACs per image", ticket),
        ("prune", *TINY, "--blocks", "1", "--out", "[brackets].pt"): ("removed", "ticket in [brackets].pt"),
        ("cost", "--model", "[brackets].pt"): ("[brackets].pt",),
        ("list", "criteria"): ("grasp", "snip"),
        ("list", "attacks"): ("pgd", "steps=20"),
    }.items():
        outcome = run(*arguments)
        assert outcome.code == 0
        assert outcome.err == ""
        assert max(len(line) for line in outcome.out.splitlines() if line[0] in "┏┃┡│└") <= 110
        for word in words:
            assert word in outcome.out


@pytest.mark.slow
def test_cost_against_a_dense_network(run: Run, ticket: str) -> None:
    for name, source in (("dense.pt", TINY[1:]), ("trained.pt", (ticket,))):
        training = ("--epochs", "1", "--train-limit", "100", "--batch-size", "20", "--out", name)
        assert run("train", "--model", *source, *training).code == 0
    arguments = ("cost", "--model", "trained.pt", "--dense", "dense.pt", "--batch-size", "8")
    found = run(*arguments, "--json").json
    assert found["memory_bytes"]["batch_size"] == 8
    assert found["saved_percent"].keys() == {
        *("parameters", "macs", "filters", "memory", "activations", "inference_memory"),
        *("training_seconds", "energy", "co2"),
    }
    assert found["saved_percent"]["memory"] > 0
    drawn = run(*arguments).out
    assert "memory, training, 8 images" in drawn
    assert "training CO₂" in drawn
    # What only one of the two has is not set beside nothing.
    assert "training CO₂" not in run("cost", "--model", "trained.pt", "--dense", *TINY[1:]).out
    assert "training CO₂" in run("cost", "--model", "trained.pt").out


@pytest.mark.slow
def test_latency_is_measured_when_asked_for(run: Run, ticket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustprune.evaluation import cost_summary as savings

    quick = partial(savings.describe_cost, seconds=0)
    monkeypatch.setattr(savings, "describe_cost", quick)
    arguments = ("cost", "--model", ticket, "--dense", *TINY[1:], "--batch-size", "4")
    found = run(*arguments, "--latency", "--json").json
    assert found["latency_ms"].keys() >= {"median", "iqr"}
    assert found["training_speedup"]["batch_size"] == 4
    assert "latency_ms" not in run(*arguments, "--json").json
    drawn = run(*arguments, "--latency").out
    for words in ("latency, 1 image", "latency, 128 images", "training step", " ×, IQR", "timed on cpu"):
        assert words in drawn


def test_full_paths_are_readable_in_narrow_tables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustprune.cli.terminal._PLAIN_WIDTH", 80)
    outcome = run("list", "datasets")
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "…" not in outcome.out.replace("(val_…)", "").replace("val_…", "")


@pytest.mark.parametrize("kind", ["criteria", "attacks", "corruptions", "models", "datasets"])
def test_listings_as_json(run: Run, kind: str) -> None:
    rows = run("list", kind, "--json").json
    assert len(rows) > 1
    assert all(row["name"] and row["description"] for row in rows)


def test_ticket_of_a_users_file(run: Run) -> None:
    Path("net.py").write_text(
        "from torch import nn\ndef Net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    training = ("--epochs", "1", "--train-limit", "100", "--no-energy", "--out", "x.pt")
    assert run("train", "--model", "file:net.py:Net", *training).code == 0
    check_failure(run("cost", "--model", "x.pt"), 1, "never runs code by itself", "--model-code net.py")
    assert run("cost", "--model", "x.pt", "--model-code", "net.py", "--json").json["macs"] == 640


def test_ticket_on_another_image_set(run: Run, ticket: str) -> None:
    check_failure(run("evaluate", "--model", ticket, "--dataset", "photo-patches"), 1, "does not fit this resnet20")


def test_savings_are_counted_on_the_tickets_own_image_size(run: Run) -> None:
    assert run("prune", *TINY, "--image-size", "16", "--blocks", "1", "--out", "t.pt").code == 0
    own = run("cost", "--model", "t.pt", "--dense", "resnet20:width=4", "--json").json
    # One block of two 3×3 convolutions, 4 filters wide at 16×16 pixels.
    dense = own["macs"] + 2 * 9 * 4 * 4 * 16 * 16
    assert own["saved_percent"]["macs"] == pytest.approx(100 * (1 - own["macs"] / dense))


def test_training_on_a_seed_keeps_the_tickets_validation_images(run: Run, ticket: str) -> None:
    training = ("--epochs", "1", "--no-energy", "--seed", "9", "--out", "x.pt")
    assert run("train", "--model", ticket, *training).code == 0
    found = load_ticket("x.pt")
    assert found.training["seed"] == 9
    assert found.training["data"]["sha256"] == load_data("digits", seed=0).provenance["sha256"]


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_messages_are_written_above_the_progress_bar() -> None:
    import pty

    script = (
        "from robustprune.cli import terminal\n"
        "with terminal.progress_bar() as bar:\n"
        "    bar('work', 1, 2); terminal.say('a message'); bar('work', 2, 2)\n"
    )
    controller, user = pty.openpty()
    try:
        environment = {**os.environ, "TERM": "xterm"}
        subprocess.run([sys.executable, "-c", script], stdout=user, stderr=user, env=environment, check=True)
        written = os.read(controller, 100_000).decode()
    finally:
        os.close(user)
        os.close(controller)
    assert "work" in written
    before, _, after = written.partition("a message")
    assert before.endswith("\r\x1b[2K")  # the bar's line was cleared first
    assert after.startswith("\r\n")


def test_examples_of_help_name_options_that_there_are() -> None:
    for name, command in every_command().items():
        known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        shown = command.get_help(click.Context(command, info_name=name))
        lines = [line.strip() for line in shown.splitlines() if line.startswith("  $ ")]
        assert lines
        for line in lines:
            words = shlex.split(line)
            assert words[1 : 2 + len(name.split())] == ["robustprune", *name.split()]
            assert {word for word in words if word.startswith("--")} <= known
            required = {param.opts[0] for param in command.params if param.required and param.opts[0].startswith("--")}
            assert required <= set(words)


def test_help(run: Run) -> None:
    whole = run("--help")
    assert whole.code == 0
    assert sorted(commands.commands) == sorted(COMMANDS) == sorted(chain(*PANELS.values()))
    for name in COMMANDS:
        assert name in whole.out
    for name in every_command():
        outcome = run(*name.split(), "--help")
        assert outcome.code == 0
        assert outcome.err == ""
        assert "Usage" in outcome.out
        assert "Examples:" in outcome.out
    assert run("--version").out.startswith("robustprune, version ")


@pytest.mark.slow
def test_what_else_could_be_measured_is_said_where_nothing_is_asked_for(run: Run) -> None:
    asking = ("evaluate", *TINY, "--limit", "20", "--out")
    for name in ("a.json", "b.json"):
        plain = run(*asking, name, "--json")
        assert json.loads(plain.out)["n"] == 20
        assert "Add --attack pgd" in plain.err
        assert "robustprune evaluate" in run("compare", "dense=a.json", f"layer={name}").err
    attacked = run(*asking, "c.json", "--attack", "fgsm")
    assert "Add --attack" not in attacked.err
    assert "robustprune evaluate" not in run("compare", "dense=c.json", "layer=c.json").err
    assert "robustprune blocks" in run("prune", *TINY, "--out", "t.pt").err
