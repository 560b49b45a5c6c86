"""Weights in every usual wrapping, made by nesting and renaming here; the oracle is the network they come from."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from support import Shape, check_failure, shaken
from torch import Tensor, nn
from torchvision import models

from robustprune.errors import ModelError, ModelWarning, TicketError
from robustprune.models import build_model
from robustprune.models.weight_files import load_weights
from robustprune.runtime.environment import hash_weights
from robustprune.runtime.file_kinds import TICKET
from robustprune.runtime.files import write_sealed
from robustprune.tickets.ticket import FORMAT, Ticket, load_ticket

NAME = "torchvision:squeezenet1_1"
DATA = Shape(num_classes=3)
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))

State = dict[str, Tensor]


def build(path: Path | None = None) -> nn.Module:
    return build_model(NAME, DATA, weights_file=path)


@pytest.fixture(scope="module")
def source() -> nn.Module:
    return shaken(models.squeezenet1_1(num_classes=3)).eval()


@pytest.fixture(scope="module")
def expected(source: nn.Module) -> Tensor:
    with torch.no_grad():
        return source((IMAGES - 0.4) / 0.2)


def logits(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(IMAGES)


def prefixed(state: Mapping[str, Tensor], prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def lightning(state: State) -> dict[str, Any]:
    beside = {"pytorch-lightning_version": "2.4.0", "global_step": 9, "hyper_parameters": {"lr": 0.1}, "loops": {}}
    return {"epoch": 3, "state_dict": prefixed(state, "net."), "optimizer_states": [], "callbacks": {}, **beside}


LAYOUTS: dict[str, Any] = {
    "bare": lambda state: state,
    **{
        f"nested under {key}": lambda state, key=key: {"epoch": 3, key: state}
        for key in ("state_dict", "model", "model_state_dict", "net", "ema")
    },
    **{
        f"prefix {each}": lambda state, each=each: prefixed(state, each) for each in ("module.", "model.", "_orig_mod.")
    },
    "of Lightning": lightning,
    "safetensors": lambda state: state,
    "nested, of DataParallel, compiled": lambda state: {"model_ema": prefixed(state, "module._orig_mod.")},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_twelve_layouts_of_checkpoints(layout: str, tmp_path: Path, source: nn.Module) -> None:
    assert len(LAYOUTS) == 12
    content, path = LAYOUTS[layout](dict(source.state_dict())), tmp_path / f"w.{layout}"
    if layout == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(content, path)
    else:
        torch.save(content, path)
    mine = models.squeezenet1_1(num_classes=3).eval()
    load_weights(mine, path)
    assert torch.equal(logits(mine), logits(source))


class Touching:
    """What creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, source: nn.Module) -> None:
    marker = tmp_path / "marker"
    for content in (Touching(marker), {"state_dict": source.state_dict(), "args": Touching(marker)}):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ModelError, match="could run code and is therefore refused"):
            load_weights(models.squeezenet1_1(num_classes=3), tmp_path / "w.pt")
        write_sealed(tmp_path / "t.pt", {"format": FORMAT, "header": {}, "weights": content}, TICKET)
        with pytest.raises(TicketError):
            load_ticket(tmp_path / "t.pt", into=source)
        assert not marker.exists()
        torch.load(tmp_path / "w.pt", weights_only=False)  # which is what it would do
        marker.unlink()


KEYS = [
    "net", "model", "state_dict", "model_state", "model_state_dict", "ema", "model_ema", "params", "weights", "network",
    "last", "best", "module", "state_dict_ema", "encoder", "0",
]  # fmt: skip
PREFIXES = ["module.", "_orig_mod.", "network.", "net.", "model.", "backbone.", "encoder.", "student.", "my_resnet."]


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(KEYS), max_size=4), st.lists(st.sampled_from(PREFIXES), max_size=4))
def test_any_nesting_under_any_chain_of_prefixes_is_the_same_network(
    tmp_path: Path, source: nn.Module, expected: Tensor, keys: list[str], prefixes: list[str]
) -> None:
    content: Any = prefixed(source.state_dict(), "".join(prefixes))
    for key in keys:
        content = {
            "epoch": 9,
            key: content,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []},
        }
    torch.save(content, tmp_path / "w.pt")
    assert torch.equal(logits(build(tmp_path / "w.pt")), expected)


