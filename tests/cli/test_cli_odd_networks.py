"""The command line on networks whose blocks are hidden, shared, read, or reached by other ways than their names."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import odd_networks
import pytest
from support import Outcome, Run, check_failure

CODE = "nets.py"


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> Iterator[None]:
    shutil.copy(odd_networks.__file__, tmp_path / CODE)
    labels = np.arange(60) % 3
    noise = np.random.default_rng(0).integers(0, 90, (60, 16, 16, 3))
    images = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "b.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.nn.utils.weight_norm` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        yield


def of(name: str) -> list[str]:
    return ["--model", f"file:{CODE}:{name}", "--dataset", "npz:b.npz"]


def prune(run: Run, name: str, *more: str) -> Outcome:
    return run("prune", *of(name), "--threads", "1", "--out", "o.pt", *more)


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize(
    "name", ["InList", "WeightNormOld", "NonAffine", "KeywordOnly", "SumInParent", "ByBoundMethod"]
)
def test_a_ticket_goes_all_the_way(name: str, run: Run) -> None:
    blocks = run("blocks", *of(name), "--eligibility", "identity", "--json").json["blocks"]
    assert [row["eligible"] for row in blocks] == [True] * 4
    pruned = prune(
        run, name, "--criterion", "expected_abs", "--eligibility", "identity", "--blocks", "1", "--json"
    ).json
    gone = next(row for row in blocks if row["name"] in pruned["removed"])
    before, after = pruned["before"], pruned["after"]
    assert before["parameters"] - after["parameters"] == gone["parameters"] > 0
    assert before["macs"] - after["macs"] == gone["macs"] > 0
    own = ("--model-code", CODE, "--threads", "1")
    assert run("train", "--model", "o.pt", *own, "--epochs", "1", "--no-energy", "--out", "t.pt").code == 0
    assert run("evaluate", "--model", "t.pt", *own, "--attack", "fgsm", "--out", "t.json").code == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ByClosure", ["calls a Block with", "not registered as a part of it"]),
        ("ByPartial", ["block network.blocks.0 has to stay", "not registered as a part of it"]),
        ("ReadsKernel", ["block network.blocks.0 has to stay", "'RemovedBlock' object has no attribute 'branch'"]),
        ("scripted", ["a shortcut carries its input around it", "What hides a block: ", "TorchScript"]),
    ],
)
def test_what_cannot_go_is_refused_with_the_reason(name: str, words: list[str], run: Run, tmp_path: Path) -> None:
    check_failure(prune(run, name, "--criterion", "random", "--blocks", "1"), 1, *words)
    assert not (tmp_path / "o.pt").exists()


def test_the_list_of_blocks_says_which_one_is_read(run: Run) -> None:
    rows = run("blocks", *of("ReadsOne"), "--eligibility", "identity", "--json").json["blocks"]
    assert [row["eligible"] for row in rows] == [True, True, False, True]
    assert "without it the network does not run any more: AttributeError" in rows[2]["reason"]


@pytest.mark.parametrize("name", ["TiedFirstConvolution", "SharedConvolutionModule", "Orthogonal"])
def test_filters_that_are_shared_or_computed_are_refused(name: str, run: Run) -> None:
    outcome = prune(run, name, "--criterion", "l1", "--method", "filter", "--filters", "4")
    check_failure(outcome, 1, "no filters of this network can go on their own", "network.blocks.0.branch.0")


def test_weights_that_do_not_run_are_not_masked(run: Run) -> None:
    outcome = prune(run, "SecondCopy", "--criterion", "magnitude", "--method", "weight", "--sparsity", "0.5")
    check_failure(outcome, 1, "does not compute with the weights network.stem.weight")
