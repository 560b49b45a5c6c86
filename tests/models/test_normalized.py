"""A network that normalizes before the one in hand."""

import pytest
import torch
from torch import nn

import robustprune as rp


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()


@pytest.mark.parametrize(("mean", "std"), [((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), (0.5, 0.25), ([0.5], torch.tensor(0.5))])
def test_it_normalizes_by_channel(mean, std):
    inner, images = network(), torch.rand(2, 3, 8, 8)
    expected = torch.stack(
        [
            (images[:, each] - torch.as_tensor(mean).expand(3)[each]) / torch.as_tensor(std).expand(3)[each]
            for each in range(3)
        ],
        dim=1,
    )
    assert torch.allclose(rp.normalized(inner, mean, std)(images), inner(expected), atol=1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_it_is_of_the_networks_type_and_mode(kind):
    inner = network().to(kind)
    before = {name: value.clone() for name, value in inner.state_dict().items()}
    outer = rp.normalized(inner, 0.5, 0.5)
    assert outer(torch.rand(2, 3, 8, 8, dtype=kind)).dtype == kind
    assert not any(module.training for module in outer.modules())
    assert all(torch.equal(value, before[name]) for name, value in inner.state_dict().items())
    assert rp.normalized(inner.train(), 0.5, 0.5).training


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((0.5, 0.5), (0.5,), "2 means and 1 deviations"),
        (0.5, 0.0, "above 0"),
        (float("nan"), 0.5, "finite"),
        ((124, 116, 104), (58, 57, 57), "divide those of 0 to 255"),
        ("a", 0.5, "are not numbers"),
    ],
)
def test_constants_that_are_none_are_refused(mean, std, says):
    with pytest.raises(rp.ModelError, match=says):
        rp.normalized(network(), mean, std)


def test_only_a_network_is_wrapped():
    with pytest.raises(rp.ModelError, match=r"nn\.Module, got function"):
        rp.normalized(lambda images: images, 0.5, 0.5)