def test_this_package_s_own_state_dict_brings_its_normalization(tmp_path: Path) -> None:
    class Other(Shape):
        @property
        def mean(self) -> tuple[float, ...]:
            return (0.1, 0.2, 0.3)

    own = build_model(NAME, Other(num_classes=3), seed=5)
    for prefix in ("", "module.", "_orig_mod.module."):
        torch.save(prefixed(own.state_dict(), prefix), tmp_path / "w.pt")
        assert torch.equal(logits(build(tmp_path / "w.pt")), logits(own))


def test_wrappers_within_the_names_and_what_scripts_keep_beside(
    tmp_path: Path, source: nn.Module, expected: Tensor
) -> None:
    inner = {name.replace("features.", "features.module."): value for name, value in source.state_dict().items()}
    arguments = argparse.Namespace(lr=0.1, out=tmp_path)
    torch.save({"model": inner, "args": arguments, "best": np.float64(95.1), "epoch": 3}, tmp_path / "w.pt")
    assert torch.equal(logits(build(tmp_path / "w.pt")), expected)
    swa = torch.optim.swa_utils.AveragedModel(source)
    torch.save(swa.state_dict(), tmp_path / "w.pt")
    assert torch.equal(logits(build(tmp_path / "w.pt")), expected)
    torch.save((3, source.state_dict()), tmp_path / "w.pt")
    assert torch.equal(logits(build(tmp_path / "w.pt")), expected)


def test_safetensors(tmp_path: Path, source: nn.Module, expected: Tensor) -> None:
    save_file(prefixed(source.state_dict(), "model."), tmp_path / "w.safetensors")
    assert torch.equal(logits(build(tmp_path / "w.safetensors")), expected)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(ModelError, match=r"cut\.safetensors cannot be read as safetensors"):
        build(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    "order", [("model", "model_ema"), ("model_ema", "model"), ("best", "last"), ("teacher", "net")]
)
def test_of_two_networks_that_fit_the_averaged_comes_second_and_it_is_said(
    tmp_path: Path, source: nn.Module, expected: Tensor, order: tuple[str, str]
) -> None:
    state = source.state_dict()
    other = {name: value + 0.01 for name, value in state.items()}
    copy = next(key for key in order if key in ("model_ema", "best", "teacher"))
    nested = {key: other if key == copy else state for key in order}
    flat = {f"{key}.{name}": value for key, values in nested.items() for name, value in values.items()}
    for content in (nested, flat):
        torch.save(content, tmp_path / "w.pt")
        kept = next(key for key in order if key != copy)
        with pytest.warns(
            ModelWarning, match=f"those under '{kept}.' are taken .* left out of it: the network under '{copy}.'"
        ):
            network = build(tmp_path / "w.pt")
        assert torch.equal(logits(network), expected)


def test_equal_copies_need_no_word_and_other_weights_left_out_do(
    tmp_path: Path, source: nn.Module, expected: Tensor
) -> None:
    state = source.state_dict()
    torch.save({"model": state, "ema": state}, tmp_path / "w.pt")
    build(tmp_path / "w.pt")
    torch.save({"state_dict": {**prefixed(state, "net."), "loss.weight": torch.ones(3)}}, tmp_path / "w.pt")
    with pytest.warns(ModelWarning, match=r"left out of it: state_dict\.loss\.weight"):
        assert torch.equal(logits(build(tmp_path / "w.pt")), expected)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, source: nn.Module, number: float) -> None:
    state = dict(source.state_dict())
    name = next(reversed(state))
    state[name] = torch.full_like(state[name], number)
    torch.save({"net": state}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=rf"not finite: 1 of {len(state)} tensors .* such as {name}; "):
        build(tmp_path / "w.pt")


