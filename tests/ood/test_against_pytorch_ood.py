"""The oracle is pytorch_ood 0.4.0, where it has the same detector; signs and constants that differ are in the table.

It computes in float32 by default, and inverts covariances in it; the default type is raised so that both compute
the same formula rather than the same rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from extras import needs
from torch import Tensor, nn

from robustprune.ood.detector import make_detector
from robustprune.ood.detector_scores import fit_detectors, score_outputs
from robustprune.ood.detectors.temperature import Temperature
from robustprune.ood.outputs import Outputs

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def _in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def oracle():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return needs("pytorch_ood.detector")


def ours(name: str, case) -> dict[str, Tensor]:
    fitted = fit_detectors([name], case.train, case.held_out)[name]
    return {part: torch.tensor(score_outputs(fitted, getattr(case, part))) for part in ("inside", "outside")}


def assert_same(found: dict[str, Tensor], score: Callable[[Outputs], Tensor], case) -> None:
    for part, scores in found.items():
        with torch.no_grad():
            expected = score(getattr(case, part).double())
        assert scores.std() > 1e-3 * scores.abs().mean() or scores.std() > 1e-3  # a constant would agree by chance
        torch.testing.assert_close(scores, expected.double(), rtol=TOLERANCE, atol=TOLERANCE)


LOGIT_DETECTORS = {
    "msp": lambda o: o.MaxSoftmax(None),
    "max_logit": lambda o: o.MaxLogit(None),
    "energy": lambda o: o.EnergyBased(None),
    "energy:temperature=2": lambda o: o.EnergyBased(None, t=2.0),
    "entropy": lambda o: o.Entropy(None),
}


@pytest.mark.parametrize("name", LOGIT_DETECTORS)
def test_detectors_of_logits(name, case, oracle):
    assert_same(ours(name, case), lambda outputs: LOGIT_DETECTORS[name](oracle).predict_logits(outputs.logits), case)


@pytest.mark.parametrize("classes", [3, 10])
def test_gen_is_their_mean_times_the_classes(classes, case, oracle):
    theirs = oracle.GEN(None, M=classes)
    found = ours(f"gen:classes={classes}", case)
    for part in found:
        logits = getattr(case, part).logits.double()
        # They raise probabilities to 1e-7, which the power of 0.1 makes visible; the paper and we do not.
        is_clear = logits.softmax(1).topk(classes, 1).values[:, -1] > 1e-7
        is_clear &= logits.softmax(1).amax(1) < 1 - 1e-7
        assert is_clear.sum() > 100
        expected = classes * theirs.predict_logits(logits)
        torch.testing.assert_close(found[part][is_clear], expected[is_clear], rtol=TOLERANCE, atol=TOLERANCE)


def test_temperature(case, oracle):
    detector = Temperature()
    detector.fit(case.train.double(), case.held_out.double())
    theirs = oracle.TemperatureScaling(None)
    theirs.fit_logits(case.held_out.logits.double(), case.held_out.labels)  # finds an optimum only roughly
    with torch.no_grad():
        theirs.t.fill_(detector.temperature)
    assert_same(ours("temperature", case), lambda outputs: theirs.predict_logits(outputs.logits), case)


def test_mahalanobis_is_theirs_times_twice_the_training_images(case, oracle):
    # They leave the sum of squares undivided, and halve the distance.
    theirs = oracle.Mahalanobis(None).fit_features(case.train.features.double(), case.train.labels)
    factor = 2 * len(case.train)
    assert_same(ours("mahalanobis", case), lambda outputs: factor * theirs.predict_features(outputs.features), case)


def test_rmd_is_theirs_times_the_training_images(case, oracle):
    theirs = oracle.RMD(None).fit_features(case.train.features.double(), case.train.labels)
    assert_same(ours("rmd", case), lambda outputs: len(case.train) * theirs.predict_features(outputs.features), case)


@pytest.mark.parametrize("k", [1, 50])
def test_knn(k, case, oracle):
    theirs = oracle.KNN(None, k=k).fit_features(case.train.features.double(), case.train.labels)
    assert_same(ours(f"knn:k={k}", case), lambda outputs: theirs.predict_features(outputs.features), case)


def test_vim(case, oracle):
    features, head = case.train.features.double(), case.train.double().head
    theirs = oracle.ViM(None, features.shape[1] // 2, head.weight, head.bias)
    # It casts to float32 whatever it is given.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        theirs.w, theirs.b = head.weight, head.bias
        theirs.u = -(torch.linalg.pinv(head.weight) @ head.bias)
        theirs.fit_features(features, case.train.labels)
        assert_same(ours("vim", case), lambda outputs: theirs.predict_features(outputs.features), case)


def as_maps(features: Tensor) -> Tensor:
    return features[:, :, None, None]


def test_react(case, oracle):
    train = case.train.double()
    theirs = oracle.ReAct(None, train.head).fit_feature_maps(train.features, train.labels)
    assert_same(ours("react", case), lambda outputs: theirs.predict_feature_maps(outputs.features), case)


@pytest.mark.parametrize("variant", ["s", "p", "b"])
def test_ash(variant, case, oracle):
    head = case.train.double().head
    theirs = oracle.ASH(None, lambda maps: head(maps.flatten(1)), variant=f"ash-{variant}", percentile=0.75)
    assert_same(
        ours(f"ash:percentile=0.75,variant={variant}", case),
        lambda outputs: theirs.predict_feature_maps(as_maps(outputs.features)),
        case,
    )


def test_scale(case, oracle):
    head = case.train.double().head
    theirs = oracle.SCALE(None, lambda maps: head(maps.flatten(1)), percentile=0.85)
    assert_same(ours("scale", case), lambda outputs: theirs.predict_feature_maps(as_maps(outputs.features)), case)


def test_dice(case, oracle):
    head = case.train.double().head
    theirs = oracle.DICE(None, head.weight, head.bias, p=0.9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        theirs.fit_features(case.train.features.double(), case.train.labels)
    assert_same(ours("dice", case), lambda outputs: theirs.predict_features(outputs.features), case)


def test_she(case, oracle):
    train = case.train.double()
    theirs = oracle.SHE(None, train.head).fit_features(train.features, train.labels)
    assert_same(ours("she", case), lambda outputs: theirs.predict_features(outputs.features), case)


def as_layer(outputs: Outputs) -> nn.Linear:
    head = outputs.double().head
    layer = nn.Linear(*head.weight.T.shape)
    layer.weight, layer.bias = nn.Parameter(head.weight), nn.Parameter(head.bias)
    return layer


def test_fdbd(case, oracle):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        theirs = oracle.fDBD(None, as_layer(case.train))
        theirs.fit_features(case.train.features.double(), case.train.labels)
        assert_same(ours("fdbd", case), lambda outputs: theirs.predict_features(outputs.features), case)


def test_gradnorm_is_the_gradient_that_they_compute(case, oracle):
    theirs = oracle.GradNorm(as_layer(case.train), param_filter=lambda name: name == "weight")
    assert_same(ours("gradnorm", case), lambda outputs: theirs.predict(outputs.features), case)


def test_odin(case, oracle):
    network = case.network.double()
    theirs = oracle.ODIN(network)
    try:
        for part in ("inside", "outside"):
            outputs = getattr(case, part)
            expected = theirs.predict(outputs.images.double() / 255)
            found = make_detector("odin")(outputs)
            # At T = 1000 scores lie within 0.01 of −1/K: compared on the scale of their spread.
            assert (found - expected).abs().max() < TOLERANCE * expected.std()
    finally:
        network.float()
