"""One network over two processes against one process."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import shared_training as shared
import torch
from support import TINY, Run
from torch import nn
from torchrun import robustprune_in_two, said, start
from torchrun import run as torchrun

from robustprune.data import ImageData
from robustprune.errors import TrainingError
from robustprune.models import build_model
from robustprune.runtime.process_group import ProcessGroup
from robustprune.runtime.work import Work
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import Course, train
from robustprune.training.distributed import SharedNetwork

TWO = ProcessGroup(rank=0, count=2)
"""For what is decided before processes talk."""


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared") / "smooth.py"
    path.write_text(shared.SMOOTH)
    return path


@pytest.fixture(scope="session")
def by_two(code: Path) -> dict[str, Any]:
    """What two processes made of all cases."""
    result, _, err = torchrun(code.parent, shared.__file__, str(code.parent))
    assert result == 0, err
    found: dict[str, Any] = torch.load(code.parent / "found.pt", weights_only=True)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", shared.CASES)
def test_weights_are_those_of_one_process(code: Path, by_two: dict[str, Any], name: str) -> None:
    alone = shared.train_case(code, shared.few_images(), name)
    together = by_two[name]
    assert together["equal"]
    for key, value in alone.network.state_dict().items():
        torch.testing.assert_close(together["weights"][key], value, rtol=1e-7, atol=1e-9)
    for one, two in zip(alone.history, together["history"], strict=True):
        for key in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate"):
            assert two[key] == pytest.approx(one[key], rel=1e-4), key
        assert two.get("pgd_accuracy") == one.get("pgd_accuracy")
    assert (together["training"]["processes"], together["training"]["batch_statistics"]) == (2, "none")
    assert together["training"]["run"] != alone.training["run"]


@pytest.mark.slow
@pytest.mark.parametrize("name", shared.MIXED)
def test_mixed_precision_by_two_processes(code: Path, by_two: dict[str, Any], name: str) -> None:
    """Both end in the same weights, and near those of one process: shares of a batch are rounded to 16 bits anew."""
    alone, together = shared.train_case(code, shared.few_images(), name), by_two[name]
    assert together["equal"]
    assert together["training"]["precision"] == name
    for one, two in zip(alone.history, together["history"], strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=0.01)
    for key, value in alone.network.state_dict().items():
        assert together["weights"][key].dtype == torch.float32
        torch.testing.assert_close(together["weights"][key], value, rtol=0.05, atol=0.01)


@pytest.mark.slow
def test_no_thread_of_the_group_outlives_it(by_two: dict[str, Any]) -> None:
    # One that wakes while the interpreter ends aborts the process.
    assert by_two["threads"] == []


@pytest.mark.slow
@pytest.mark.parametrize("network", ["net", "Idle"])
def test_the_gradient_is_that_of_the_mean_over_the_whole_batch(
    code: Path, by_two: dict[str, Any], network: str
) -> None:
    """A step of plain gradient descent on 201 images, 101 and 100 of them, against autograd on all at once."""
    data = shared.few_images()
    part = data.require("train")
    assert len(part) % 2 == 1
    model = build_model(f"file:{code}:{network}", data)
    loss = nn.functional.cross_entropy(model(part.images.double() / 255), part.labels)
    loss.backward()
    weights, rate = by_two[network]["weights"], by_two[network]["rate"]
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close((parameter.detach() - weights[name]) / rate, gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_what_fails_in_one_fails_in_all(by_two: dict[str, Any]) -> None:
    assert by_two["failures"] == ["DataError: the disk of process 1 is gone"] * 2


TRAIN = ("train", *TINY, "--dataset", "digits", "--batch-size", "64", "--no-energy", "--threads", "1", "--json")


@pytest.mark.slow
def test_killed_and_resumed_ends_in_the_same_weights(tmp_path: Path) -> None:
    """Of batch normalization, too; one process alone is killed, and torchrun has to end by itself."""
    command = (*TRAIN, "--epochs", "12")
    result, out, err = robustprune_in_two(tmp_path, *command, "--out", "undisturbed.pt")
    assert result == 0, err
    expected = json.loads(out)
    assert (expected["processes"], expected["batch_statistics"]) == (2, "per process")
    assert err.count("epoch 12/12") == 1

    process = start(tmp_path, "-m", "robustprune", *command, "--out", "ticket.pt")
    wait_for(tmp_path / "ticket.pt.checkpoint")
    second = [each for each in psutil.Process(process.pid).children() if each.environ().get("RANK") == "1"]
    os.kill(second[0].pid, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == ""
    assert len(said(err)) <= 1
    assert "should not happen" not in err

    result, out, err = robustprune_in_two(tmp_path, *command, "--out", "ticket.pt", "--resume")
    assert result == 0, err
    assert json.loads(out)["sha256"] == expected["sha256"]
    assert 0 < err.count("epoch ") < 12
    # Finished, it is read back; the record carries how it was trained.
    result, out, err = robustprune_in_two(tmp_path, *command, "--out", "ticket.pt", "--resume")
    assert (result, json.loads(out)["sha256"], err.count("epoch ")) == (0, expected["sha256"], 0)
    assert load_ticket(tmp_path / "ticket.pt").training["batch_statistics"] == "per process"


def wait_for(path: Path) -> None:
    end = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_an_error_of_all_is_said_once(tmp_path: Path) -> None:
    result, out, err = robustprune_in_two(tmp_path, *TRAIN, "--learning-rate", "1e30", "--out", "ticket.pt")
    assert (result, out) == (1, "")
    assert [each[:24] for each in said(err)] == ["Error: training diverged"]
    assert not (tmp_path / "ticket.pt").exists()


def test_a_batch_too_small_for_all_is_refused(few_digits: ImageData) -> None:
    ticket = Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)
    with pytest.raises(TrainingError, match="batch of 3 images is too small for 2 processes"):
        train(ticket, few_digits, batch_size=3, country=None, work=Work(TWO))


def test_identity_knows_of_several_processes_only(few_digits: ImageData) -> None:
    plain = Ticket.from_model(build_model("resnet20", few_digits, width=4), few_digits)

    def settings(device: str, processes: ProcessGroup | None) -> dict[str, Any]:
        given = () if processes is None else (processes,)
        return Course.of("quick", device=device).identity(plain, few_digits, *given)

    one, two = settings("cpu", None), settings("cpu", TWO)
    assert one == settings("cpu", ProcessGroup())
    assert two == one | {"processes": 2, "batch_statistics": "per process"}
    assert settings("cuda", TWO)["batch_statistics"] == "synchronized"


# Normalization of the one has activations built in; the other is synchronized without timm, too.
@pytest.mark.parametrize(("name", "with_timm"), [("timm:efficientnet_b0", True), ("resnet20", False)])
def test_synchronized_layers_give_way_to_those_that_were_there(
    name: str, with_timm: bool, few_digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_model(name, few_digits)
    if not with_timm:
        monkeypatch.setitem(sys.modules, "timm.layers", None)
    kinds = [type(module) for module in network.modules()]
    weights = copy.deepcopy(network.state_dict())
    images = few_digits.require("val").images[:4].float() / 255
    expected = network.eval()(images)
    shared_network = SharedNetwork(network)
    shared_network._synchronize_statistics()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    assert list(network.state_dict()) == list(weights)
    torch.testing.assert_close(network.eval()(images), expected)
    with torch.no_grad():
        for buffer in network.buffers():
            buffer += 1  # as training does, in place
    shared_network.undo()
    assert [type(module) for module in network.modules()] == kinds
    for (name, value), buffer in zip(weights.items(), network.state_dict().values(), strict=True):
        is_buffer = name in dict(network.named_buffers())
        torch.testing.assert_close(buffer, value + 1 if is_buffer else value)


def test_processes_share_nothing_unless_started_together(run: Run) -> None:
    outcome = run(*TRAIN, "--epochs", "1", "--train-limit", "100", "--out", "ticket.pt")
    assert "processes" not in outcome.json
    assert "processes" not in load_ticket("ticket.pt").training
