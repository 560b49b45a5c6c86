"""The command line on networks of torchvision and timm: blocks, pruning, a step of training, an attack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import Run, check_failure

SIDE = 32
# Families that differ in how they are made; of OTHERS nothing can be removed. docs/make_architectures.py has many more.
RESIDUAL = (
    "torchvision:mobilenet_v2",
    "timm:convnextv2_atto",
    "timm:mobilevit_xxs",
    "timm:pvt_v2_b0",
    "timm:resmlp_12_224",
    "timm:dla34",
)
OTHERS = (
    "torchvision:squeezenet1_1",
    "torchvision:googlenet",
    "timm:rexnet_100",
)


@pytest.fixture(autouse=True)
def _images(tmp_path: Path) -> None:
    labels = np.arange(12) % 3
    noise = np.random.default_rng(0).integers(0, 90, (12, SIDE, SIDE, 3))
    images = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)


# Branches that begin at zero all have the same score.
@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
@pytest.mark.slow
@pytest.mark.parametrize("name", [*RESIDUAL, *OTHERS])
def test_a_published_network_goes_all_the_way(name: str, run: Run) -> None:
    network = ("--model", name, "--dataset", "npz:set.npz")
    identity = ("--eligibility", "identity")
    prune = ("prune", *network, *identity, "--criterion", "snip:samples_per_class=2")
    pruned = run(*prune, "--blocks", "1", "--threads", "1", "--out", "pruned.pt")
    if name in RESIDUAL:
        assert pruned.code == 0, pruned.err
        rows = run("blocks", *network, *identity, "--json").json["blocks"]
        assert any(row["eligible"] for row in rows)
        network = ("--model", "pruned.pt")
    else:
        check_failure(pruned, 1, "can be removed")
    step = ("--epochs", "1", "--batch-size", "6", "--no-energy", "--threads", "1", "--out", "trained.pt")
    trained = run("train", *network, *step)
    assert trained.code == 0, trained.err
    measured = run("evaluate", "--model", "trained.pt", "--attack", "fgsm", "--threads", "1")
    assert measured.code == 0, measured.err
