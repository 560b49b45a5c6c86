"""Global masks of single weights against sorting by hand, and SynFlow's rounds against what its paper proves."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError, PruningWarning
from robustprune.models import build_model
from robustprune.pruning import CRITERIA, Block, Criterion, apply_masks, check_masks, count_kept, find_masks
from robustprune.pruning.blocks import weight_layers
from robustprune.pruning.masks import keep_highest
from robustprune.pruning.scoring import score_weights


@given(
    values=st.lists(st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0, 1e300]), min_size=1, max_size=6), min_size=1),
    share=st.floats(0, 1),
)
def test_the_highest_stay_and_of_equal_ones_the_earlier(values: list[list[float]], share: float) -> None:
    scores = {f"layer{place}": torch.tensor(row, dtype=torch.float64) for place, row in enumerate(values)}
    flat = [score for row in values for score in row]
    kept = max(1, round(share * len(flat)))
    masks = keep_highest(scores, kept)
    # Python's sort is stable, also in reverse.
    best = sorted(range(len(flat)), key=lambda place: flat[place], reverse=True)[:kept]
    assert torch.cat(list(masks.values())).nonzero().flatten().tolist() == sorted(best)
    assert [mask.shape for mask in masks.values()] == [score.shape for score in scores.values()]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_magnitude_is_ranked_over_all_weight_layers_together(few_digits: ImageData, sparsity: float) -> None:
    model = build_model("resnet20", few_digits, width=4)
    state = copy.deepcopy(model.state_dict())
    masks = find_masks(model, few_digits, "magnitude", sparsity=sparsity)
    # 19 convolutions, 2 shortcuts and the last layer; no bias, no normalization.
    assert len(masks) == 22
    assert (next(iter(masks)), next(reversed(masks))) == ("conv1.weight", "fc.weight")
    assert all(state[name].ndim > 1 for name in masks)
    flat = np.concatenate([state[name].abs().numpy().ravel() for name in masks])
    kept = round((1 - sparsity) * len(flat))
    threshold = np.sort(flat)[-kept]
    assert count_kept(masks) == kept
    np.testing.assert_array_equal(np.concatenate([mask.numpy().ravel() for mask in masks.values()]), flat >= threshold)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("criterion", ["snip", "grasp", "synflow", "random"])
def test_one_round_keeps_what_scores_highest(few_digits: ImageData, criterion: str) -> None:
    model = build_model("resnet20", few_digits, width=4)
    masks = find_masks(model, few_digits, criterion, sparsity=0.6, seed=3)
    scores = score_weights(model, few_digits, criterion, seed=3)
    kept = torch.cat([scores[name][mask] for name, mask in masks.items()])
    gone = torch.cat([scores[name][~mask] for name, mask in masks.items()])
    assert float(kept.min()) >= float(gone.max())
    assert len(kept) == round(0.4 * (len(kept) + len(gone)))


class Spy(Criterion):
    """Random scores; writes down how many weights each network it scores has left."""

    left: ClassVar[list[int]] = []

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        raise NotImplementedError

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> dict[str, Tensor]:
        weights = dict(weight_layers(model))
        self.left.append(sum(int(weight.count_nonzero()) for weight in weights.values()))
        # Highest where a weight is gone already: it must not come back.
        return {name: torch.where(weight == 0, 9.0, torch.rand(weight.shape)) for name, weight in weights.items()}


@pytest.fixture
def spy() -> Iterator[list[int]]:
    CRITERIA.register("spy")(Spy)
    Spy.left.clear()
    yield Spy.left
    CRITERIA._registered.pop("spy")


@pytest.mark.filterwarnings("ignore:.*layer collapse.*:robustprune.errors.PruningWarning")
def test_density_falls_exponentially_and_the_masked_network_is_scored(few_digits: ImageData, spy: list[int]) -> None:
    model = build_model("resnet20", few_digits, width=4)
    total = sum(weight.numel() for weight in dict(weight_layers(model)).values())
    masks = find_masks(model, few_digits, "spy", sparsity=0.9, rounds=4)
    assert spy == [round(total * 0.1 ** (done / 4)) for done in range(4)]
    assert count_kept(masks) == round(0.1 * total)
    # Masking on from there counts what is gone already, and stays within it.
    spy.clear()
    apply_masks(model, masks)
    again = find_masks(model, few_digits, "spy", sparsity=0.99, rounds=2, masks=masks)
    assert spy == [round(0.1 * total), round(math.sqrt(0.1 * 0.01) * total)]
    assert count_kept(again) == round(0.01 * total)
    assert not any(bool((again[name] & ~mask).any()) for name, mask in masks.items())
    with pytest.raises(PruningError, match="at least one has to go"):
        find_masks(model, few_digits, "spy", sparsity=0.8, masks=masks)


WIDTHS = ((1, 4), (4, 64), (64, 64), (64, 8))


def chain(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, filters in WIDTHS:
        layers += [nn.Conv2d(inputs, filters, 3, padding=1, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10, bias=False))


def collapsed(masks: dict[str, Tensor]) -> list[str]:
    return [name for name, mask in masks.items() if not mask.any()]


@pytest.mark.quick_cases(2)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kept", [10, 40, 400])
def test_synflow_in_a_hundred_rounds_leaves_a_path_where_one_round_leaves_none(
    few_digits: ImageData, seed: int, kept: int
) -> None:
    """Maximal critical compression (Tanaka et al. 2020, theorem 3), and the conservation behind it (theorem 1)."""
    model = chain(seed)
    sparsity = 1 - kept / sum(weight.numel() for weight in dict(weight_layers(model)).values())
    with pytest.warns(PruningWarning, match="layer collapse"):
        at_once = find_masks(model, few_digits, "synflow", sparsity=sparsity)
    assert collapsed(at_once)
    masks = find_masks(model, few_digits, "synflow", sparsity=sparsity, rounds=100)
    assert count_kept(masks) == kept
    assert collapsed(masks) == []
    apply_masks(model, masks)
    sums = [float(value.sum()) for value in score_weights(model, few_digits, "synflow").values()]
    assert sums[0] > 0
    assert sums == pytest.approx([sums[0]] * 5, rel=1e-9)


@pytest.mark.parametrize("criterion", ["magnitude", "snip", "grasp"])
def test_other_criteria_collapse_a_layer_by_name(few_digits: ImageData, criterion: str) -> None:
    with pytest.warns(PruningWarning, match=r"leaves no weight in .*4.* \(layer collapse\)"):
        masks = find_masks(chain(0), few_digits, criterion, sparsity=0.9995)
    assert "4.weight" in collapsed(masks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 0.0}, "sparsity 0.0 is no share"),
        ({"sparsity": 1.0}, "sparsity 1.0 is no share"),
        ({"sparsity": math.nan}, "sparsity nan is no share"),
        ({"sparsity": 1 - 1e-9}, "leaves 0 of"),
        ({"sparsity": 1e-9}, "at least one has to go"),
        ({"sparsity": 0.5, "rounds": 0}, "in 0 rounds"),
        ({"sparsity": 0.5, "reduction": "max"}, "reduction"),
    ],
)
def test_what_cannot_be(few_digits: ImageData, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        find_masks(chain(0), few_digits, "snip", **options)


class Tied(nn.Module):
    """Two layers of the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.second(self.first(images.flatten(1)).relu()).relu())  # type: ignore[no-any-return]


