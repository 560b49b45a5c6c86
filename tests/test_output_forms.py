"""Classifiers in every form that libraries have them: each part finds what it finds of the plain network."""

from __future__ import annotations

import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustprune.attacks import run_attack
from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import ModelError
from robustprune.evaluation import evaluate
from robustprune.inference import predict_logits
from robustprune.ood import OOD, evaluate_ood

Pair = namedtuple("Pair", "aux logits")


@dataclass
class Output:
    """What an object with a field for logits looks like."""

    loss: Tensor | None
    logits: Tensor


class ModelOutput(OrderedDict[str, Tensor]):
    """Entries that are attributes as well, and the first of which need not be the logits."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Plain(nn.Module):
    """A small network whose first class is told by brightness above, its second by brightness below."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).mean((2, 3)))  # type: ignore[no-any-return]


class Wrapped(Plain):
    """The same network, whose logits go through a function."""

    def __init__(self, form: Callable[[Tensor], Any], classes: int = 3) -> None:
        super().__init__(classes)
        self.form = form

    def forward(self, images: Tensor) -> Any:
        return self.form(super().forward(images))


class Extras(Plain):
    """One with further arguments."""

    def forward(self, images: Tensor, labels: Tensor | None = None, *, scale: float = 1.0, **_rest: Any) -> Tensor:
        assert labels is None
        return super().forward(images) * scale


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda z: (z, z + 1),
    "list": lambda z: [z, None],
    "named tuple": lambda z: Pair(z + 1, z),
    "object": lambda z: Output(None, z),
    "dictionary": lambda z: {"loss": None, "logits": z},
    "dictionary of torchvision": lambda z: OrderedDict(out=z, aux=z + 1),
    "model output": lambda z: ModelOutput(loss=z.sum(), logits=z),
    "nested": lambda z: ({"logits": z}, {"logits": z + 1}),
}


def wrapped_forms() -> dict[str, Callable[[], Any]]:
    frozen, bare = Plain().requires_grad_(False), Plain()
    return {
        **{name: lambda form=form: Wrapped(form) for name, form in OUTPUTS.items()},  # type: ignore[misc]
        "further arguments": Extras,
        "DataParallel": lambda: nn.DataParallel(Plain()),
        "compiled": lambda: torch.compile(Plain(), backend="eager"),
        "compiled tuple": lambda: torch.compile(Wrapped(OUTPUTS["tuple"]), backend="eager"),
        "script": lambda: torch.jit.script(Plain()),
        "frozen parameters": lambda: frozen,
        "function": lambda: lambda images: (bare(images), "more"),
    }


@pytest.fixture(scope="module")
def data() -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = predict_logits(Plain(), images).argmax(dim=1)
    part = InMemorySplit(images, labels)
    classes, statistics = ("a", "b", "c"), {"mean": (0.5,), "std": (0.3,)}
    return ImageData("speckles", classes, **statistics, flips=False, train=part, val=part, test=part)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scripts, that torch gives them up, and of functions, that none is frozen
        yield


ASKED = OOD(["noise"], detectors=["energy", "odin", "knn:k=3", "vim"], resamples=0)


def found(model: Any, data: ImageData, tolerance: float = 1e-5) -> dict[str, Any]:
    """Return what each part finds."""
    images, labels = data.require("test").images, data.require("test").labels
    attacked = run_attack(model, images, labels, "pgd", epsilon="16/255", steps=3)
    record = evaluate(model, data, attacks="fgsm", ood=ASKED)
    detected = evaluate_ood(model, data, ASKED)
    return {
        "logits": predict_logits(model, images),
        "broken": attacked.broken,
        "accuracy": (record.clean.accuracy, record.attacks[0].robust_accuracy),
        "scores": detected.samples,
        "record scores": {name: each for name, each in (record.samples or {}).items() if name.startswith("ood")},
    }


