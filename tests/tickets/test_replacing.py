"""Linear maps in place of removed blocks, against scikit-learn's regressions and networks bypassed by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, Ridge
from support import Run, check_failure
from torch import Tensor, nn
from transformer_networks import WIDTH, InBlock, Transformer, transformer

import robustprune as rp
from robustprune.data import ImageData
from robustprune.errors import PruningError, TicketError
from robustprune.models import build_model
from robustprune.runtime.file_kinds import TICKET
from robustprune.runtime.files import read_sealed, write_sealed
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import FORMAT, apply_plan

CODE = Path(__file__).parents[1] / "transformer_networks.py"
RUN = ["blocks.2", "blocks.3"]
TOKENS = 16


def vit(**options: Any) -> Transformer:
    return Transformer(depth=4, num_classes=10, channels=1, patch=2, **options)


@pytest.fixture(scope="module")
def trained(digits: ImageData) -> nn.Module:
    torch.manual_seed(0)
    network, train = vit(), digits.require("train")
    nn.init.normal_(network.positions, std=0.5)
    images, labels = train.images / 255, train.labels
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(10):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()


def held_out(digits: ImageData) -> Tensor:
    return digits.require("test").images / 255


def logits(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(network).eval()(images)


def seen(network: nn.Module, name: str, images: Tensor, *, given: bool = False) -> Tensor:
    """What a module returns, or what it is given."""
    found: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_hook(
        lambda _module, values, output: found.append((values[0] if given else output).clone())
    )
    logits_of = network(images)
    handle.remove()
    assert logits_of.shape[1] == 10
    return found[0].detach()


def rows(features: Tensor) -> np.ndarray[Any, Any]:
    return features.flatten(0, -2).double().numpy()


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize(
    ("unit", "gone", "after"),
    [("block", RUN, "norm"), ("attention", ["blocks.2.attn"], "blocks.2.norm2"), ("mlp", ["blocks.2.mlp"], "blocks.3")],
)
def test_held_out_error_is_far_below_that_of_removal(
    trained: nn.Module, digits: ImageData, merge: bool, unit: Any, gone: list[str], after: str
) -> None:
    images = held_out(digits)
    labels = digits.require("test").labels
    assert (logits(trained, images).argmax(dim=1) == labels).float().mean() > 0.85
    plain = rp.prune_layers(trained, blocks=gone, unit=unit, data=digits)
    found = rp.replace_linear(plain, trained, digits, merge=merge)
    whole = seen(trained, after, images, given=True)
    errors = [float((seen(each, after, images, given=True) - whole).norm()) for each in (plain.network, found.network)]
    assert errors[1] < 0.7 * errors[0]
    differences = [float((logits(each.network, images) - logits(trained, images)).norm()) for each in (plain, found)]
    assert differences[1] < differences[0]
    (replacement,) = found.plan.replaced.values()
    assert replacement.error < 0.7 * replacement.plain_error


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_merged_is_what_a_map_of_the_branch_computes(trained: nn.Module, digits: ImageData, ridge: float) -> None:
    """The map is scikit-learn's, and stands behind the MLP of a network whose blocks are bypassed by hand."""
    images = digits.require("train").images / 255
    added, before, after = (
        rows(each)
        for each in (
            seen(trained, "blocks.1.mlp", images),
            seen(trained, "blocks.1", images),
            seen(trained, "blocks.3", images),
        )
    )
    penalty = ridge * float(added.var(axis=0).mean()) * len(added)
    fit = (Ridge(alpha=penalty) if ridge else LinearRegression()).fit(added, after - before)
    change, constant = (torch.from_numpy(each).float() for each in (fit.coef_, fit.intercept_))
    unmerged = copy.deepcopy(trained)
    unmerged.blocks[1].mlp.register_forward_hook(lambda _module, _values, output: output + output @ change.T + constant)
    unmerged.blocks[2], unmerged.blocks[3] = nn.Identity(), nn.Identity()
    plain = rp.prune_layers(trained, blocks=RUN, data=digits)
    found = rp.replace_linear(plain, trained, digits, samples=10**6, ridge=ridge)
    expected, merged = (logits(network, held_out(digits)) for network in (unmerged, found.network))
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.abs().max())))
    (replacement,) = found.plan.replaced.values()
    assert replacement.blocks == tuple(RUN)
    assert replacement.merged_into == "blocks.1.mlp.2"
    left = after - before - fit.predict(added)
    assert replacement.error == pytest.approx(np.linalg.norm(left) / np.linalg.norm(after), rel=1e-4)
    assert replacement.plain_error == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(after), rel=1e-4)
    assert rp.measure_cost(found.network) == rp.measure_cost(plain.network)
    assert found.sha256 != plain.sha256


