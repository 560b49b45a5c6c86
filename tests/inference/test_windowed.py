"""What is computed around a patch is what the whole network computes; the network itself is the oracle."""

from __future__ import annotations

import pytest
import torch
from support import Shape
from torch import nn

from robustprune.inference import Windowed, freeze
from robustprune.models import build_model, run_model

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


class Shrinking(nn.Module):
    """Strides, dilation, oblong kernels and borders that make maps smaller and larger, and a shortcut of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, 8, 3, padding=3)
        self.valid = nn.Conv2d(8, 8, (1, 4))
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(8, 8, 1, stride=2)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.flat = nn.Conv2d(8, 8, (3, 2), stride=(2, 1), padding=1)
        self.last = nn.Linear(8, 4)

    def forward(self, images):
        maps = torch.relu(self.valid(torch.relu(self.wide(images))))
        maps = torch.relu(self.down(maps) + self.shortcut(maps))
        return self.last(self.flat(self.dilated(maps) + maps).mean(dim=(2, 3)))


def resnet(channels: int) -> nn.Module:
    return freeze(build_model("resnet20", Shape(channels, (SIZE, SIZE), 4)))


def branches(channels: int) -> nn.Module:
    network = Branches(channels)
    nn.init.normal_(network.norm.running_mean)
    return network.eval()


def shrinking(channels: int) -> nn.Module:
    return Shrinking(channels).eval()


@pytest.fixture(autouse=True)
def _copying_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have windows pay even in small networks, as far as they go."""
    monkeypatch.setattr("robustprune.inference.windowed.COPYING", 0)
    monkeypatch.setattr("robustprune.inference.windowed.SMALLNESS", 1)


@pytest.fixture(params=[1, 3])
def images(request: pytest.FixtureRequest) -> torch.Tensor:
    return torch.rand(N, request.param, SIZE, SIZE)


@pytest.mark.parametrize("build", [resnet, branches, shrinking])
@pytest.mark.parametrize("top", [0, 6, SIZE - 3])
@pytest.mark.parametrize("left", [0, 7, SIZE - 2])
def test_logits_are_those_of_the_whole_network(build, images, top, left):
    network = build(images.shape[1])
    windowed = Windowed(network, images[:1])
    windowed.make_room(N + 2)
    slots = torch.tensor([6, 0, 3, 1, 2])
    windowed.see(torch.rand_like(images), slots)
    windowed.see(images, slots)
    patch = (slice(top, top + 3), slice(left, left + 2))
    assert windowed.is_worth(patch)
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
    windowed.keep(slots[:0])
    torch.testing.assert_close(windowed.look(images[some], slots[some], patch), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [resnet, branches, shrinking])
def test_what_is_kept_of_looks_is_what_is_seen_in_the_end(build, images):
    network = build(images.shape[1])
    windowed, other = Windowed(network, images[:1]), Windowed(network, images[:1])
    slots, images = torch.arange(N), images.clone()
    for each in (windowed, other):
        each.make_room(N)
    windowed.see(images, slots)
    n_layers = set()
    for side in (12, 9, 5, 3, 2, 1, 1):  # of a large patch fewer layers are run on windows
        for _ in range(6):
            top, left = (int(torch.randint(0, SIZE - side + 1, ())) for _ in range(2))
            patch = (slice(top, top + side), slice(left, left + side))
            points = images.clone()
            points[:, :, patch[0], patch[1]] = torch.rand(N, images.shape[1], side, side)
            if not windowed.is_worth(patch):
                continue
            n_layers.add(windowed._plan(top, top + side, left, left + side).n_layers)
            for part in slots.split(3):
                windowed.look(points[part], slots[part], patch)
            accepted = torch.rand(N) < 0.5
            windowed.keep(slots[accepted])
            images[accepted] = points[accepted]
    assert len(n_layers) > 1
    other.see(images, slots)
    for maps, expected in zip(windowed._maps.values(), other._maps.values(), strict=True):
        torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5)
    patch = (slice(4, 6), slice(5, 7))
    torch.testing.assert_close(windowed.look(images, slots, patch), run_model(network, images).detach())


