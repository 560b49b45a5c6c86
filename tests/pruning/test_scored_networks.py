"""Every criterion on networks unlike ResNets, against plain networks that compute the same."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scored_networks import COMPUTED, FORMS, WIDTH, Block, OddNetwork, changed, odd_network
from torch import Tensor, nn
from torch.nn.utils import parametrize

from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning
from robustprune.pruning import CRITERIA, find_blocks, make_criterion, score_blocks, score_filters, score_weights

BY_WEIGHTS = ("snip", "grasp", "synflow", "l1")
IN_FORWARD = {"in forward", "standardized"}  # which are scored by their parameters
EVERY = sorted(set(CRITERIA.names()) - {"sr"})  # which is for trained networks


def weight_in_use(layer: nn.Module) -> Tensor:
    """The weight by definition, or by torch's own way of making it a plain one."""
    if parametrize.is_parametrized(layer):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        return layer.weight
    if type(layer).__name__ == "OnAccess":
        return layer.raw.tanh()
    if hasattr(layer, "weight_mask"):
        return layer.weight_orig * layer.weight_mask
    if hasattr(layer, "weight_g"):
        return layer.weight_v * layer.weight_g / layer.weight_v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    if hasattr(layer, "weight_u"):
        return layer.weight_orig / (layer.weight_u @ layer.weight_orig.flatten(1) @ layer.weight_v)
    return layer.weight


def baked(form: str, network: OddNetwork, data: ImageData) -> OddNetwork:
    """The same network with plain convolutions that have the weights in use."""
    plain, taken_apart = odd_network(data), FORMS[form](data).eval()
    with torch.no_grad():
        for name, module in plain.named_modules():
            other = taken_apart.get_submodule(name)
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.copy_(weight_in_use(other))
                if module.bias is not None:
                    module.bias.copy_(other.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.load_state_dict(other.state_dict())
    images = data.require("train").images[:5] / 255
    with torch.no_grad():
        expected = network.eval()(images.to(network.head.weight))
        torch.testing.assert_close(plain.eval().to(expected)(images.to(expected)), expected)
    return plain


def block_scores(network: OddNetwork, data: ImageData, criterion: str) -> dict[str, float]:
    """Scores of the blocks, which those of the plain network are by name."""
    return make_criterion(criterion).score(network, find_blocks(odd_network(data)), data, 0)


class InObject(OddNetwork):
    """One whose logits are among other outputs."""

    def forward(self, images: Tensor) -> Any:
        return {"features": images * 2, "logits": (super().forward(images), None)}


@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
@pytest.mark.parametrize("criterion", EVERY)
def test_networks_with_further_outputs_are_scored_by_their_logits(few_digits: ImageData, criterion: str) -> None:
    plain, network = odd_network(few_digits), InObject(few_digits, Block)
    network.load_state_dict(plain.state_dict())
    assert score_blocks(network, few_digits, criterion) == score_blocks(plain, few_digits, criterion)


@pytest.mark.quick_cases(9)
@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
@pytest.mark.parametrize("criterion", BY_WEIGHTS)
@pytest.mark.parametrize("form", sorted(COMPUTED.keys() - IN_FORWARD))
def test_computed_weights_are_scored_as_the_plain_ones_they_are(
    few_digits: ImageData, form: str, criterion: str
) -> None:
    network = FORMS[form](few_digits)
    plain = baked(form, network, few_digits)
    blocks = block_scores(network, few_digits, criterion)
    assert blocks == pytest.approx(block_scores(plain, few_digits, criterion), rel=1e-4)
    assert all(blocks.values())
    layers = ["blocks.0.branch.0", "blocks.2.branch.3"]
    found, expected = (score_filters(each, layers, few_digits, criterion) for each in (network, plain))
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-3, atol=1e-8)
    weights, expected = (score_weights(each, few_digits, criterion) for each in (network, plain))
    assert set(weights) == set(expected)
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-8, check_dtype=False)
    assert all(weights[f"{layer}.weight"].any() for layer in layers)


