"""Exported files against what independent programs read in them: onnxruntime, onnx, a bare torch.export.load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from extras import needs
from support import TINY, Run, check_failure, shaken
from torch import Tensor, nn

import robustprune as rp
from robustprune.errors import ExportError
from robustprune.tickets.export import FORMS, encode_network, measure_form_latencies
from robustprune.tickets.ticket import Ticket

onnx, onnxruntime = needs("onnx"), needs("onnxruntime")
needs("onnxscript")


@pytest.fixture(scope="module")
def tickets(few_digits: Any) -> dict[str, Ticket]:
    """Tickets of every method, with weights and statistics that are nowhere trivial."""
    dense = shaken(rp.build_model("resnet20", few_digits, width=4))
    images = rp.as_data((torch.zeros(10, 3, 32, 32), range(10)))
    blocks = rp.score_blocks(dense, few_digits, "random")
    layer = rp.prune_layers(dense, blocks, blocks=2, data=few_digits)
    scores = rp.score_filters(dense, list(rp.prunable_convolutions(dense).values()), few_digits, "l1")
    return {
        "dense": Ticket.from_model(dense, few_digits),
        "layer": layer,
        "filter": rp.prune_filters(dense, scores, match=layer, data=few_digits),
        "weight": rp.prune_weights(dense, few_digits, "magnitude", sparsity=0.8),
        "wide": Ticket.from_model(shaken(rp.build_model("wrn:10-1", few_digits)), few_digits),
        "torchvision": Ticket.from_model(shaken(rp.build_model("torchvision:shufflenet_v2_x0_5", images))),
    }


# The exporters take seconds for a network: the quick tests have one ticket, the slow ones all.
KINDS = (
    "layer",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dense", "filter", "weight", "wide", "torchvision")),
)


@pytest.fixture(scope="module")
def export(tickets: dict[str, Ticket], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Export a kind of ticket in a form, once, alone in a folder."""

    @cache
    def make(kind: str, form: str) -> Path:
        path = tmp_path_factory.mktemp("export") / "net"
        before = tickets[kind].sha256
        found = rp.export_model(tickets[kind], path, form)
        assert tickets[kind].sha256 == before
        assert 0 <= found.largest_difference <= 1e-4
        assert [each.name for each in path.parent.iterdir()] == ["net"]  # weights are inside
        return path

    return make


def images_for(ticket: Ticket, count: int) -> Tensor:
    built = ticket.architecture
    return torch.rand(count, built.channels, *built.image_size, generator=torch.Generator().manual_seed(count))


