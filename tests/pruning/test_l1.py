"""L1 against numpy, and its warning."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from robustprune.data import ImageData
from robustprune.errors import PruningWarning
from robustprune.models import build_model
from robustprune.pruning import find_blocks, score_blocks, score_filters, score_weights
from robustprune.runtime.launch import once_each


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.filterwarnings("ignore::robustprune.errors.PruningWarning")
def test_mean_over_filters_then_over_convolutions(few_digits: ImageData, seed: int, reduction: str) -> None:
    model = build_model("resnet20", few_digits, seed=seed, width=4)
    scores = score_blocks(model, few_digits, "l1", reduction=reduction)
    for block in find_blocks(model):
        if block.residue is None:
            continue
        convolutions = []
        for name in ("conv1", "conv2"):
            weight = model.get_parameter(f"{block.name}.{name}.weight").detach().numpy().astype(np.float64)
            filters = [getattr(np.abs(each), reduction)() for each in weight]
            found = score_filters(model, [f"{block.name}.{name}"], few_digits, "l1", reduction=reduction)
            np.testing.assert_allclose(found[f"{block.name}.{name}"].numpy(), filters)
            convolutions.append(np.mean(filters))
        assert scores[block.name] == pytest.approx(np.mean(convolutions))


def test_weights_are_worth_their_magnitude(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    scores = score_weights(model, few_digits, "l1")
    assert len(scores) == 1 + 18 + 2 + 1  # stem, blocks, projections, classifier
    assert all(torch.equal(value, model.get_parameter(name).abs()) for name, value in scores.items())


@pytest.mark.parametrize(("reduction", "order"), [("mean", "3, 2, 1"), ("sum", "1, 2, 3")])
def test_a_ranking_by_stage_is_called_one(few_digits: ImageData, reduction: str, order: str) -> None:
    with pytest.warns(PruningWarning, match=f"in the order {order}, so stage {order[0]} is always"):
        score_blocks(build_model("resnet20", few_digits), few_digits, "l1", reduction=reduction)


def test_no_warning_where_stages_mix(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    with torch.no_grad():
        model.layer3[2].conv1.weight.mul_(100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_blocks(model, few_digits, "l1")


def test_blocks_that_cannot_be_told_apart_are_said_to_be(few_digits: ImageData) -> None:
    model = build_model("resnet20", few_digits, width=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    with pytest.warns(PruningWarning, match="all 7 blocks 0.5; it cannot tell them apart"):
        score_blocks(model, few_digits, "l1")


def test_the_command_line_shows_a_warning_as_a_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    show = once_each(said.append)
    for _ in range(2):
        show(PruningWarning("look out"), PruningWarning, "file.py", 3)
    assert said == ["Warning: look out"]
    show(UserWarning("other"), UserWarning, "file.py", 3)
    assert "file.py:3: UserWarning: other" in capsys.readouterr().err
