"""Detectors in the hand: a network, images to fit on, images to score, as `evaluate_ood` scores them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import DataError, DetectorError, EvaluationError
from robustprune.inference import predict_logits
from robustprune.ood import DETECTORS, OOD, Detector, Outputs, evaluate_ood, formula, make_detector
from robustprune.ood.detectors import DICE, KNN, MSP, ODIN, SHE, Energy, Mahalanobis, ReAct, Temperature, ViM
from robustprune.ood.image_sets import load_set

NAMES = sorted(DETECTORS.builtin)
NEED_LABELS = {"mahalanobis", "rmd", "she", "temperature"}


class Network(nn.Module):
    """A small network that is sure of some images and wrong on others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 12))
        self.head = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(4 * self.body(images).relu())  # type: ignore[no-any-return]


class Named(Dataset[dict[str, Any]]):
    """Images and labels by name, as Hugging Face's are."""

    def __init__(self, part: InMemorySplit) -> None:
        self.part = part

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": self.part.images[index], "label": int(self.part.labels[index])}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return Network().eval()


@pytest.fixture(scope="module")
def data(model: nn.Module) -> ImageData:
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> InMemorySplit:
        images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
        labels = predict_logits(model, images).argmax(dim=1)
        labels[::5] = (labels[::5] + 1) % 3
        return InMemorySplit(images, labels)

    how: dict[str, Any] = {"mean": (0.5,), "std": (0.3,), "flips": False}
    return ImageData("speckles", ("a", "b", "c"), **how, train=part(90), val=part(40), test=part(30))


@pytest.fixture(scope="module")
def expected(model: nn.Module, data: ImageData) -> dict[str, np.ndarray[Any, Any]]:
    return evaluate_ood(model, data, OOD(["noise"], resamples=0), limit=30).samples


FORMS: dict[str, Callable[[InMemorySplit], Any]] = {
    "split": lambda part: part,
    "pair": lambda part: (part.images, part.labels),
    "arrays": lambda part: (part.images.numpy(), part.labels.numpy()),
    "floats": lambda part: [part.images.float() / 255, part.labels],
    "loader": lambda part: DataLoader(TensorDataset(part.images.float() / 255, part.labels), batch_size=7),
    "dataset": lambda part: TensorDataset(part.images, part.labels),
    "samples": lambda part: [(image, int(label)) for image, label in zip(part.images, part.labels, strict=True)],
    "named dataset": Named,
    "named loader": lambda part: DataLoader(Named(part), batch_size=16),
    "pictures": lambda part: [
        (Image.fromarray(image[0].numpy()), int(label)) for image, label in zip(part.images, part.labels, strict=True)
    ],
    "one-hot": lambda part: (part.images, torch.nn.functional.one_hot(part.labels)),
    "channels last": lambda part: (part.images.permute(0, 2, 3, 1).numpy(), part.labels.tolist()),
    "without an axis of channels": lambda part: {"image": part.images[:, 0], "label": part.labels},
    "batches": lambda part: zip(part.images.split(9), part.labels.split(9), strict=True),
    "triples": lambda part: [(*each, 7) for each in zip(part.images, part.labels.tolist(), strict=True)],
}


def kind_of(name: str) -> Any:
    return DETECTORS.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_protocol(
    name: str, model: nn.Module, data: ImageData, expected: dict[str, np.ndarray[Any, Any]]
) -> None:
    options = {"k": 50} if name == "knn" else {}
    detector = kind_of(name)(model, **options)
    assert detector.fit(data) is detector
    outside = load_set("noise", data, limit=30).images
    for images, key in ((data.require("test").images, f"ood_in_{name}"), (outside, f"ood0_{name}")):
        found = detector.score(images)
        assert (found.shape, found.dtype, found.device.type) == ((30,), torch.float64, "cpu")
        np.testing.assert_array_equal(found.numpy(), expected[key])
    assert not detector.needs_fitting or kind_of(name)(model).needs_fitting