def test_shared_weights_are_masked_once(few_digits: ImageData) -> None:
    masks = find_masks(Tied(), few_digits, "snip", sparsity=0.5)
    assert list(masks) == ["first.weight", "last.weight"]
    assert count_kept(masks) == (64 * 64 + 64 * 10) // 2


def test_computed_weights_are_refused(few_digits: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)))
    with pytest.raises(PruningError, match=r"1\.weight is computed from other parameters"):
        find_masks(model, few_digits, "magnitude", sparsity=0.5)
    with pytest.raises(PruningError, match="it has no such weights"):
        find_masks(nn.Sequential(nn.Flatten()), few_digits, "magnitude", sparsity=0.5)


def test_masks_that_do_not_fit(few_digits: ImageData) -> None:
    model = chain(0)
    masks = find_masks(model, few_digits, "magnitude", sparsity=0.5)
    with pytest.raises(PruningError, match=r"\d+ weights of 0\.weight outside its mask are not zero"):
        check_masks(model, masks)
    apply_masks(model, masks)
    check_masks(model, masks)
    for change, message in {
        "missing": "not one for each convolution and linear weight: 10.weight",
        "float": r"of 10\.weight is no tensor of true and false",
        "shape": r"of 10\.weight is no tensor of true and false of shape \(10, 8\)",
    }.items():
        wrong: dict[str, Any] = dict(masks)
        last = wrong.pop("10.weight")
        if change != "missing":
            wrong["10.weight"] = last.float() if change == "float" else last.T
        with pytest.raises(PruningError, match=message):
            check_masks(model, wrong)