def compare(one: dict[str, Any], other: dict[str, Any], but: tuple[str, ...] = ()) -> None:
    torch.testing.assert_close(one["logits"], other["logits"])
    assert torch.equal(one["broken"], other["broken"])
    assert one["accuracy"] == other["accuracy"]
    for part in ("scores", "record scores"):
        assert {name for name in other[part] if not name.endswith(but)} <= set(one[part])
        for name, scores in one[part].items():
            np.testing.assert_allclose(scores, other[part][name], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def expected(data: ImageData) -> dict[str, Any]:
    return found(Plain(), data)


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("form", wrapped_forms())
def test_every_form_is_the_network_that_it_is(form: str, data: ImageData, expected: dict[str, Any]) -> None:
    # A script shows no layers, so there are no features of it.
    compare(found(wrapped_forms()[form](), data), expected, but=("_knn:k=3", "_vim") if form == "script" else ())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_the_network_to_its_rounding(kind: torch.dtype, data: ImageData) -> None:
    result = found(Plain().to(kind), data)
    direct = Plain().to(kind).eval()(data.require("test").images.to(kind) / 255)
    torch.testing.assert_close(result["logits"], direct.float(), rtol=0.05, atol=0.02)
    assert result["logits"].dtype == torch.float32
    assert {"ood_in_knn:k=3", "ood0_odin"} <= set(result["scores"])


SINGLE: dict[str, Callable[[Tensor], Tensor]] = {
    "column": lambda z: z[:, 1:] - z[:, :1],
    "row": lambda z: z[:, 1] - z[:, 0],
    "squeezed": lambda z: (z[:, 1:] - z[:, :1]).squeeze(),
}


@pytest.fixture(scope="module")
def two(data: ImageData) -> ImageData:
    part = InMemorySplit(data.require("test").images, predict_logits(Plain(2), data.require("test").images).argmax(1))
    return replace(data, classes=("a", "b"), train=part, val=part, test=part)


@pytest.mark.parametrize("form", SINGLE)
def test_one_logit_is_a_classifier_of_two_classes(form: str, two: ImageData) -> None:
    # With two logits instead, (0, z): what a softmax of two and a sigmoid of one have in common.
    as_two = found(Wrapped(lambda z: torch.stack([torch.zeros(len(z)), z[:, 1] - z[:, 0]], dim=1), 2), two)
    compare(found(Wrapped(SINGLE[form], 2), two), as_two)
    logits = as_two["logits"].double()
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], logits[:, 1].sigmoid())


def test_the_last_layer_of_one_logit_is_found(two: ImageData) -> None:
    result = evaluate_ood(Plain(1), two, ASKED)
    assert {"ood_in_vim", "ood_in_knn:k=3"} <= set(result.samples)
    assert result.summary.protocol["feature_layer"] == "head"


class Sigmoid(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).sigmoid()


@pytest.mark.parametrize(
    "model",
    [
        lambda: Sigmoid(1),
        lambda: nn.Sequential(Plain(1), nn.Sigmoid(), nn.Flatten(0)),
        lambda: Sigmoid(1).requires_grad_(False),
        lambda: torch.compile(Sigmoid(1), backend="eager"),
        lambda: torch.jit.script(nn.Sequential(Plain(1), nn.Sigmoid())),
        lambda: Wrapped(lambda z: z.softmax(1)[:, 1], 2),
    ],
)
def test_probabilities_of_one_class_are_no_logits(model: Callable[[], nn.Module], two: ImageData) -> None:
    part = two.require("test")
    for run in (
        lambda: run_attack(model(), part.images, part.labels),
        lambda: evaluate(model(), two),
        lambda: evaluate_ood(model(), two, ASKED),
    ):
        with pytest.raises(ModelError, match="one probability for each image, not a logit: leave its last sigmoid out"):
            run()


def test_a_small_logit_is_no_probability(two: ImageData) -> None:
    network = Wrapped(lambda z: 0.5 + 0 * z[:, 0], 2)
    assert predict_logits(network, two.require("test").images).tolist() == [[0, 0.5]] * 60