@pytest.mark.quick_cases(20)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["knn", "she", "temperature", "energy"])
def test_images_come_in_any_form(form: str, name: str, model: nn.Module, data: ImageData) -> None:
    give = FORMS[form]
    images = data.require("test").images
    whole = kind_of(name)(model).fit(data).score(images)
    detector = kind_of(name)(model).fit(give(data.require("train")), give(data.require("val")))
    torch.testing.assert_close(detector.score(images), whole, rtol=1e-5, atol=1e-6)
    for given in (
        *(images.numpy(), images.float() / 255, DataLoader(TensorDataset(images), batch_size=4), [*images]),
        *(DataLoader(images, batch_size=7), [*images[:, 0].numpy()], iter(images.split(4)), {"image": images}),
        (images, torch.full((len(images),), -1)),
    ):
        torch.testing.assert_close(detector.score(given), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_learns_nothing_scores_at_once_and_the_others_say_so(name: str, model: nn.Module, data: ImageData) -> None:
    images, detector = data.require("test").images, kind_of(name)(model)
    if detector.needs_fitting and name != "temperature":  # which begins at 1
        with pytest.raises(DetectorError, match="has not been fitted; call its fit first"):
            detector.score(images)
    else:
        assert (
            torch.equal(detector.score(images), kind_of(name)(model).fit(data).score(images)) or name == "temperature"
        )


@pytest.mark.parametrize("name", NAMES)
def test_only_those_that_need_labels_ask_for_them(name: str, model: nn.Module, data: ImageData) -> None:
    part = data.require("train")
    detector = kind_of(name)(model)
    if name in NEED_LABELS:
        with pytest.raises(DetectorError, match="these images have no labels"):
            detector.fit(part.images, data.require("val").images)
    else:
        found = detector.fit(part.images).score(part.images)
        assert torch.equal(found, kind_of(name)(model).fit(data).score(part.images))


def test_temperature_needs_images_of_its_own(model: nn.Module, data: ImageData) -> None:
    part = data.require("train")
    with pytest.raises(DetectorError, match="no validation images"):
        Temperature(model).fit((part.images, part.labels))


def test_odin_steps_along_the_gradient_of_this_network(model: nn.Module, data: ImageData) -> None:
    images = (data.require("test").images.float() / 255).requires_grad_()
    (model(images) / 100).log_softmax(dim=1).amax(dim=1).sum().backward()
    assert images.grad is not None
    with torch.no_grad():
        stepped = model(images + 0.002 * images.grad.sign()).double()
    found = ODIN(model, temperature=100, epsilon=0.002).score(images.detach())
    torch.testing.assert_close(found, -(stepped / 100).softmax(dim=1).amax(dim=1), rtol=1e-5, atol=1e-6)
    assert all(parameter.grad is None or name for name, parameter in model.named_parameters())


def test_on_logits_and_features_alike(model: nn.Module, data: ImageData) -> None:
    part, images = data.require("train"), data.require("test").images.float() / 255
    logits = predict_logits(model, images)
    assert torch.equal(Energy.score(logits), -logits.logsumexp(dim=1))
    warm = Energy(temperature=2)
    torch.testing.assert_close(warm.score(logits), -2 * (logits.double() / 2).logsumexp(dim=1))
    torch.testing.assert_close(warm.score(Outputs(logits)), warm.score(logits.numpy()))
    torch.testing.assert_close(Energy(model, temperature=2).score(images), warm.score(logits), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(warm.score(logits, temperature=1.0), Energy.score(logits.double()))

    def features(images: Tensor) -> Tensor:
        return 4 * model.body(images).relu().detach()  # type: ignore[operator, union-attr, no-any-return]

    bank = Outputs(predict_logits(model, part.images), features(part.images.float() / 255), labels=part.labels)
    by_images = KNN(model, k=3).fit(part).score(images)
    torch.testing.assert_close(KNN(k=3).fit(bank).score(features(images)), by_images, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        SHE().fit(bank).score(features(images), logits), SHE(model).fit(part).score(images), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(DetectorError, match="SHE scores features, logits, and logits is missing"):
        SHE().fit(bank).score(features(images))
    with pytest.raises(DetectorError, match="has not been fitted"):
        KNN().score(features(images))


def test_the_network_is_as_it_was_and_looked_at_anew_where_nothing_was_fitted(data: ImageData) -> None:
    network = Network().train()
    before = {name: each.clone() for name, each in network.state_dict().items()}
    images = data.require("test").images
    energy, neighbours = Energy(network), KNN(network, k=2).fit(data)
    first, near = energy.score(images), neighbours.score(images)
    assert network.training
    assert all(torch.equal(before[name], each) for name, each in network.state_dict().items())
    with torch.no_grad():
        network.head.bias += 1
        network.body[4].weight *= 2  # type: ignore[index, operator]
    assert not torch.equal(energy.score(images), first)
    assert torch.equal(neighbours.score(images), near)  # its bank is of the network as it was
    assert not torch.equal(neighbours.fit(data).score(images), near)


def test_a_plain_function_shows_logits_alone(model: nn.Module, data: ImageData) -> None:
    images = data.require("test").images

    def classify(images: Tensor) -> Tensor:
        return model(images)  # type: ignore[no-any-return]

    torch.testing.assert_close(MSP(classify).score(images), MSP(model).score(images), rtol=1e-5, atol=1e-6)


def test_a_detector_of_ones_own_scores_images_too(model: nn.Module, data: ImageData) -> None:
    @dataclass
    class Longest(Detector):
        order: float = 2.0

        @formula
        def score(features: Tensor, order: float = 2.0) -> Tensor:
            return features.norm(order, dim=1)  # type: ignore[no-any-return, no-untyped-call]

    class Static(Detector):
        @staticmethod
        def score(logits, center):
            return (logits - center).abs().sum(dim=1)

        def learn(self, train, held_out):
            self.center = train.logits.mean(dim=0)

    class Brightness(Detector):
        def __call__(self, outputs):
            return outputs.images.float().flatten(1).mean(dim=1)

    images = data.require("test").images
    with torch.no_grad():
        features = 4 * model.body(images / 255).relu()  # type: ignore[operator, union-attr]
    torch.testing.assert_close(
        Longest(model, order=1).score(images).float(), features.abs().sum(1), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(Longest.score(features), features.norm(dim=1))
    logits, center = predict_logits(model, images), predict_logits(model, data.require("train").images).mean(dim=0)
    torch.testing.assert_close(
        Static(model).fit(data).score(images).float(), (logits - center).abs().sum(1), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(Brightness(model).score(images), images.double().flatten(1).mean(dim=1))
    with pytest.raises(DetectorError, match=r"no formula .*images by Brightness\(model\)"):
        Brightness().score(images)


class Refused(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda model, data: KNN(k=2).fit(data), EvaluationError, r"no network to run .* KNN\(model\)"),
        (lambda model, data: ReAct(0.5), EvaluationError, r"ReAct takes a network first, got 0.5; .*percentile=…"),
        (lambda model, data: KNN(model, k=0), EvaluationError, "k cannot be 0"),
        (lambda model, data: KNN(model, k=10).fit(data.train.images[:5]), DetectorError, "no neighbour number 10"),
        (lambda model, data: Energy(model).score(data.test.images[:0]), EvaluationError, "no images"),
        (lambda model, data: Energy(model).score([]), DataError, "no images"),
        (lambda model, data: Energy(model).score(5), DataError, "images, or images and labels, got int"),
        (lambda model, data: Energy(model).score("noise"), DataError, "images, or images and labels, got str"),
        (lambda model, data: Energy(model).score(data.test.images.long()), DataError, "uint8"),
        (lambda model, data: Energy(model).score(data.test.images.float()), DataError, r"within \[0, 1\]"),
        (lambda model, data: Energy(model).score(torch.full((2, 1, 8, 8), torch.nan)), DataError, "not finite"),
        (lambda model, data: SHE(model).fit((data.train.images, data.train.labels + 1)), EvaluationError, "3 classes"),
        (lambda model, data: SHE(model).fit((data.train.images, data.train.labels[:5])), DataError, "one an image"),
        (lambda model, data: SHE(model).fit([{"photo": 1}]), DataError, "none of the keys photo is that of the images"),
        (lambda model, data: SHE(model).fit((data.train.images, list("abc") * 30)), DataError, "labels are texts"),
        (lambda model, data: Energy(model).score((data.test.images, data.train.images)), DataError, "neither .N,. nor"),
        (lambda model, data: Mahalanobis(model).fit(data.train.images[:1].repeat(9, 1, 1, 1)), DetectorError, "labels"),
        (lambda model, data: DICE(lambda x: x.flatten(1)[:, :3]).fit(data), DetectorError, "no fully connected layer"),
        (lambda model, data: ViM(model, dimensions=12).fit(data), DetectorError, "leave none"),
    ],
)  # fmt: skip
def test_what_cannot_be_says_why(
    call: Callable[..., Any], kind: type[Exception], words: str, model: nn.Module, data: ImageData
) -> None:
    with pytest.raises(kind, match=words):
        call(model, data)


def test_a_set_without_the_split_says_so(model: nn.Module, data: ImageData) -> None:
    only = ImageData("some", data.classes, data.mean, data.std, False, train=data.train)
    with pytest.raises(DataError, match="no test split"):
        Energy(model).score(only)


def test_options_and_equality_know_nothing_of_the_network(model: nn.Module) -> None:
    assert KNN(model, k=3) == KNN(k=3) == make_detector("knn:k=3")
    assert repr(KNN(model, k=3)) == "KNN(k=3, bank_size=50000)"


def test_floats_are_scored_unrounded(model: nn.Module) -> None:
    images = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    seen: list[Tensor] = []

    def classify(images: Tensor) -> Tensor:
        seen.append(images)
        return model(images)  # type: ignore[no-any-return]

    MSP(classify).score(DataLoader(TensorDataset(images), batch_size=4))
    assert all(torch.equal(each, images[: len(each)]) for each in seen)


def test_one_image_or_several_is_asked_for(model: nn.Module) -> None:
    with pytest.raises(DataError, match="one or several"):
        MSP(model).score(iter(torch.rand(5, 1, 8, 8)))
