import numpy as np
import pytest
import torch
from torch import nn

from robustprune.errors import EvaluationError, ModelError
from robustprune.inference import (
    evaluation_mode,
    frozen_parameters,
    model_device,
    predict_logits,
    to_unit_range,
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 5)
    )


@pytest.fixture
def images():
    return torch.randint(0, 256, (11, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fail_inside(context):
    with context:
        raise KeyError("midway")


def test_modes_come_back_one_by_one_also_after_an_error(network):
    network.train()
    network[1].eval()
    before = [module.training for module in network.modules()]
    with evaluation_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before
    with pytest.raises(KeyError):
        fail_inside(evaluation_mode(network))
    assert [module.training for module in network.modules()] == before


def test_frozen_parameters_get_their_flags_back_also_after_an_error(network):
    network[0].bias.requires_grad_(False)
    before = [parameter.requires_grad for parameter in network.parameters()]
    with frozen_parameters(network):
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    with pytest.raises(KeyError):
        fail_inside(frozen_parameters(network))
    assert [parameter.requires_grad for parameter in network.parameters()] == before


@pytest.mark.parametrize("batch_size", [1, 4, 11, 512])
def test_logits_are_those_of_one_plain_forward_pass(network, images, batch_size):
    network.train()
    logits = predict_logits(network, images, batch_size=batch_size)
    assert network.training
    with torch.no_grad():
        expected = network.eval()(images.float() / 255)
    assert logits.dtype == torch.float32
    assert logits.device.type == "cpu"
    assert not logits.requires_grad
    torch.testing.assert_close(logits, expected)


def test_bytes_and_floats_and_arrays_are_the_same_images(network, images):
    from_bytes = predict_logits(network, images)
    assert torch.equal(predict_logits(network, images.float() / 255), from_bytes)
    assert torch.equal(predict_logits(network, images.numpy()), from_bytes)


def test_neither_the_network_nor_the_random_state_changes(network, images):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    predict_logits(network, images)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_network_that_normalizes_in_place_leaves_the_images_alone():
    class InPlace(nn.Module):
        def forward(self, images):
            return images.sub_(0.5).flatten(1)

    images = torch.rand(3, 2)
    before = images.clone()
    predict_logits(InPlace(), images)
    assert torch.equal(images, before)


def test_a_float64_network_gets_float64_images(network, images):
    expected = predict_logits(network, images)
    found = predict_logits(network.double(), images)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=1e-6)


def test_unit_range():
    assert to_unit_range(np.array([0, 51, 255], dtype=np.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    assert to_unit_range(torch.tensor([0.25], dtype=torch.float64)).dtype == torch.float32
    with pytest.raises(EvaluationError, match="int64"):
        to_unit_range(torch.arange(3))


class Returns(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images):
        return self.answer(images)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, AssertionError, TypeError, IndexError, NotImplementedError])
@pytest.mark.parametrize("words", ["", "images of 32×32"])
def test_whatever_a_network_raises_on_images_is_a_clean_error(kind, words):
    def refuse(images):
        raise kind(words)

    with pytest.raises(ModelError, match=words or kind.__name__) as caught:
        predict_logits(Returns(refuse), torch.rand(4, 5))
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda images: (images, images), "tuple"),
        (lambda images: images.argmax(1), "expected floating-point logits"),
        (lambda images: images[:, :1], "K ≥ 2"),
        (lambda images: images.long(), "floating-point"),
        (lambda images: images[1:], "expected floating-point logits"),
        (lambda images: images @ torch.ones(3, 2), "cannot run on images of shape"),
    ],
)
def test_what_is_not_a_classifier_is_a_clean_error(answer, complaint):
    with pytest.raises(ModelError, match=complaint):
        predict_logits(Returns(answer), torch.rand(4, 5))


@pytest.mark.parametrize(
    ("images", "batch_size", "complaint"),
    [
        (torch.zeros(0, 3, 8, 8), 4, "N ≥ 1"),
        (torch.zeros(3), 4, "batch of images"),
        (torch.zeros(2, 3, 8, 8), 0, "batch_size"),
    ],
)
def test_nothing_to_run_on_is_a_clean_error(network, images, batch_size, complaint):
    with pytest.raises(EvaluationError, match=complaint):
        predict_logits(network, images, batch_size=batch_size)


def test_another_device_than_the_models_is_refused(network):
    assert model_device(network).type == "cpu"
    assert model_device(network, "cpu").type == "cpu"
    with pytest.raises(ModelError, match="move it first"):
        model_device(network, "meta")