def test_a_map_of_its_own_is_the_regression_of_what_came_out(trained: nn.Module, digits: ImageData) -> None:
    images = digits.require("train").images / 255
    before, after = (rows(seen(trained, name, images)) for name in ("blocks.1", "blocks.3"))
    fit = LinearRegression().fit(before, after)
    plain = rp.prune_layers(trained, blocks=RUN, data=digits)
    found = rp.replace_linear(plain, trained, digits, samples=10**6, ridge=0, merge=False)
    block = found.network.get_submodule("blocks.2")
    given = torch.randn(2, TOKENS, WIDTH)
    expected = torch.from_numpy(fit.predict(given.flatten(0, 1).double().numpy())).view(given.shape).float()
    torch.testing.assert_close(block(given), expected, rtol=1e-3, atol=1e-3)
    before_cost, cost = rp.measure_cost(plain.network), rp.measure_cost(found.network)
    assert cost.parameters - before_cost.parameters == WIDTH**2 + WIDTH
    assert cost.macs - before_cost.macs == TOKENS * WIDTH**2


def test_a_large_ridge_leaves_the_plain_removal(trained: nn.Module, digits: ImageData) -> None:
    plain = rp.prune_layers(trained, blocks=RUN, data=digits)
    for merge in (True, False):
        found = rp.replace_linear(plain, trained, digits, ridge=1e9, merge=merge)
        # Penalized are slopes alone; the mean of what came out is made up for.
        (replacement,) = found.plan.replaced.values()
        assert 0.1 * replacement.plain_error < replacement.error < replacement.plain_error


@pytest.mark.parametrize("merge", [True, False])
def test_tickets_carry_their_maps(trained: nn.Module, digits: ImageData, tmp_path: Path, merge: bool) -> None:
    plain = rp.prune_layers(trained, blocks=["blocks.1", "blocks.3"], data=digits)
    found = rp.replace_linear(plain, trained, digits, merge=merge)
    assert len(found.plan.replaced) == 2
    found.save(tmp_path / "t.pt")
    loaded = rp.load_ticket(tmp_path / "t.pt", into=vit())
    assert loaded.sha256 == found.sha256
    assert loaded.plan == found.plan
    images = held_out(digits)
    assert torch.equal(logits(loaded.network, images), logits(found.network, images))
    for form in ("torch-export", "onnx"):
        assert rp.export_model(loaded, tmp_path / form, form).largest_difference < 1e-4
    left = rp.find_blocks(loaded.network, images[:2])
    assert [(block.name, block.stage, block.stage_size) for block in left] == [("blocks.0", 0, 2), ("blocks.2", 0, 2)]
    assert len(rp.find_blocks(loaded.network, images[:2], unit="mlp")) == 2
    again = rp.replace_linear(rp.prune_layers(loaded, blocks=["blocks.2.mlp"], unit="mlp"), loaded, digits, merge=merge)
    again.save(tmp_path / "u.pt")
    assert rp.load_ticket(tmp_path / "u.pt", into=vit()).sha256 == again.sha256
    with pytest.raises(PruningError, match="fitted to the weights that it has"):
        rp.rewind(loaded, trained, 0)


def test_maps_of_branches_are_no_branches(trained: nn.Module, digits: ImageData) -> None:
    gone = [f"blocks.{number}.attn" for number in (0, 2)]
    plain = rp.prune_layers(trained, blocks=gone, unit="attention", data=digits)
    found = rp.replace_linear(plain, trained, digits, merge=False)
    assert list(found.plan.replaced) == ["blocks.0.norm1", "blocks.2.norm1"]
    for unit, numbers in (("attention", (1, 3)), ("mlp", (0, 1, 2, 3))):
        left = rp.find_blocks(found.network, held_out(digits)[:2], unit=unit)
        names = [f"blocks.{number}.{'attn' if unit == 'attention' else 'mlp'}" for number in numbers]
        assert [block.name for block in left] == names


def test_a_map_stands_only_where_something_was_removed(trained: nn.Module, digits: ImageData, tmp_path: Path) -> None:
    plain = rp.prune_layers(trained, blocks=["blocks.1"], data=digits)
    rp.replace_linear(plain, trained, digits, merge=False).save(tmp_path / "t.pt")
    content = read_sealed(tmp_path / "t.pt", FORMAT)
    plan = Plan.model_validate(content["header"]["plan"])
    elsewhere = plan.model_copy(update={"replaced": {"head": plan.replaced["blocks.1"]}})
    with pytest.raises(TicketError, match="removes 'head', which is no residual block"):
        apply_plan(rp.Ticket.from_model(trained, digits).network, elsewhere)
    for wrong in ({"channels": 10**9}, {"channel_dim": 0}, {"error": -1.0}, {"code": "import os"}):
        content["header"]["plan"]["replaced"] = {"blocks.1": {**plan.replaced["blocks.1"].model_dump(), **wrong}}
        write_sealed(tmp_path / "u.pt", content, TICKET)
        with pytest.raises(
            TicketError, match=rf"put together by hand: header.plan.replaced.blocks.1.{next(iter(wrong))}"
        ):
            rp.load_ticket(tmp_path / "u.pt", into=vit())


