"""An evaluation by two processes against one by one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import TINY, Run
from torchrun import robustprune_in_two, said

EVALUATE = (
    *("evaluate", "--model", "ticket.pt", "--transfer-from", "other.pt", "--limit", "101", "--threads", "1", "--json"),
    *("--attack", "pgd", "--attack", "square", "--attack", "torchattacks:FGSM", "--eps", "2/255,16/255"),
    *("--steps", "5", "--queries", "15", "--corruption", "fog", "--corruption", "gaussian_noise"),
    *("--ood", "noise", "--detector", "msp", "--checks", "full", "--resume"),
    *("--certify", "sigma=0.1,n=60,n0=20,limit=31"),
)
MACHINE = ("seconds", "created", "command", "samples_file", "processes")
"""What may differ."""


@pytest.mark.slow
def test_outcomes_per_sample_are_those_of_one_process(run: Run, tmp_path: Path) -> None:
    for seed, name in enumerate(("ticket.pt", "other.pt")):
        train = ("train", *TINY, "--dataset", "digits", "--epochs", "2", "--no-energy", "--seed", str(seed))
        assert run(*train, "--threads", "1", "--out", name).code == 0
    alone = run(*EVALUATE, "--out", "alone.json").json
    result, out, err = robustprune_in_two(tmp_path, *EVALUATE, "--out", "together.json")
    assert result == 0, err
    together = json.loads(out)
    assert together["environment"]["processes"] == 2
    assert json.loads((tmp_path / "together.json").read_text()) == together
    assert not list(tmp_path.glob("*.resume"))

    expected, found = (dict(np.load(tmp_path / f"{name}.json.samples.npz")) for name in ("alone", "together"))
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert values.shape == found[name].shape
        if name.endswith(("_step", "_queries")):
            # Batches of another size round differently: a sample may be broken a query earlier or later.
            assert np.array_equal(np.sign(values), np.sign(found[name])), name
            assert (values != found[name]).mean() < 0.02, name
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    assert not differences(alone, together)


def differences(one: Any, two: Any, where: str = "") -> list[str]:
    """Return where documents differ, beyond rounding and what the machine has to do with."""
    if isinstance(one, dict) and isinstance(two, dict):
        names = sorted((one.keys() | two.keys()) - set(MACHINE))
        return [each for name in names for each in differences(one.get(name), two.get(name), f"{where}.{name}")]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [each for place, pair in pairs for each in differences(*pair, f"{where}[{place}]")]
    if where.endswith(("_evaluations", ".detail")):
        return []  # a sample broken a query earlier saves one
    if isinstance(one, float) and isinstance(two, float):
        return [] if two == pytest.approx(one, rel=1e-4, abs=1e-7) else [f"{where}: {one} and {two}"]
    return [] if one == two else [f"{where}: {one!r} and {two!r}"]


@pytest.mark.slow
def test_an_error_is_said_once(tmp_path: Path) -> None:
    result, out, err = robustprune_in_two(tmp_path, "evaluate", *TINY, "--dataset", "idx:nowhere", "--json")
    assert (result, out) == (1, "")
    assert len(said(err)) == 1
    assert "should not happen" not in err
