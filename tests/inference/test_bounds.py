"""Values of networks lie within their intervals, and what can overflow is said to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustprune.inference import bounds


def interval_of(maps: torch.Tensor) -> bounds.Interval:
    by_channel = maps.double().transpose(0, 1).flatten(1)
    return by_channel.amin(dim=1).clamp(max=0), by_channel.amax(dim=1).clamp(min=0)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_the_interval_of_a_convolution_is_reached_by_its_worst_input(groups, bias):
    layer = nn.Conv2d(4, 6, 3, groups=groups, bias=bias)
    read = -torch.rand(4).double(), torch.rand(4).double()
    lower, upper = bounds.of_convolution(layer, read)
    for output in range(6):
        weights = layer.weight.detach()[output]
        inputs = slice(output // 3 * 2, output // 3 * 2 + 2) if groups == 2 else slice(0, 4)
        for found, (positive, negative) in ((upper, read[::-1]), (lower, read)):
            shape = (len(weights), 1, 1)
            chosen = torch.where(weights > 0, positive[inputs].reshape(shape), negative[inputs].reshape(shape))
            image = torch.zeros(4, 3, 3).double()
            image[inputs] = chosen
            value = nn.functional.conv2d(image[None], layer.weight.double(), groups=groups)[0, output, 0, 0]
            if bias:  # of which what makes the interval smaller is left out, as it may come last
                shift = layer.bias.double()[output]
                value = value + (shift.clamp(min=0) if found is upper else shift.clamp(max=0))
            torch.testing.assert_close(found[output], value)


def test_sums_and_relus():
    first, second = interval_of(torch.randn(3, 2, 4, 4)), interval_of(torch.randn(3, 2, 4, 4))
    lower, upper = bounds.of_relu(bounds.of_sum(first, second))
    assert torch.equal(lower, torch.zeros(2).double())
    assert torch.equal(upper, first[1] + second[1])


def test_inputs_are_small_numbers():
    assert bounds.is_input(torch.tensor([-1e4, 1e4]))
    assert bounds.is_input(torch.zeros(0, 1, 4, 4))
    for value in (1.1e4, -1.1e4, torch.inf, torch.nan):
        assert not bounds.is_input(torch.tensor([0, value, 1]))


@pytest.mark.parametrize("scale", [1e20, torch.inf, torch.nan])
def test_what_may_overflow_is_not_safe(scale):
    layer = nn.Conv2d(2, 2, 1)
    interval = bounds.of_convolution(layer, bounds.of_input())
    assert bounds.is_safe(interval)
    layer.weight.data[:, 1] = scale
    interval = bounds.of_convolution(layer, interval)
    assert bounds.is_safe(interval) == (scale == 1e20)
    assert not bounds.is_safe(bounds.of_convolution(layer, interval))
