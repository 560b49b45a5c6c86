"""CKA between networks: which layers, and the same numbers as from features collected by hand."""

from __future__ import annotations

import pytest
import torch
from support import Shape
from torch import Tensor, nn

from robustprune.data import InMemorySplit
from robustprune.errors import EvaluationError, ModelError
from robustprune.evaluation.similarity import compare_representations
from robustprune.metrics import linear_cka
from robustprune.models import build_model
from robustprune.pruning import find_blocks, remove_blocks

SHAPE = Shape(image_size=(8, 8), num_classes=4)
IMAGES = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def network(seed: int = 0, name: str = "resnet20") -> nn.Module:
    return build_model(name, SHAPE, seed=seed, width=4)


def features(model: nn.Module, layer: str) -> Tensor:
    caught: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _i, output: caught.append(output.clone()))
    with torch.no_grad():
        model(IMAGES.float() / 255)
    handle.remove()
    return caught[0]


def test_a_ticket_is_like_its_dense_network_up_to_the_first_gap() -> None:
    dense = network()
    ticket = remove_blocks(dense, {"layer2.1": "identity"})
    found = compare_representations(ticket, dense, IMAGES)
    kept = [block.name for block in find_blocks(dense) if block.name != "layer2.1"]
    assert list(found) == [*kept, "penultimate"]
    for name in ("layer1.0", "layer1.1", "layer1.2", "layer2.0"):
        assert found[name] == pytest.approx(1, abs=1e-9)
    for name in ("layer2.2", "layer3.0", "layer3.2", "penultimate"):
        assert 0 < found[name] < 1 - 1e-6


def test_figures_are_those_of_features_collected_by_hand() -> None:
    first, second = network(0), network(1)
    with torch.no_grad():
        penultimate = [model.forward_features(IMAGES.float() / 255) for model in (first, second)]
    for size in (16, 40):
        found = compare_representations(
            first, second, IMAGES, layers=["layer1.2", "conv1", "penultimate"], batch_size=size
        )
        for name in ("layer1.2", "conv1"):
            expected = linear_cka(features(first, name), features(second, name), batch_size=size)
            assert found[name] == pytest.approx(expected, rel=1e-4)
        assert found["penultimate"] == pytest.approx(linear_cka(*penultimate, batch_size=size), rel=1e-4)


def test_networks_of_different_kinds() -> None:
    # Of blocks with equal names, whatever their widths.
    found = compare_representations(network(), network(name="wrn-16-4"), IMAGES)
    assert list(found) == ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "penultimate"]
    chain = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 4))
    assert list(compare_representations(chain, network(), IMAGES)) == ["penultimate"]


def test_a_split_is_as_good_as_its_images() -> None:
    first, second = network(0), network(1)
    split = InMemorySplit(IMAGES, torch.zeros(40, dtype=torch.int64))
    expected = compare_representations(first, second, IMAGES, batch_size=16)
    assert compare_representations(first, second, split, batch_size=16) == expected
    assert compare_representations(first, second, IMAGES.numpy(), batch_size=16) == expected
    assert compare_representations(first, second, IMAGES.float() / 255, batch_size=16) == expected


class Counter(nn.Module):
    """Counts the images it sees once it has been looked over."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Flatten(), nn.Linear(192, 4)
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        return self.fc(self.body(images))


def test_each_network_sees_each_image_once() -> None:
    model = Counter()
    compare_representations(model, network(), IMAGES[:38], layers=["penultimate"], batch_size=18)
    # Two images to find the last layer with; two whole batches; the two images left over say nothing.
    assert model.sizes == [2, 18, 18]


def test_the_networks_are_left_alone() -> None:
    first, second = network(0).train(), network(1)
    first.layer1.eval()
    state = {name: value.clone() for name, value in first.state_dict().items()}
    modes = [module.training for module in first.modules()]
    generator = torch.get_rng_state()
    compare_representations(first, second, IMAGES)
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    assert [module.training for module in first.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in first.modules())
    assert torch.equal(torch.get_rng_state(), generator)


def test_dead_features_have_no_figure() -> None:
    dead = network()
    nn.init.zeros_(dead.bn1.weight)
    nn.init.constant_(dead.bn1.bias, 0.3)
    found = compare_representations(dead, network(), IMAGES, layers=["bn1", "conv1"])
    assert found == {"bn1": None, "conv1": pytest.approx(1)}


@pytest.mark.parametrize(
    ("layers", "count", "size", "complaint"),
    [
        (["layer9"], 40, 16, "no layer 'layer9'"),
        (["unused"], 40, 16, "does not run its layer 'unused'"),
        (["penultimate"], 3, 16, "at least 4 images, got 3"),
        (["penultimate"], 40, 3, "at least 4 images, got 3"),
    ],
)
def test_nonsense_is_a_clean_error(layers: list[str], count: int, size: int, complaint: str) -> None:
    first, second = network(0), network(1)
    first.unused = second.unused = nn.Identity()
    with pytest.raises(EvaluationError, match=complaint):
        compare_representations(first, second, IMAGES[:count], layers=layers, batch_size=size)


def test_images_that_do_not_fit_are_a_clean_error() -> None:
    with pytest.raises(ModelError, match="cannot run on images"):
        compare_representations(network(), network(), IMAGES[:, :2], layers=["conv1"])
    broken = network()
    nn.init.constant_(broken.conv1.weight, torch.nan)
    with pytest.raises(EvaluationError, match="NaN or infinite"):
        compare_representations(broken, network(), IMAGES, layers=["conv1"])
