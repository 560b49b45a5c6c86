"""What is computed around a patch is what the whole network computes; the network itself is the oracle."""

from __future__ import annotations

import pytest
import torch
from support import Shape
from torch import nn

from robustprune.inference import Windowed, freeze, run_model
from robustprune.models import build_model

N, SIZE = 5, 16


class Branches(nn.Module):
    """Kernels of several sizes, groups, a branch without convolutions, in-place layers, and sums both ways."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.full((channels, 1, 1), 0.3))
        self.wide = nn.Conv2d(channels, 8, 5, padding=2)
        self.narrow = nn.Conv2d(channels, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding="same", groups=4, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.smooth = nn.SiLU(inplace=True)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.last = nn.Linear(16, 4)

    def forward(self, images):
        images = images - self.shift
        narrow = self.narrow(images)
        maps = self.act(self.norm(self.wide(images)) + narrow)
        maps = maps + self.smooth(self.grouped(maps))
        return self.last(torch.cat([self.down(maps).mean(dim=(2, 3)), narrow.amax(dim=(2, 3))], dim=1))


def resnet(channels: int) -> nn.Module:
    return freeze(build_model("resnet20", Shape(channels, (SIZE, SIZE), 4)))


def branches(channels: int) -> nn.Module:
    network = Branches(channels)
    nn.init.normal_(network.norm.running_mean)
    return network.eval()


@pytest.fixture(params=[1, 3])
def images(request: pytest.FixtureRequest) -> torch.Tensor:
    return torch.rand(N, request.param, SIZE, SIZE)


@pytest.mark.parametrize("build", [resnet, branches])
@pytest.mark.parametrize("top", [0, 6, SIZE - 3])
@pytest.mark.parametrize("left", [0, 7, SIZE - 2])
def test_logits_are_those_of_the_whole_network(build, images, top, left):
    network = build(images.shape[1])
    windowed = Windowed(network)
    windowed.make_room(N + 2)
    slots = torch.tensor([6, 0, 3, 1, 2])
    windowed.see(torch.rand_like(images), slots)
    windowed.see(images, slots)
    patch = (slice(top, top + 3), slice(left, left + 2))
    some = torch.tensor([4, 1, 2])
    changed = images[some]
    changed[:, :, patch[0], patch[1]] = torch.rand(3, images.shape[1], 3, 2)
    given = changed.clone()
    with torch.no_grad():
        expected, before = run_model(network, changed), run_model(network, images[some])
    found = windowed.look(given, slots[some], patch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, before, rtol=1e-4, atol=1e-4)
    assert torch.equal(given, changed)
    # What was kept is still that of the images.
    torch.testing.assert_close(windowed.look(images[some], slots[some], patch), before, rtol=1e-5, atol=1e-5)


def test_share_of_a_patch_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 5, padding=2), nn.Flatten())
    network = nn.Sequential(network, nn.Linear(2 * SIZE**2, 3)).eval()
    # A patch of 2 becomes 4, then 8 pixels wide.
    assert Windowed(network).share(2, SIZE, SIZE) == pytest.approx((4 * 4 + 8 * 8) / (2 * SIZE**2))
    assert Windowed(network).share(SIZE, SIZE, SIZE) == 1


@pytest.mark.parametrize(
    "first",
    [
        nn.Conv2d(1, 2, 3, padding=1, stride=2),
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 2, 3, padding=2, dilation=2),
        nn.Conv2d(1, 2, 3),
        nn.Conv2d(1, 2, 2, padding="same"),
        nn.Softmax2d(),
    ],
    ids=["stride", "border", "dilation", "no padding", "even", "another layer"],
)
def test_other_layers_are_left_as_they_are(first):
    with pytest.raises(ValueError, match="no layer sees only what is near"):
        Windowed(nn.Sequential(first, nn.Flatten(), nn.Linear(2, 3)).eval())


def test_a_layer_that_somebody_listens_to_is_not_taken_apart():
    layer = nn.Conv2d(1, 2, 3, padding=1)
    layer.register_forward_hook(lambda _module, _inputs, output: output + 1)
    with pytest.raises(ValueError, match="hooks listen"):
        Windowed(nn.Sequential(layer, nn.Flatten(), nn.Linear(2 * SIZE**2, 3)).eval())