def check_close(found: Any, expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def own_logits(ticket: Ticket, images: Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return ticket.network.eval()(images).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_computes_the_tickets_logits(
    tickets: dict[str, Ticket], export: Callable[[str, str], Path], kind: str
) -> None:
    ticket = tickets[kind]
    session = onnxruntime.InferenceSession(str(export(kind, "onnx")), providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    built = ticket.architecture
    assert (taken.type, taken.shape[1:]) == ("tensor(float)", [built.channels, *built.image_size])
    assert given.shape[1] == built.num_classes
    for size in (1, 3, 40):
        images = images_for(ticket, size)
        (logits,) = session.run(None, {taken.name: images.numpy()})
        check_close(logits, own_logits(ticket, images))


@pytest.mark.parametrize("kind", KINDS)
def test_torch_export_computes_the_tickets_logits(
    tickets: dict[str, Ticket], export: Callable[[str, str], Path], kind: str
) -> None:
    program = torch.export.load(export(kind, "torch-export")).module()
    for size in (1, 3, 40):
        images = images_for(tickets[kind], size)
        check_close(program(images).detach().numpy(), own_logits(tickets[kind], images))


def test_the_file_says_what_it_is(tickets: dict[str, Ticket], export: Callable[[str, str], Path]) -> None:
    ticket = tickets["layer"]
    model = onnx.load(export("layer", "onnx"))
    onnx.checker.check_model(model)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert (said["architecture"], said["classes"], said["dataset"]) == ("resnet20", "10", "digits")
    assert said["ticket_sha256"] == ticket.sha256
    assert json.loads(said["removed"]) == list(ticket.plan.removed)
    # Batch normalization is folded away, and only the number of images is open.
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim] == [0, 1, 8, 8]

    extra = {"ticket_sha256": "", "architecture": ""}
    torch.export.load(export("layer", "torch-export"), extra_files=extra)
    assert (extra["ticket_sha256"], extra["architecture"]) == (ticket.sha256, "resnet20")


@pytest.mark.slow
def test_a_torch_export_runs_without_this_package(
    tickets: dict[str, Ticket], export: Callable[[str, str], Path], tmp_path: Path
) -> None:
    images = images_for(tickets["layer"], 3)
    torch.save(images, tmp_path / "images.pt")
    script = (
        "import sys, torch\n"
        "sys.modules['robustprune'] = None\n"  # importing it fails
        "program = torch.export.load(sys.argv[1]).module()\n"
        "torch.save(program(torch.load('images.pt')).detach(), 'logits.pt')\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(export("layer", "torch-export"))]
    subprocess.run(command, cwd=tmp_path, check=True)
    check_close(torch.load(tmp_path / "logits.pt").numpy(), own_logits(tickets["layer"], images))


class Branches(nn.Module):
    """Does one thing or another by what is in the images."""

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        return flat[:, :10] if flat.sum() > 3 else flat[:, 10:20]


class Draws(nn.Module):
    """Gives other logits each time."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :10] + torch.rand(images.shape[0], 10)


@pytest.mark.parametrize("form", ["torch-export", pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("network", "words"), [(Branches(), "cannot be exported to"), (Draws(), "something else than the ticket")]
)
def test_what_cannot_be_exported_leaves_no_file(
    tickets: dict[str, Ticket], tmp_path: Path, form: str, network: nn.Module, words: str
) -> None:
    network.architecture = tickets["dense"].architecture  # type: ignore[assignment]
    ticket = Ticket(network, tickets["dense"].architecture)
    with pytest.raises(ExportError, match=words):
        rp.export_model(ticket, tmp_path / "net", form)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_differs_is_not_published(
    tickets: dict[str, Ticket],
    export: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    kept = tmp_path / "net"
    kept.write_bytes(b"an earlier file")
    content, decode = export("layer", form).read_bytes(), FORMS[form].decode
    faulty = SimpleNamespace(
        encode=lambda *_: content,
        # Right on batches of up to three images: one size alone would not show it.
        decode=lambda content: lambda images: decode(content)(images) * (1 if len(images) <= 3 else 1.001),
    )
    monkeypatch.setitem(FORMS, form, faulty)
    with pytest.raises(ExportError, match=r"logits of 5 images differ by 0\.001"):
        rp.export_model(tickets["layer"], kept, form)
    assert kept.read_bytes() == b"an earlier file"
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.slow
def test_every_form_of_every_network_is_timed(tickets: dict[str, Ticket]) -> None:
    networks = [tickets["dense"].network, tickets["layer"].network]
    timed = measure_form_latencies(networks, batch_size=4, seconds=0)
    assert [list(each) for each in timed] == [["torch", "onnx", "torch-export"]] * 2
    for latency in (latency for each in timed for latency in each.values()):
        assert (latency.batch_size, latency.device, latency.spread.repeats) == (4, "cpu", 5)
        assert latency.spread.median > 0


def test_command_line(run: Run, tickets: dict[str, Ticket]) -> None:
    tickets["layer"].save("t.pt")
    shown = run("export", "--model", "t.pt", "--format", "torch-export", "--out", "t.pt2")
    assert shown.code == 0
    assert "logits (N, 10)" in shown.out
    check_failure(run("export", "--model", "t.pt", "--out", "./t.pt"), 2, "is the file that --model names")
    check_failure(run("export", "--model", "t.pt", "--format", "onx", "--out", "x"), 2, "torch-export")
    check_failure(run("cost", "--model", "t.pt", "--exported"), 2, "--latency")
    with pytest.raises(ExportError, match="Did you mean 'onnx'"):
        rp.export_model(rp.load_ticket("t.pt"), "x", "onxx")


@pytest.mark.slow
def test_latency_of_exports_on_the_command_line(run: Run, tickets: dict[str, Ticket]) -> None:
    tickets["layer"].save("t.pt")
    found = run("export", "--model", "t.pt", "--out", "t.onnx", "--json").json
    assert found["bytes"] == Path("t.onnx").stat().st_size
    assert (found["format"], found["out"], found["batch_sizes"][0]) == ("onnx", "t.onnx", 1)
    document = run("cost", "--model", "t.pt", "--dense", "t.pt", "--latency", "--exported", "--json").json
    for each in (document, document["dense"]):
        assert set(each["exported"]) == {"latency_ms", "batch_latency_ms"}
        assert set(each["exported"]["latency_ms"]) == {"onnx", "torch-export"}
        # In turn: as many passes of each as of the frozen copy.
        for form in ("onnx", "torch-export"):
            assert each["exported"]["latency_ms"][form]["repeats"] == each["latency_ms"]["repeats"]
    assert "latency, 128 images, onnx" in run("cost", "--model", "t.pt", "--latency", "--exported").out


@pytest.mark.slow
def test_a_missing_package_is_named_with_its_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, package, None)
            failed = run("export", *TINY, "--out", "x.onnx")
        check_failure(failed, 1, f"'{package}', which is not installed", "pip install 'robustprune[export]'")
        assert not Path("x.onnx").exists()


class Odd(nn.Module):
    """A network that takes images as a built one does, and returns its logits in a form of its own."""

    def __init__(self, like: nn.Module, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.architecture, self.network, self.form = like.architecture, like, form

    def forward(self, images: Tensor) -> Any:
        return self.form(self.network(images))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda z: (z, z.sum()), lambda z: z),
        (lambda z: {"aux": z + 1, "logits": z}, lambda z: z),
        (lambda z: z[:, 0], lambda z: torch.stack([0 * z[:, 0], z[:, 0]], dim=1)),
    ],
)
def test_files_hold_the_logits_alone(
    kind: str,
    form: Callable[[Tensor], Any],
    expected: Callable[[Tensor], Tensor],
    tickets: dict[str, Ticket],
) -> None:
    network = tickets["layer"].model().eval()
    _, run = encode_network(Odd(network, form), kind, {})
    images = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(run(images), expected(network(images)), rtol=1e-4, atol=1e-4)
