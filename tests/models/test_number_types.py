"""Networks in half, single and double precision are folded and run in their own type."""

from __future__ import annotations

import warnings

import pytest
import torch
from network_forms import Around
from torch import Tensor, nn

from robustprune.attacks import run_attack
from robustprune.errors import ModelError
from robustprune.inference import TOLERANCE, freeze, predict_logits, tolerance_of
from robustprune.models import model_type, run_model

TYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
IMAGES = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Deep(nn.Module):
    """Three convolutions with normalizations to fold; ``between`` comes before the last layer."""

    def __init__(self, between: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for inputs in (3, 8, 8):
            layers += [nn.Conv2d(inputs, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.between = between or nn.Identity()
        self.head = nn.Linear(8 * 64, 4, dtype=torch.float32 if between is None else torch.float64)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                nn.init.uniform_(module.running_var, 0.1, 0.4)
        with torch.no_grad():
            self.eval()
            self.head.bias -= self(IMAGES).mean(dim=0)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.between(self.body(images).flatten(1)))  # type: ignore[no-any-return]


class Cast(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.double()


def count_normalizations(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def quietly_frozen(network: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return freeze(network, IMAGES)


@pytest.mark.parametrize("kind", TYPES)
def test_folded_copy_is_of_the_same_type_and_as_near_to_the_true_logits_as_that_allows(kind: torch.dtype) -> None:
    network = Deep().to(kind)
    frozen = quietly_frozen(network)
    assert count_normalizations(network) == 3
    assert count_normalizations(frozen) == 0
    assert {parameter.dtype for parameter in frozen.parameters()} == {kind}
    with torch.no_grad():
        truth = network.double()(IMAGES.double())
        found = run_model(frozen, IMAGES).double()
    assert float((found - truth).abs().max()) <= 8 * torch.finfo(kind).eps * float(truth.abs().max())


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("attack", ["fgsm", "square"])
def test_attack_on_a_type_is_without_a_word_and_its_verdict_the_networks_own(kind: torch.dtype, attack: str) -> None:
    network = Deep().to(kind)
    labels = predict_logits(network, IMAGES).argmax(dim=1)
    options = {"queries": 30} if attack == "square" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run_attack(network, IMAGES, labels, attack=attack, epsilon=0.1, **options)
    assert result.options["frozen"]
    with torch.no_grad():
        predictions = network(result.adversarial.to(kind)).argmax(dim=1)
    assert torch.equal(result.broken, predictions != labels)
    assert bool(result.broken.any())


def test_a_gradient_too_small_for_single_precision_is_no_robustness() -> None:
    # Cross-entropy of a sample sure by 200 has a gradient of e^-200, which points in images, in float32, cannot have.
    network = Deep().double()
    with torch.no_grad():
        network.head.bias[0] += 200
    labels = torch.zeros(len(IMAGES), dtype=torch.int64)
    leaf = IMAGES.double().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(network(leaf), labels, reduction="sum"), leaf)
    assert 0 < float(gradient.abs().max()) < 1e-60
    result = run_attack(network, IMAGES, labels, attack="pgd", steps=2, epsilon=0.02)
    assert {check.name: check.verdict for check in result.checks}["zero gradient"] == "FAIL"
    assert not result.valid


def test_predictions_of_a_double_network_are_not_rounded_to_ties() -> None:
    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 4).double()

        def forward(self, images: Tensor) -> Tensor:
            return self.head(images.flatten(1)) + 1e9  # type: ignore[no-any-return]

    network = Offset()
    expected = network.head(IMAGES.double().flatten(1)).argmax(dim=1)
    assert torch.equal(predict_logits(network, IMAGES).argmax(dim=1), expected)
    result = run_attack(network, IMAGES, expected, attack="pgd", steps=2, epsilon=1e-6, loss="margin")
    assert torch.equal(result.clean_predictions, expected)
    assert result.robust_accuracy == 1


def test_images_have_the_type_of_the_first_weights_that_are_no_scalars() -> None:
    assert model_type(Deep(Cast())) == torch.float32
    odd = Deep()
    odd.temperature = nn.Parameter(torch.ones((), dtype=torch.float64))
    assert model_type(odd) == torch.float32
    assert model_type(nn.Module()) == torch.float32
    phases = nn.ParameterList([nn.Parameter(torch.ones(2, 2, dtype=torch.complex128))])
    assert model_type(phases) == torch.float64
    counts = nn.BatchNorm2d(3).half()
    counts.register_buffer("counts", torch.arange(3))
    assert model_type(counts) == torch.float16


def test_a_head_in_double_precision_behind_a_cast_is_folded_and_attacked() -> None:
    network = Deep(Cast())
    assert count_normalizations(quietly_frozen(network)) == 0
    labels = predict_logits(network, IMAGES).argmax(dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for attack, options in (
            ("apgd-ce", {"steps": 3}),
            ("square", {"queries": 20}),
            ("fab-t", {"steps": 3, "target_classes": 2}),
        ):
            result = run_attack(network, IMAGES, labels, attack=attack, epsilon=0.1, **options)
            assert result.options["frozen"]
            with torch.no_grad():
                assert torch.equal(result.broken, network(result.adversarial).argmax(dim=1) != labels)


class Autocast(Around):
    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(images).float()  # type: ignore[no-any-return]


@pytest.mark.parametrize("is_within", [True, False])
def test_networks_under_autocast_are_folded_without_a_word(is_within: bool) -> None:
    network = Autocast(Deep()) if is_within else Deep()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not is_within):
        assert count_normalizations(quietly_frozen(network)) == 0
        labels = predict_logits(network, IMAGES).argmax(dim=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert run_attack(network, IMAGES, labels, attack="fgsm", epsilon=0.1).options["frozen"]


def test_tolerance_fits_the_coarsest_type() -> None:
    network = Deep()
    assert tolerance_of(network, IMAGES, 0.05) == TOLERANCE
    assert tolerance_of(network.double(), IMAGES, 0.05) == TOLERANCE
    assert tolerance_of(network.bfloat16(), IMAGES, 0.05) == 8 * 2**-7
    assert tolerance_of(network.half(), IMAGES, 0.05) == 8 * 2**-10
    assert tolerance_of(network, IMAGES, 0.0) == TOLERANCE


def test_what_a_type_has_no_kernel_for_is_one_error_that_names_the_type() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(192).half())

        def forward(self, images: Tensor) -> Tensor:
            return torch.linalg.inv(self.weight) @ images.flatten(1).T  # type: ignore[no-any-return]

    with pytest.raises(ModelError, match=r"cannot run on images of shape .* in torch.float16: .*Half"):
        predict_logits(Sorted(), IMAGES)