def test_what_does_not_fit_is_said_by_the_names_of_both(tmp_path: Path, source: nn.Module) -> None:
    state = source.state_dict()
    first = next(iter(state))
    cases: dict[str, Any] = {
        r"no name agrees; the file has a\.kernel, the network wants features\.0\.weight": {
            "a": {"kernel": torch.ones(3)}
        },
        r"another shape classifier\.1\.weight \(1000, 512, 1, 1\) in place of \(3, 512, 1, 1\)": (
            models.squeezenet1_1().state_dict()
        ),
        rf"lacks {first}": {name: value for name, value in state.items() if name != first},
        r"no floating-point numbers features\.0\.weight": {name: value.to(torch.int8) for name, value in state.items()},
        "holds no named weights": {},
        r"torch\.nn\.modules\.conv\.Conv2d.*save the network's state_dict": source,
    }
    for message, content in cases.items():
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(ModelError, match=message):
            build(tmp_path / "w.pt")


def test_a_part_of_another_network_is_not_taken_for_the_whole(tmp_path: Path, source: nn.Module) -> None:
    torch.save(models.resnet18(num_classes=3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="has beyond it"):
        load_weights(nn.Linear(512, 3), tmp_path / "w.pt")


def test_a_ticket_is_said_to_be_one(tmp_path: Path) -> None:
    network = build_model("resnet20", DATA, width=4)
    Ticket.from_model(network).save(tmp_path / "ticket.pt")
    with pytest.raises(ModelError, match=r"a ticket, which knows its network.*--model .*ticket\.pt"):
        build_model("resnet20", DATA, width=4, weights_file=tmp_path / "ticket.pt")


@pytest.mark.parametrize("name", ["123", "007", "1e5", "true", "nan"])
def test_files_called_like_numbers_are_files(tmp_path: Path, run: Any, name: str) -> None:
    options = ("--model", f"resnet20:width=4,weights_file={name}")
    check_failure(run("blocks", *options), 1, f"there is no file {name} with weights")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.save(build_model("resnet20", Shape(1, (8, 8)), width=4).state_dict(), tmp_path / name)
        assert run("blocks", *options).code == 0


def test_sparse_weights_and_containers_that_hold_themselves_are_read(
    tmp_path: Path, source: nn.Module, expected: Tensor
) -> None:
    content: dict[str, Any] = {name: value.to_sparse() for name, value in source.state_dict().items()}
    content["again"] = content
    torch.save(content, tmp_path / "w.pt")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Validating sparse tensor invariants")
        assert torch.equal(logits(build(tmp_path / "w.pt")), expected)


def test_weights_without_values_are_refused(tmp_path: Path, source: nn.Module) -> None:
    torch.save({name: value.to("meta") for name, value in source.state_dict().items()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="without values, on the meta device, features"):
        build(tmp_path / "w.pt")


def test_the_command_line_has_an_option_for_them(tmp_path: Path, run: Any) -> None:
    source = build_model("resnet20", Shape(channels=1, image_size=(8, 8)), width=4, seed=7)
    torch.save({"state_dict": prefixed(source.state_dict(), "model."), "epoch": 3}, tmp_path / "w.ckpt")
    asking = ("evaluate", "--model", "resnet20:width=4", "--limit", "20", "--json")
    found = run(*asking, "--weights", str(tmp_path / "w.ckpt")).json["model"]["sha256"]
    assert found == hash_weights(source)
    assert found != run(*asking).json["model"]["sha256"]
    twice = ("--weights", str(tmp_path / "w.ckpt"), "--model", f"resnet20:weights_file={tmp_path / 'w.ckpt'}")
    check_failure(run("evaluate", *twice), 2, "name one thing twice")
    check_failure(run(*asking, "--weights", "missing.pt"), 1, "there is no file missing.pt")


def test_a_module_of_ones_own_takes_them_in_place(tmp_path: Path, source: nn.Module) -> None:
    torch.save(
        {"model_ema": prefixed(source.state_dict(), "module."), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w"
    )
    mine = models.squeezenet1_1(num_classes=3).eval()
    load_weights(mine, tmp_path / "w")
    assert torch.equal(logits(mine), logits(source))
    with pytest.raises(ModelError, match=r"classifier\.1\.weight \(3, 512, 1, 1\) in place of \(5, 512, 1, 1\)"):
        load_weights(models.squeezenet1_1(num_classes=5), tmp_path / "w")