@pytest.mark.parametrize("build", [branches, shrinking])
def test_windows_of_convolutions_that_cannot_be_packed(build, images):
    network, images = build(images.shape[1]).double(), images.double()
    windowed, slots, patch = Windowed(network, images[:1]), torch.arange(N), (slice(2, 4), slice(9, 12))
    windowed.make_room(N)
    windowed.see(images, slots)
    assert windowed.is_worth(patch)
    images[:, :, 2:4, 9:12] = 0.5
    torch.testing.assert_close(windowed.look(images, slots, patch), run_model(network, images).detach().float())


def test_many_images_are_looked_at_in_even_numbers():
    network = resnet(1)
    images, patch = torch.rand(70, 1, SIZE, SIZE), (slice(3, 5), slice(8, 10))
    windowed = Windowed(network, images[:1])
    windowed.make_room(70)
    windowed.see(torch.zeros_like(images), torch.arange(70))
    for n in (1, 15, 16, 17, 20, 67, 70):
        points = torch.zeros(n, 1, SIZE, SIZE)
        points[:, :, 3:5, 8:10] = images[:n, :, 3:5, 8:10]
        found = windowed.look(points, torch.arange(n), patch)
        torch.testing.assert_close(found, run_model(network, points).detach(), rtol=1e-5, atol=1e-5)
        windowed.keep(torch.arange(n)[:0])


def test_layers_run_on_windows_by_hand(monkeypatch):
    layers = nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 5, padding=2), nn.Flatten()
    windowed = Windowed(nn.Sequential(*layers, nn.Linear(2 * SIZE**2, 3)).eval(), torch.zeros(1, 1, SIZE, SIZE))
    _, first, second = windowed._plan(7, 9, 7, 9).places.values()
    # A patch of 2 becomes 4, of which 5 are computed across, then 8 pixels wide.
    assert first == (slice(6, 10), slice(6, 11))
    assert second == (slice(4, 12), slice(4, 12))
    assert windowed._plan(7, 9, 7, 9).n_layers == 2
    assert not windowed.is_worth((slice(0, SIZE), slice(0, SIZE)))
    # In a corner as much is computed, and nothing beyond.
    assert windowed._plan(0, 2, 14, 16).places[windowed._layers[1].node] == (slice(0, 8), slice(8, 16))
    # Multiplications of 4 x 5 pixels with 18 each and of 8 x 8 with 100, values of 6 x 7 pixels, of two maps of 12 x 12
    # and of two whole ones; without windows, multiplications of all pixels.
    for copying, n_layers in ((20, 2), (30, 0)):
        monkeypatch.setattr("robustprune.inference.windowed.COPYING", copying)
        windowed._plan.cache_clear()
        on_windows = 20 * 18 + 64 * 100 + copying * (42 + 2 * 144 + 2 * SIZE**2)
        assert (on_windows < SIZE**2 * 118) == (n_layers == 2)
        assert windowed._plan(7, 9, 7, 9).n_layers == n_layers


@pytest.mark.parametrize("first", [nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), nn.Softmax2d()])
def test_other_layers_are_left_as_they_are(first):
    with pytest.raises(ValueError, match="no layer sees only what is near"):
        Windowed(nn.Sequential(first, nn.Flatten(), nn.Linear(2 * SIZE**2, 3)).eval(), torch.zeros(1, 1, SIZE, SIZE))


def test_a_layer_that_somebody_listens_to_is_not_taken_apart():
    layer = nn.Conv2d(1, 2, 3, padding=1)
    layer.register_forward_hook(lambda _module, _inputs, output: output + 1)
    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(2 * SIZE**2, 3)).eval()
    with pytest.raises(ValueError, match="hooks listen"):
        Windowed(network, torch.zeros(1, 1, SIZE, SIZE))


def test_values_that_may_overflow_are_refused():
    windowed = Windowed(resnet(1), torch.zeros(1, 1, SIZE, SIZE))
    windowed.make_room(1)
    for value in (torch.nan, torch.inf, 1e30):
        with pytest.raises(ValueError, match="too large, or not finite"):
            windowed.see(torch.full((1, 1, SIZE, SIZE), value), torch.tensor([0]))
