"""Whatever is handed over as a network is run as what it is, in evaluation mode, and left as it was."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from network_forms import (
    FUNCTIONS,
    IMAGES,
    MODULES,
    Net,
    Service,
    closure,
    expected_gradient,
    expected_logits,
    export,
    make,
    make_net,
    save_and_load,
)
from torch import Tensor, nn

from robustprune.attacks import run_attack
from robustprune.errors import ModelError
from robustprune.inference import freeze, predict_logits
from robustprune.models import as_network, evaluation_mode, network_name, to_evaluation
from robustprune.runtime.environment import hash_weights
from robustprune.runtime.work import Work

LABELS = expected_logits().argmax(dim=1)
EPSILON = 0.1


def state_of(model: Any) -> list[Any]:
    network = as_network(model)
    modes = [getattr(module, "training", None) for module in network.modules()]
    return [*modes, *(parameter.requires_grad for parameter in network.parameters())]


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_logits_are_those_in_evaluation_mode_and_the_network_is_left_as_it_was(name: str) -> None:
    model = make(name)
    before = state_of(model)
    torch.testing.assert_close(predict_logits(model, IMAGES), expected_logits(), rtol=1e-5, atol=1e-6)
    assert state_of(model) == before


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_fgsm_is_the_sign_of_the_gradient_by_hand(name: str) -> None:
    model = make(name)
    before = state_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run_attack(model, IMAGES, LABELS, attack="fgsm", epsilon=EPSILON, early_stop=False)
    assert state_of(model) == before
    if name == "without gradients":
        assert {check.name: check.verdict for check in result.checks}["graph"] == "FAIL"
        return
    step = EPSILON * expected_gradient(IMAGES, LABELS).sign()
    logits = expected_logits((IMAGES + step).clamp(0, 1))
    assert torch.equal(result.broken, logits.argmax(dim=1) != LABELS)
    assert bool(result.broken.any())
    assert result.valid
    assert result.options["frozen"] == (name in MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_frozen_copy_of_any_module(name: str) -> None:
    model = make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frozen = freeze(model, IMAGES)
    leaf = IMAGES.clone().requires_grad_()
    loss = nn.functional.cross_entropy(frozen(leaf), LABELS, reduction="sum")
    torch.testing.assert_close(frozen(IMAGES), expected_logits(), rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss, leaf)
    torch.testing.assert_close(gradient, expected_gradient(IMAGES, LABELS), rtol=1e-4, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_functions_cannot_be_frozen() -> None:
    with pytest.raises(ModelError, match="call_global is a plain callable, which cannot be copied"):
        freeze(make("function"), IMAGES)


def test_modes_of_networks_that_a_function_names_come_back_after_an_error() -> None:
    network = make_net()

    def refuse(images: Tensor) -> Tensor:
        assert not network.training
        raise KeyError("weights")

    with pytest.raises(ModelError, match="KeyError: 'weights'"):
        predict_logits(refuse, IMAGES)  # type: ignore[arg-type]
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (Net, "the class Net itself"),
        (None, "got a NoneType"),
        (3, "got a int"),
        ({}, "got a dict"),
        (make_net().to("meta"), "this Net is on torch's meta device"),
        (nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5)), "layer '0' of this Sequential is lazy"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyBatchNorm2d(), nn.Flatten()), "layer '1' of this Sequential is lazy"),
    ],
)
def test_what_is_no_network_is_refused_in_one_sentence(model: Any, complaint: str) -> None:
    for use in (predict_logits, freeze):
        with pytest.raises(ModelError, match=complaint):
            use(model, IMAGES)
    with pytest.raises(ModelError, match=complaint):
        run_attack(model, IMAGES, LABELS, attack="fgsm")


def test_lazy_layers_that_have_run_are_ordinary() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5))
    with torch.no_grad():
        expected = network(IMAGES)
    torch.testing.assert_close(predict_logits(network, IMAGES), expected)


@pytest.mark.parametrize("form", ["script", "trace", "export", "frozen script"])
def test_a_normalization_without_running_statistics_trains_by_design(form: str) -> None:
    class Batchwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(192, 5))

        def forward(self, images: Tensor) -> Tensor:
            return self.layers(images)  # type: ignore[no-any-return]

    network = Batchwise().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Any = {
            "script": lambda: torch.jit.script(network),
            "trace": lambda: torch.jit.trace(network, IMAGES),
            "export": lambda: export(network),
            "frozen script": lambda: torch.jit.freeze(torch.jit.script(network)),
        }[form]()
        warnings.simplefilter("error")
        with torch.no_grad():
            torch.testing.assert_close(predict_logits(made, IMAGES), network(IMAGES))


def test_an_eval_that_fails_is_named() -> None:
    class Stubborn(Net):
        def eval(self) -> Any:
            raise KeyError("mode")

    with pytest.raises(ModelError, match="this Stubborn cannot be put in evaluation mode: KeyError: 'mode'"):
        predict_logits(Stubborn(), IMAGES)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_modes_are_those_of_the_network_of_a_scripts_method() -> None:
    network = torch.jit.script(make_net())
    torch.testing.assert_close(predict_logits(network.forward, IMAGES), expected_logits())
    assert network.training


def test_kinds_of_tensors_come_back_as_torchs_own() -> None:
    class Tagged(torch.Tensor):
        pass

    class Tagging(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).as_subclass(Tagged)  # type: ignore[no-any-return]

    network = make_net()
    network.__class__ = Tagging
    assert type(predict_logits(network, IMAGES)) is Tensor
    labels = expected_logits().argmax(dim=1).as_subclass(Tagged)
    found = run_attack(network, IMAGES.as_subclass(Tagged), labels, "foolbox:LinfPGD", epsilon=0.02, steps=2)
    assert type(found.adversarial) is Tensor


def test_names() -> None:
    assert network_name(make("frozen script")) == network_name(make("compiled")) == "Net"
    assert network_name(as_network(make("function"))) == "call_global"
    assert network_name(as_network(Service(Net()))) == "Service"


def test_the_state_of_an_attack_on_a_function_is_not_that_of_another(tmp_path: Path) -> None:
    labels = torch.zeros(len(IMAGES), dtype=torch.int64)

    def first(images: Tensor) -> Tensor:
        return images.flatten(1)

    def other(images: Tensor) -> Tensor:
        return -images.flatten(1)

    work = Work(folder=tmp_path)
    found = [run_attack(each, IMAGES, labels, steps=1, work=work).adversarial for each in (first, other)]  # type: ignore[arg-type]
    alone = [run_attack(each, IMAGES, labels, steps=1).adversarial for each in (first, other)]  # type: ignore[arg-type]
    assert all(map(torch.equal, found, alone))
    assert len(list(tmp_path.iterdir())) == 2


def test_evaluation_mode_returns_the_network_and_frozen_scripts_get_no_mode() -> None:
    network = make("frozen script")
    with evaluation_mode(network) as inside:
        assert inside is network
    assert not hasattr(network, "training")
    silent = make("silent modes")
    assert to_evaluation(silent) is silent
    assert not silent.training


def test_weights_that_are_constants_or_quantized_have_a_hash_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = make_net().eval()
        nn.init.zeros_(other.head.bias)
        frozen = [torch.jit.freeze(torch.jit.script(each)) for each in (make_net().eval(), other)]
        quantized = [
            torch.ao.quantization.quantize_dynamic(copy.deepcopy(each), {nn.Linear}, dtype=torch.qint8)
            for each in (make_net().eval(), other)
        ]
    for first, second in (frozen, quantized):
        assert hash_weights(first) == hash_weights(first)
        assert hash_weights(first) != hash_weights(second)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert hash_weights(save_and_load(frozen[0])) == hash_weights(frozen[0])


def test_quantized_networks_are_run_and_their_missing_gradients_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.ao.quantization.quantize_dynamic(make_net().eval(), {nn.Linear}, dtype=torch.qint8)
        expected = network(IMAGES)
        torch.testing.assert_close(predict_logits(network, IMAGES), expected)
        result = run_attack(network, IMAGES, expected.argmax(dim=1), attack="pgd", steps=2)
    # Activations are quantized by the range of the whole batch.
    assert {check.name for check in result.checks if check.verdict == "FAIL"} == {"graph", "batch coupling"}


def test_hidden_networks_of_functions_are_looked_for_in_the_same_file_only() -> None:
    assert len(list(as_network(closure(make_net())).children())) == 1
    assert not list(as_network(torch.flatten).parameters())
