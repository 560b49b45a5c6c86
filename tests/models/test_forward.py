from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.attacks import run_attack
from robustprune.errors import EvaluationError, ModelError, ModelWarning, RobustPruneError
from robustprune.inference import freeze, predict_logits
from robustprune.models import evaluation_mode, frozen_parameters, logit_gap, placed, to_unit_range


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


KINDS = [
    RuntimeError, ValueError, AssertionError, TypeError, IndexError, NotImplementedError, KeyError, AttributeError,
    ZeroDivisionError, StopIteration, OSError, Exception, UserWarning,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", ["", "images of 32×32"])
def test_whatever_a_network_raises_on_images_is_a_clean_error(kind, words):
    def refuse(images):
        raise kind(words)

    with pytest.raises(ModelError, match=words or kind.__name__) as caught:
        predict_logits(Returns(refuse), torch.rand(4, 5))
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_network_raises_on_the_way_back_is_a_clean_error(kind):
    class Refuses(torch.autograd.Function):
        @staticmethod
        def forward(_context, images):
            return images.clone()

        @staticmethod
        def backward(_context, _gradient):
            raise kind("no way back")

    network = Returns(lambda images: Refuses.apply(images).flatten(1))
    images = torch.rand(4, 1, 2, 2)
    with pytest.raises(ModelError, match=r"the model has no gradient at images of shape .*no way back"):
        run_attack(network, images, predict_logits(network, images).argmax(dim=1), attack="pgd", steps=1)


def test_our_own_errors_pass_and_so_does_an_interruption():
    def refuse(kind):
        def raise_it(_images):
            raise kind("stop")

        return Returns(raise_it)

    with pytest.raises(EvaluationError, match=r"^stop$"):
        predict_logits(refuse(EvaluationError), torch.rand(4, 5))
    for kind in (KeyboardInterrupt, SystemExit):
        with pytest.raises(kind):
            run_attack(refuse(kind), torch.rand(4, 5), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
@pytest.mark.parametrize("way", ["there", "back"])
def test_memory_that_runs_out_makes_batches_smaller_either_way(kind, way):
    class Limited(torch.autograd.Function):
        @staticmethod
        def forward(context, images):
            context.size = len(images)
            if way == "there" and len(images) > 20:
                raise kind("out of memory")
            return images.clone()

        @staticmethod
        def backward(context, gradient):
            if context.size > 20:
                raise kind("out of memory")
            return gradient

    network = Returns(lambda images: Limited.apply(images).flatten(1))
    images = torch.rand(40, 1, 2, 2)
    labels = images.flatten(1).argmax(dim=1)
    with pytest.warns(ModelWarning, match="memory ran out"):
        result = run_attack(network, images, labels, attack="pgd", steps=1, frozen=False, epsilon=1e-6)
    assert result.robust_accuracy == 1


def test_logits_of_classes_that_are_masked_out_do_not_differ():
    logits = torch.tensor([[1.0, -torch.inf, 2.0]])
    assert logit_gap(logits, logits) == 0
    assert logit_gap(logits, logits + 0.5) == 0.25
    assert logit_gap(logits, logits.nan_to_num()) == torch.inf
    assert np.isnan(logit_gap(logits, logits * torch.nan))
    mask = torch.tensor([0.0, -torch.inf, 0.0, 0.0])
    layers = nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*layers, Returns(lambda features: features + mask)).eval()
    frozen = freeze(network, torch.rand(2, 1, 4, 4))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda images: (None, images), "returned tuple instead of a tensor of logits, whose first entry is NoneType"),
        (lambda _images: [], "returned list instead .* whose first entry is missing"),
        (lambda images: {"a": images, "b": images}, "returned dict .*, with 'a', 'b' in it"),
        (lambda images: SimpleNamespace(scores=images), "SimpleNamespace instead .*; wrap it in a module"),
        (lambda images: images.argmax(1), "expected floating-point logits"),
        (lambda images: images[:, :0], "K ≥ 2"),
        (lambda images: images[:, :1].sigmoid(), "one probability for each image, not a logit"),
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


def test_a_network_that_is_on_the_device_is_no_copy(network):
    assert all(placed(network, device) is network for device in (None, "cpu", "cpu:0", torch.device("cpu")))
    with pytest.raises(RobustPruneError, match="there is no device 'meta' on this machine; it has: cpu"):
        placed(network, "meta")
