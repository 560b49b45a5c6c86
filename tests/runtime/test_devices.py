"""Devices by the names that torch gives them."""

from __future__ import annotations

import pytest
import torch

import robustprune as rp
from robustprune.runtime.devices import choose_device, devices_here, is_same_device, parse_device
from robustprune.sweep.settings import RunSettings


@pytest.fixture(params=["cuda", "xpu", "mps"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of the two accelerators of a machine."""
    found: str = request.param
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device(found))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    return found


def test_a_machine_without_accelerators() -> None:
    if torch.accelerator.is_available():
        pytest.skip("this one has some")
    assert devices_here() == ["cpu"]
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(rp.RobustPruneError, match="there is no device 'cuda:1' on this machine; it has: cpu"):
        choose_device("cuda:1")


def test_accelerators_by_number(kind: str) -> None:
    assert devices_here() == [f"{kind}:0", f"{kind}:1", "cpu"]
    assert choose_device("auto") == choose_device(kind) == torch.device(kind)
    assert choose_device(f"{kind}:1") == choose_device(torch.device(kind, 1)) == torch.device(kind, 1)
    assert choose_device("cpu") == torch.device("cpu")
    for name in (f"{kind}:2", "meta"):
        with pytest.raises(
            rp.RobustPruneError, match=f"no device '{name}' on this machine; it has: {kind}:0, {kind}:1"
        ):
            choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "cuda:-1"])
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(rp.RobustPruneError, match=f"'{name}' is no name of a device; give auto"):
        parse_device(name)
    with pytest.raises(rp.RobustPruneError, match=r"is no name of a device|it is empty"):
        RunSettings(device=name)


def test_a_sweep_may_be_for_another_machine() -> None:
    assert [RunSettings(device=name).device for name in ("auto", "cuda:1", "xpu")] == ["auto", "cuda:1", "xpu"]


def test_a_name_without_a_number_means_any() -> None:
    card, other = torch.device("cuda:0"), torch.device("cuda:1")
    assert is_same_device(torch.device("cuda"), other)
    assert is_same_device(card, torch.device("cuda:0"))
    assert not is_same_device(card, other)
    assert not is_same_device(card, torch.device("cpu"))