@pytest.mark.parametrize("form", sorted(COMPUTED))
def test_scoring_leaves_computed_weights_alone(few_digits: ImageData, form: str) -> None:
    network = FORMS[form](few_digits).train()
    before = copy.deepcopy(network.state_dict())
    types, forwards = ([(type(m), "forward" in vars(m)) for m in network.modules()] for _ in range(2))
    block_scores(network, few_digits, "snip")
    score_weights(network, few_digits, "synflow")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [(type(m), "forward" in vars(m)) for m in network.modules()] == types == forwards


@pytest.mark.quick_cases(4)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("criterion", BY_WEIGHTS)
@pytest.mark.parametrize("form", ["checkpoints", "other checkpoints", "checkpoints in parts"])
def test_checkpoints_change_no_score(few_digits: ImageData, form: str, criterion: str) -> None:
    network, plain = FORMS[form](few_digits), odd_network(few_digits)
    plain.load_state_dict(network.state_dict())
    assert score_blocks(network, few_digits, criterion) == score_blocks(plain, few_digits, criterion)
    if criterion in ("snip", "grasp"):
        options = {"scoring_images": "adversarial", "bn_mode": "running"}
        attacked = [score_blocks(each, few_digits, criterion, **options) for each in (network, plain)]
        assert attacked[0] == attacked[1]


def channels_of(network: OddNetwork, data: ImageData) -> dict[str, Tensor]:
    """What blocks return, (N, C, positions), from where the network is known to keep its channels."""
    caught: dict[str, Tensor] = {}
    features = network.stem(data.require("train").images / 255).relu()
    features = features.movedim(1, -1) if network.channels_last else features
    for place, block in enumerate(network.blocks):
        features = block(features)
        caught[f"blocks.{place}"] = (features.movedim(-1, 1) if network.channels_last else features).flatten(2)
    return caught


@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("form", [form for form in FORMS if form not in COMPUTED])
def test_channels_are_found_where_images_are_as_wide(few_digits: ImageData, form: str) -> None:
    network = FORMS[form](few_digits).eval()
    with torch.no_grad():
        features = channels_of(network, few_digits)
    assert all(value.shape[1:] == (WIDTH, WIDTH**2) for value in features.values())
    found = score_filters_of_blocks(network, few_digits)
    for name, value in features.items():
        torch.testing.assert_close(found[name], value.abs().mean(dim=(0, 2)).double(), rtol=1e-4, atol=1e-9)
    if not network.channels_last:
        assert score_blocks(network, few_digits, "hrank")


def score_filters_of_blocks(network: OddNetwork, data: ImageData) -> dict[str, Tensor]:
    """The importance of each channel of each block, before it is averaged."""
    criterion = CRITERIA.get("expected_abs")(samples=10_000)
    seen: dict[str, Tensor] = {}
    keep = criterion.importance

    class Seeing(type(criterion)):  # type: ignore[misc]
        def importance(self, measures: dict[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
            seen.update(keep(measures, labels))
            return seen

    Seeing(samples=10_000).score(network, [b for b in find_blocks(network) if b.residue], data, 0)
    return seen


REFUSED = {
    ("synflow", "permuting"): "normalizes by the signal itself",
    ("synflow", "post-normalized"): "normalizes by the signal itself",
    ("hrank", "post-normalized"): "tokens or channels-last features",
    ("kl", "closed"): "the scores are rounding noise",
    ("cka", "closed"): "the scores are rounding noise",
}


@pytest.mark.quick_cases(30)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("criterion", EVERY)
@pytest.mark.parametrize("form", sorted(FORMS))
def test_every_criterion_scores_or_says_why_not(few_digits: ImageData, form: str, criterion: str) -> None:
    network = FORMS[form](few_digits)
    if (criterion, form) in REFUSED:
        with pytest.raises(PruningError, match=REFUSED[criterion, form]):
            score_blocks(network, few_digits, criterion)
        return
    if form in COMPUTED:
        scores = block_scores(network, few_digits, criterion)
        assert len(set(scores.values())) == 3 or criterion == "consensus"  # sums of ranks can be equal
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", PruningWarning)
        scores = score_blocks(network, few_digits, criterion)
    assert len(scores) == 3
    if len(set(scores.values())) == 1:
        assert any("it cannot tell them apart" in str(each.message) for each in said)


class Detaching(Block):
    def forward(self, features: Tensor) -> Tensor:
        return (features + self.branch(features).detach()).relu()


class WithoutGradients(Block):
    @torch.no_grad()
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features)


class Overwriting(Block):
    """In place, on what the graph needs."""

    def forward(self, features: Tensor) -> Tensor:
        inner = self.branch[2](self.branch[1](self.branch[0](features)))
        found = self.branch[3](inner)
        inner.zero_()
        return (features + found).relu()


@pytest.mark.parametrize("criterion", ["snip", "grasp", "synflow"])
@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Detaching, r"no gradient reaches block blocks\.0"),
        (WithoutGradients, r"no gradient reaches block blocks\.0|the forward pass detaches"),
        (Overwriting, "cannot score this OddNetwork, which raised RuntimeError: .*modified by an inplace operation"),
    ],
)
def test_gradients_that_do_not_arrive(
    few_digits: ImageData, criterion: str, block: Callable[[], nn.Module], message: str
) -> None:
    network = odd_network(few_digits, block)
    with pytest.raises(PruningError, match=message):
        score_blocks(network, few_digits, criterion)
    with contextlib.suppress(PruningError):
        score_weights(network, few_digits, criterion)
    assert len(score_blocks(network, few_digits, "l1")) == 3