def test_residual_networks_get_a_map_of_channels(digits: ImageData, tmp_path: Path) -> None:
    """A 1×1 convolution, behind whose ReLU nothing is negative, as behind the block's own."""
    dense = build_model("resnet20:width=4", digits).eval()
    with torch.no_grad():
        for _, module in dense.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    plain = rp.prune_layers(dense, blocks=["layer2.2"], data=digits)
    found = rp.replace_linear(plain, dense, digits, samples=100, ridge=0)
    (replacement,) = found.plan.replaced.values()
    assert (replacement.merged_into, replacement.is_rectified, replacement.channel_dim) == (None, True, 1)
    assert replacement.error < replacement.plain_error
    images = held_out(digits)
    before, after = seen(dense, "layer2.1", images), seen(dense, "layer2.2", images)
    linear = found.network.get_submodule("layer2.2.linear")
    expected = nn.functional.conv2d(before, linear.weight[:, :, None, None], linear.bias).relu()
    found_after = seen(found.network, "layer2.2", images)
    torch.testing.assert_close(found_after, expected.detach(), rtol=1e-4, atol=1e-5)
    assert (found_after - after).norm() < 0.7 * (before - after).norm()
    found.save(tmp_path / "t.pt")
    assert torch.equal(logits(rp.load_ticket(tmp_path / "t.pt").network, images), logits(found.network, images))


@pytest.mark.parametrize(("unit", "layer"), [("attention", "0.mlp.3"), ("mlp", "1.self_attention.out_proj")])
def test_maps_of_torchvision_become_part_of_its_layers(unit: Any, layer: str) -> None:
    data = rp.as_data(train=(torch.randint(0, 256, (60, 3, 32, 32), dtype=torch.uint8), torch.arange(60) % 3))
    dense = transformer("torchvision")
    name = rp.find_blocks(dense, torch.rand(2, 3, 32, 32), unit=unit)[1].name
    plain = rp.prune_layers(dense, blocks=[name], unit=unit, data=data)
    (replacement,) = rp.replace_linear(plain, dense, data).plan.replaced.values()
    assert replacement.merged_into == f"encoder.layers.encoder_layer_{layer}"
    assert replacement.error < replacement.plain_error


def test_what_cannot_be_is_refused(trained: nn.Module, digits: ImageData) -> None:
    plain = rp.prune_layers(trained, blocks=["blocks.1"], data=digits)
    found = rp.replace_linear(plain, trained, digits)
    with pytest.raises(PruningError, match="stand in place of its blocks already"):
        rp.replace_linear(found, trained, digits)
    with pytest.raises(PruningError, match="lost none since"):
        rp.replace_linear(plain, plain, digits)
    with pytest.raises(PruningError, match=r"is not that of the network that it was cut out of"):
        rp.replace_linear(plain, vit(), digits)
    for ridge in (-1, float("nan"), float("inf")):
        with pytest.raises(PruningError, match="at least 2 samples and a finite ridge of at least 0"):
            rp.replace_linear(plain, trained, digits, ridge=ridge)
    own = vit(block=InBlock)
    branch = rp.prune_layers(own, blocks=["blocks.1.first"], unit="mlp", data=digits)
    with pytest.raises(PruningError, match="goes on computing with what the map returns"):
        rp.replace_linear(branch, own, digits, merge=False)


def test_the_command_replaces(run: Run) -> None:
    model = ("prune", "--model", "resnet20:width=4", "--blocks", "layer1.1", "--out", "t.pt")
    found = run(*model, "--replace", "linear:samples=40", "--json").json
    assert found["replaced"]["layer1.1"]["merged_into"] is None
    assert found["after"]["parameters"] > run(*model, "--json").json["after"]["parameters"]
    assert "linear map" in run(*model, "--replace", "linear").out
    check_failure(run(*model, "--replace", "affine"), 2, "linear")
    check_failure(run(*model, "--replace", "linear:merge=1"), 2, "merge is true or false")
    check_failure(run(*model, "--replace", "linear:rigde=1"), 2, "Did you mean", "ridge")
    weights = ("prune", "--model", "resnet20:width=4", "--method", "weight", "--sparsity", "0.5", "--out", "t.pt")
    check_failure(run(*weights, "--replace", "linear"), 2, "--replace belongs to --method layer")
