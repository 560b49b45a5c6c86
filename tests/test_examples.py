"""The scripts under examples/ do what they say, as they stand."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest
import torch

import robustprune as rp

SCRIPT = Path(__file__).parent.parent / "examples" / "own_model.py"


@pytest.mark.slow
def test_from_a_network_of_ones_own_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(SCRIPT), run_name="__main__")
    records = {name: rp.load_record(f"{name}.json") for name in ("dense", "layers")}
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == list(records)
    for record in records.values():
        assert record.clean.accuracy > 0.5  # ten classes
        assert record.dataset == "my-digits"
    assert records["layers"].model.macs < records["dense"].model.macs
    assert len(records["layers"].model.removed) == 2
    page = Path("report.html").read_text()
    assert "my-digits" in page
    # The checkpoint of the dense network is as it was.
    torch.manual_seed(0)
    fresh, kept = names["MyNet"]().state_dict(), torch.load("mynet.pt", weights_only=True)
    assert all(torch.equal(fresh[name], value) for name, value in kept.items())


def test_that_takes_thirty_lines() -> None:
    main = next(node for node in ast.parse(SCRIPT.read_text()).body if getattr(node, "name", "") == "main")
    assert main.end_lineno is not None
    assert main.end_lineno - main.lineno + 1 <= 30
