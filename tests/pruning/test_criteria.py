"""Criteria against finite differences and against the identities of scale-invariant weights."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Mapping
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustprune.data import ImageData, InMemorySplit, stratified_per_class
from robustprune.errors import PruningError, RobustPruneError
from robustprune.models import build_model
from robustprune.pruning import (
    CRITERIA,
    find_blocks,
    make_criterion,
    prunable_convolutions,
    score_blocks,
    score_filters,
    score_weights,
    weight_layers,
)
from robustprune.pruning.criteria import scoring_copy
from robustprune.pruning.criteria.batched import as_batches
from robustprune.registry import with_options


def network_for(data: ImageData, seed: int = 0, width: int = 4) -> nn.Module:
    return build_model("resnet20", data, seed=seed, width=width)


def mean_loss(
    network: nn.Module, weights: Mapping[str, Tensor], batches: list[tuple[Tensor, Tensor]], t: float
) -> Tensor:
    total = sum(len(labels) for _, labels in batches)
    losses = []
    for images, labels in batches:
        logits = torch.func.functional_call(network, dict(weights), (images,)) / t
        losses.append(nn.functional.cross_entropy(logits, labels, reduction="sum"))
    return torch.stack(losses).sum() / total


def gradient_by_hand(
    network: nn.Module, weights: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]], t: float
) -> dict[str, Tensor]:
    leaves = {name: value.detach().clone().requires_grad_(True) for name, value in weights.items()}
    found = torch.autograd.grad(mean_loss(network, leaves, batches, t), list(leaves.values()))
    return dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("bn_mode", ["batch", "running"])
def test_snip_is_the_first_order_change_of_the_loss(few_digits: ImageData, seed: int, bn_mode: str) -> None:
    model = network_for(few_digits, seed).double()
    criterion = make_criterion("snip", bn_mode=bn_mode, samples_per_class=3)
    scores = criterion.weight_scores(model, few_digits, seed)
    network = scoring_copy(model, bn_mode)
    batches = criterion.batches(network, few_digits, seed)
    weights = {name: value.detach() for name, value in dict(weight_layers(network)).items()}
    chooser = random.Random(seed)
    for name in chooser.sample(sorted(weights), 6):
        place = tuple(chooser.randrange(side) for side in weights[name].shape)
        step, losses = 1e-6, []
        for sign in (1, -1):
            moved = {**weights, name: weights[name].clone()}
            moved[name][place] += sign * step
            with torch.no_grad():
                losses.append(float(mean_loss(network, moved, batches, 1.0)))
        slope = (losses[0] - losses[1]) / (2 * step)
        assert float(scores[name][place]) == pytest.approx(abs(float(weights[name][place]) * slope), rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("bn_mode", ["batch", "running"])
def test_grasp_is_the_hessian_gradient_product(few_digits: ImageData, seed: int, bn_mode: str) -> None:
    model = network_for(few_digits, seed).double()
    criterion = make_criterion("grasp", bn_mode=bn_mode, samples_per_class=3, batch_size=16)
    scores = criterion.weight_scores(model, few_digits, seed)
    network = scoring_copy(model, bn_mode)
    batches = criterion.batches(network, few_digits, seed)
    assert len(batches) == 2
    weights = {name: value.detach() for name, value in dict(weight_layers(network)).items()}
    gradient = gradient_by_hand(network, weights, batches, 200.0)
    # H·g as a central difference of the gradient along g.
    step = 1e-7 / float(torch.stack([g.norm() for g in gradient.values()]).norm())
    ahead, behind = (
        gradient_by_hand(network, {n: w + sign * step * gradient[n] for n, w in weights.items()}, batches, 200.0)
        for sign in (1, -1)
    )
    for name, weight in weights.items():
        product = (ahead[name] - behind[name]) / (2 * step)
        expected = weight * product
        torch.testing.assert_close(scores[name], expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("seed", [0, 1])
def test_identities_of_scale_invariant_blocks(few_digits: ImageData, seed: int) -> None:
    model = network_for(few_digits, seed).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-30  # the invariance is exact only without any
    grasp = make_criterion("grasp", samples_per_class=4)
    saliency = grasp.weight_scores(model, few_digits, seed)
    network = scoring_copy(model, "batch")
    batches = grasp.batches(network, few_digits, seed)
    weights = {name: value.detach() for name, value in dict(weight_layers(network)).items()}
    gradient = gradient_by_hand(network, weights, batches, 200.0)
    for block in find_blocks(model.float()):
        own = [name for name in weights if name.startswith(f"{block.name}.")]
        squared = sum(float(gradient[name].square().sum()) for name in own)
        signal = sum(float((weights[name] * gradient[name]).sum()) for name in own)
        size = sum(float((weights[name] * gradient[name]).abs().sum()) for name in own)
        assert abs(signal) < 1e-9 * size
        assert -sum(float(saliency[name].sum()) for name in own) == pytest.approx(squared, rel=1e-6)


def test_block_score_is_the_sum_over_its_convolutions(few_digits: ImageData) -> None:
    model = network_for(few_digits)
    for reduction in ("sum", "mean"):
        criterion = make_criterion("snip", reduction=reduction)
        weights = criterion.weight_scores(model, few_digits, 0)
        for name, score in score_blocks(model, few_digits, "snip", reduction=reduction).items():
            own = torch.cat([weights[f"{name}.{convolution}.weight"].flatten() for convolution in ("conv1", "conv2")])
            assert score == pytest.approx(
                float(own.double().sum() if reduction == "sum" else own.double().mean()), rel=1e-5
            )


def test_batches_do_not_change_running_statistics_scores(few_digits: ImageData) -> None:
    model = network_for(few_digits).double()
    for name in ("snip", "grasp"):
        whole, parts = (
            score_blocks(model.float(), few_digits, name, bn_mode="running", batch_size=size) for size in (100, 30)
        )
        assert list(whole) == list(parts)
        assert list(whole.values()) == pytest.approx(list(parts.values()), rel=1e-3)


def test_random_is_seeded_and_independent_of_the_weights(few_digits: ImageData) -> None:
    first, again, other = (
        score_blocks(network_for(few_digits, weights), few_digits, "random", seed=seed)
        for weights, seed in ((0, 1), (5, 1), (0, 2))
    )
    assert first == again
    assert first != other
    assert all(0 <= score < 1 for score in first.values())


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_filter_is_worth_what_its_weights_are(few_digits: ImageData, criterion: str, reduction: str) -> None:
    model = network_for(few_digits)
    layers = list(prunable_convolutions(model, find_blocks(model)).values())
    weights = score_weights(model, few_digits, criterion, seed=1)
    for layer, found in score_filters(model, layers, few_digits, criterion, seed=1, reduction=reduction).items():
        by_hand = [getattr(each.double(), reduction)() for each in weights[f"{layer}.weight"]]
        torch.testing.assert_close(found, torch.stack(by_hand), rtol=1e-5, atol=1e-12)


def test_random_filters_and_weights_are_uniform_and_seeded(few_digits: ImageData) -> None:
    model = network_for(few_digits, width=16)
    layers = ["layer1.0.conv1", "layer1.1.conv1"]
    first, again, other = (score_filters(model, layers, few_digits, "random", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first[layers[0]], again[layers[0]])
    assert not torch.equal(first[layers[0]], other[layers[0]])
    assert not torch.equal(first[layers[0]], first[layers[1]])
    draws = torch.cat([value.flatten() for value in score_weights(model, few_digits, "random").values()])
    assert (float(draws.min()), float(draws.mean()), float(draws.max())) == pytest.approx((0, 0.5, 1), abs=0.01)


REFUSED = {
    ("kl", "filter"): "Kl does not score filters: each filter would take a pass",
    ("kl", "weight"): r"Kl does not score weights: .*each weight",
    ("hrank", "weight"): r"HRank does not score weights: .*filter",
    ("expected_abs", "weight"): r"ExpectedAbs does not score weights: .*filter",
    ("pls", "weight"): r"Pls does not score weights: .*filter",
    **{
        (name, kind): f"does not score {kind}s: each {kind} would take a pass over all images of its own"
        for name in ("cka", "consensus", "true_drop", "jacobian", "naswot")
        for kind in ("filter", "weight")
    },
    **{(name, "filter"): "does not score filters: it is defined for whole blocks only" for name in ("bi", "sr")},
    **{(name, "weight"): "does not score weights: it judges what comes out of a layer" for name in ("bi", "sr")},
    ("sr", "block"): "no better than by always naming the most frequent class",
}


@pytest.mark.quick_cases(11)
@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
@pytest.mark.parametrize("kind", ["block", "filter", "weight"])
@pytest.mark.parametrize("criterion", sorted(CRITERIA.names()))
def test_every_criterion_scores_every_kind_or_says_why_not(few_digits: ImageData, criterion: str, kind: str) -> None:
    model = network_for(few_digits)
    layers = list(prunable_convolutions(model, find_blocks(model)).values())
    score: dict[str, Callable[[], Mapping[str, float | Tensor]]] = {
        "block": lambda: score_blocks(model, few_digits, criterion),
        "filter": lambda: score_filters(model, layers, few_digits, criterion),
        "weight": lambda: score_weights(model, few_digits, criterion),
    }
    if (criterion, kind) in REFUSED:
        with pytest.raises(PruningError, match=REFUSED[criterion, kind]):
            score[kind]()
        return
    shapes = {name: torch.as_tensor(value).shape for name, value in score[kind]().items()}
    # Nine blocks, of which the first ones of stages 2 and 3 change the shape.
    removable = [f"layer{stage}.{place}" for stage in (1, 2, 3) for place in range(3) if stage == 1 or place]
    assert (
        shapes
        == {
            "block": dict.fromkeys(removable, torch.Size()),
            "filter": {layer: model.get_parameter(f"{layer}.weight").shape[:1] for layer in layers},
            "weight": {name: value.shape for name, value in model.named_parameters() if value.ndim > 1},
        }[kind]
    )


@pytest.mark.parametrize("plug_in", [dict, lambda: None], ids=["class", "function"])
def test_plug_ins_that_are_no_criterion(
    few_digits: ImageData, monkeypatch: pytest.MonkeyPatch, plug_in: Callable[[], object]
) -> None:
    monkeypatch.setattr(CRITERIA, "get", lambda _name: plug_in)
    model = build_model("resnet20", few_digits, width=4)
    with pytest.raises(PruningError, match=r"criterion mine is .*, no subclass of robustprune\.pruning\.Criterion"):
        score_filters(model, ["layer1.0.conv1"], few_digits, "mine")
    with pytest.raises(PruningError, match="no subclass of"):
        score_blocks(model, few_digits, "mine")


def test_filters_of_what_is_no_convolution_are_refused(few_digits: ImageData) -> None:
    model = network_for(few_digits)
    with pytest.raises(PruningError, match=r"'layer1\.0\.bn1' is no convolution"):
        score_filters(model, ["layer1.0.bn1"], few_digits, "snip")


@pytest.mark.quick_cases(7)
@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
@pytest.mark.parametrize("bn_mode", ["batch", "running"])
@pytest.mark.parametrize("criterion", sorted(CRITERIA.names()))
def test_scoring_leaves_no_trace(few_digits: ImageData, criterion: str, bn_mode: str) -> None:
    field = CRITERIA.get(criterion).model_fields.get("bn_mode")
    options = {"bn_mode": bn_mode} if field and bn_mode in get_args(field.annotation) else {}
    model = network_for(few_digits).train()
    model.layer1.eval()
    model(torch.rand(8, 1, 8, 8)).sum().backward()
    state = copy.deepcopy(model.state_dict())
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    generators = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with pytest.raises(PruningError) if (criterion, "block") in REFUSED else contextlib.nullcontext():
        score_blocks(model, few_digits, criterion, seed=3, **options)
    with contextlib.suppress(PruningError):
        score_filters(model, ["layer1.1.conv1"], few_digits, criterion, seed=3, **options)
    with contextlib.suppress(PruningError):
        score_weights(model, few_digits, criterion, seed=3, **options)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.random.get_state()[1].tolist() == generators[1]
    assert random.getstate() == generators[2]


@pytest.mark.parametrize(
    ("criterion", "options", "message"),
    [
        ("grasp", {"variant": "signed"}, "rounding noise.*bn_mode=running"),
        ("grasp", {"variant": "signed", "reduction": "sum", "bn_mode": "batch"}, "summed or averaged"),
        ("grasp", {"variant": "signed", "reduction": "mean"}, "summed or averaged"),
        ("synflow", {"bn_mode": "batch"}, "no option 'bn_mode'"),
        ("hrank", {"tolerance": 0}, "tolerance=0"),
        ("hrank", {"site": "input"}, "site='input'"),
        ("kl", {"samples": 1}, "samples=1"),
        ("pls", {"components": 0}, "components=0"),
        ("grasp", {"temperatur": 1}, "Did you mean 'temperature'"),
        ("grasp", {"temperature": 0}, "temperature=0"),
        ("snip", {"reduction": "max"}, "reduction"),
        ("snip", {"samples_per_class": 0}, "samples_per_class"),
        ("random", {"x": 1}, "takes no options"),
        ("grap", {}, "Did you mean 'grasp'"),
    ],
)
def test_wrong_options_say_what_is_right(
    few_digits: ImageData, criterion: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(RobustPruneError, match=message):
        score_blocks(network_for(few_digits), few_digits, criterion, **options)


def test_signed_variant_where_it_means_something(few_digits: ImageData) -> None:
    scores = score_blocks(network_for(few_digits), few_digits, "grasp", variant="signed", bn_mode="running")
    assert len(set(scores.values())) == len(scores)


def test_scores_that_leave_the_finite_numbers(few_digits: ImageData) -> None:
    model = network_for(few_digits)
    with torch.no_grad():
        model.layer2[0].conv1.weight.fill_(float("nan"))
    with pytest.raises(PruningError, match="nan"):
        score_blocks(model, few_digits, "snip")


def test_every_batch_has_every_class_also_where_the_set_is_ordered() -> None:
    labels = torch.arange(40).repeat_interleave(7)
    part = InMemorySplit(torch.zeros(280, 1, 8, 8, dtype=torch.uint8), labels)
    data = ImageData("ordered", tuple(map(str, range(40))), (0.5,), (0.5,), False, train=part)
    batches = as_batches(data, stratified_per_class(data.require("train").labels, 6, seed=1), 128, nn.Linear(1, 1))
    assert [len(found) for _, found in batches] == [120, 120]
    for _, found in batches:
        assert torch.bincount(found, minlength=40).tolist() == [3] * 40


@pytest.mark.parametrize("name", CRITERIA.names())
@pytest.mark.parametrize("argument", ["reduction", ""])
def test_a_name_takes_no_argument(name: str, argument: str) -> None:
    with pytest.raises(PruningError, match=rf"takes no argument after a colon.*{name}:key=value"):
        make_criterion(f"{name}:{argument}")


@pytest.mark.parametrize("name", CRITERIA.names())
def test_all_options_can_be_written_behind_a_name(name: str) -> None:
    options = {key: value for key, value in CRITERIA.builtin[name].options.items() if value is not None}
    assert make_criterion(with_options(name, options)) == make_criterion(name, **options)
    with pytest.raises(PruningError, match="no option 'redction'"):
        make_criterion(f"{name}:redction=mean")