@pytest.mark.quick_cases(7)
@pytest.mark.parametrize("criterion", EVERY)
@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_the_callers_modes_do_not_matter(few_digits: ImageData, criterion: str, around: Callable[[], object]) -> None:
    network = odd_network(few_digits)
    expected = score_blocks(network, few_digits, criterion)
    with around():
        assert score_blocks(network, few_digits, criterion) == expected


@pytest.mark.parametrize("criterion", EVERY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_scored_in_single(few_digits: ImageData, criterion: str, dtype: torch.dtype) -> None:
    network = odd_network(few_digits).to(dtype)
    network.register_buffer("count", torch.tensor([3]))
    assert score_blocks(network, few_digits, criterion) == score_blocks(
        copy.deepcopy(network).float(), few_digits, criterion
    )


@pytest.mark.parametrize("criterion", BY_WEIGHTS)
def test_double_precision_agrees_with_single(few_digits: ImageData, criterion: str) -> None:
    network = odd_network(few_digits)
    single = score_blocks(network, few_digits, criterion)
    assert single == pytest.approx(dict(score_blocks(network.double(), few_digits, criterion)), rel=1e-3)


@pytest.mark.parametrize("criterion", EVERY)
def test_memory_format_does_not_matter(few_digits: ImageData, criterion: str) -> None:
    network = odd_network(few_digits)
    found = [
        score_blocks(network.to(memory_format=layout), few_digits, criterion)
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    assert found[1] == found[0]


def test_filters_of_transposed_convolutions(few_digits: ImageData) -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ConvTranspose2d(WIDTH, 6, 3, padding=1, groups=2, bias=False)
            self.outer = nn.Conv2d(6, WIDTH, 3, padding=1)

        def forward(self, features: Tensor) -> Tensor:
            return features + self.outer(self.inner(features).relu())

    network = odd_network(few_digits, Transposed)
    layer = "blocks.1.inner"
    weight = network.get_parameter(f"{layer}.weight").detach()  # (8, 3, 3, 3): inputs 0 to 3 write filters 0 to 2
    expected = torch.stack([weight[4 * group : 4 * group + 4, j].abs().mean() for group in (0, 1) for j in range(3)])
    found = score_filters(network, [layer], few_digits, "l1")[layer]
    torch.testing.assert_close(found, expected.double())
    for criterion in ("snip", "grasp", "random", "expected_abs"):
        assert score_filters(network, [layer], few_digits, criterion)[layer].shape == (6,)


def test_tied_weights_count_once_in_the_gradient(few_digits: ImageData) -> None:
    network = FORMS["tied"](few_digits).double()
    weight = network.blocks[0].branch[0].weight
    scores = score_weights(network, few_digits, "snip", samples_per_class=10_000, bn_mode="running")
    images, labels = few_digits.require("train").images.double() / 255, few_digits.require("train").labels
    nn.functional.cross_entropy(network.eval()(images), labels).backward()
    for place in range(3):
        torch.testing.assert_close(
            scores[f"blocks.{place}.branch.0.weight"], (weight * weight.grad).abs().detach(), rtol=1e-7, atol=1e-12
        )


def test_a_branch_of_two_blocks_is_scored_in_both(few_digits: ImageData) -> None:
    for criterion in BY_WEIGHTS:
        scores = score_blocks(FORMS["shared"](few_digits), few_digits, criterion)
        assert scores["blocks.1"] == scores["blocks.2"] != 0


def test_weights_made_in_the_forward_pass_are_scored_by_their_parameters(few_digits: ImageData) -> None:
    class Dynamic(nn.Conv2d):
        def forward(self, features: Tensor) -> Tensor:
            return self._conv_forward(features, self.weight * features.mean(), self.bias)

    def change(layer: nn.Conv2d) -> nn.Module:
        layer.__class__ = Dynamic
        return layer

    network = odd_network(few_digits, changed(change))
    split = few_digits.require("train")
    options = {"samples_per_class": 10_000, "bn_mode": "running", "batch_size": 1000}
    scores = score_weights(network, few_digits, "snip", **options)
    nn.functional.cross_entropy(network.eval()(split.images / 255), split.labels).backward()
    for name in ("blocks.1.branch.0.weight", "blocks.2.branch.3.weight"):
        weight = network.get_parameter(name)
        torch.testing.assert_close(scores[name], (weight * weight.grad).abs().detach(), rtol=1e-3, atol=1e-8)


@pytest.mark.quick_cases(3)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
@pytest.mark.parametrize("criterion", EVERY)
def test_compiled_and_scripted_parts_change_no_score(few_digits: ImageData, criterion: str) -> None:
    network = odd_network(few_digits)
    expected = score_blocks(network, few_digits, criterion)
    compiled = score_blocks(torch.compile(network, backend="eager"), few_digits, criterion)
    assert {name.removeprefix("_orig_mod."): score for name, score in compiled.items()} == expected
    scripted, other = odd_network(few_digits), odd_network(few_digits)
    scripted.stem = nn.Sequential(scripted.stem, torch.jit.script(nn.BatchNorm2d(WIDTH)))
    other.stem = nn.Sequential(other.stem, nn.BatchNorm2d(WIDTH))
    assert block_scores(scripted, few_digits, criterion) == pytest.approx(
        block_scores(other, few_digits, criterion), rel=1e-4
    )


def test_weights_that_are_no_numbers_with_a_gradient(few_digits: ImageData) -> None:
    class Quantized(nn.Conv2d):
        def __init__(self, *args: int, **options: object) -> None:
            super().__init__(*args, **options)
            raw = (self._parameters.pop("weight").detach() * 100).round().to(torch.int8)
            self.register_buffer("weight", raw)
            self.register_parameter("zero", nn.Parameter(torch.tensor(3), requires_grad=False))

        def forward(self, features: Tensor) -> Tensor:
            return self._conv_forward(features, self.weight.float() / 100, self.bias)

    network = odd_network(few_digits)
    network.blocks[1].branch[0] = Quantized(WIDTH, WIDTH, 3, padding=1)
    for criterion in ("snip", "l1"):
        with pytest.raises(PruningError, match=r"blocks\.1\.branch\.0 is of type int8"):
            make_criterion(criterion).weight_scores(network, few_digits, 0)


class Attention(nn.Module):
    """Attention over pixels; torch fuses it unless its weights are asked for."""

    def __init__(self, asks: bool) -> None:
        super().__init__()
        self.asks = asks
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, maps: Tensor) -> Tensor:
        tokens = maps.flatten(2).mT
        return maps + self.attention(tokens, tokens, tokens, need_weights=self.asks)[0].mT.reshape(maps.shape)


def test_fused_attention_has_second_derivatives(digits: ImageData) -> None:
    fused, plain = (odd_network(digits, lambda asks=asks: Attention(asks)) for asks in (False, True))
    plain.load_state_dict(fused.state_dict())
    found, expected = (score_blocks(network, digits, "grasp", samples_per_class=2) for network in (fused, plain))
    assert found == pytest.approx(expected, rel=1e-3)
    assert len(set(found.values())) > 1
