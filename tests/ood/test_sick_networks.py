"""Networks that have gone wrong: a reason for every detector that cannot work on them, scores from every other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.errors import EvaluationError, ModelWarning
from robustprune.ood import DETECTORS, Detector, Extractor, Outputs, fit_detectors, register_detector, score_outputs
from robustprune.ood.protocol import compare_scores

WIDTH, CLASSES = 12, 4


def network(change=lambda layers: None):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
    with torch.no_grad():
        change(layers)
    return layers


def findings(layers, labels=None):
    """Return scores, or the reason for none, by detector."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (200, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(200) % CLASSES if labels is None else labels
    extractor = Extractor(layers, images[:4])
    train, inside = extractor.run(images[:150], labels[:150]), extractor.run(images[150:], labels[150:])
    fitted = fit_detectors(DETECTORS.names(), train, inside)
    return {name: score_outputs(each, inside) for name, each in fitted.items()}


def reasons(found):
    return {name: each for name, each in found.items() if isinstance(each, str)}


def test_a_healthy_network_needs_no_excuse():
    found = findings(network())
    assert reasons(found) == {}
    assert all(np.isfinite(each).all() and each.shape == (50,) for each in found.values())


def test_all_zero_features():
    def kill(layers):
        layers[1].weight.zero_()
        layers[1].bias.fill_(-1)

    found = findings(network(kill))
    why = reasons(found)
    assert "do not vary" in why["mahalanobis"]
    assert "do not vary" in why["rmd"]
    assert "no direction" in why["knn"]
    assert "span no more than 6 of 12" in why["vim"]
    assert all("of 50 images are NaN" in why[name] for name in ("ash", "scale", "fdbd"))
    # The rest knows only that all images look the same.
    for name in set(found) - set(why):
        assert np.ptp(found[name]) == 0, name
    assert {"msp", "energy", "entropy", "gradnorm", "react", "dice"} <= set(found) - set(why)


def test_some_dead_features_are_no_reason():
    def kill_half(layers):
        layers[1].weight[: WIDTH // 4].zero_()
        layers[1].bias[: WIDTH // 4].fill_(-1)

    assert reasons(findings(network(kill_half))) == {}


def test_nan_logits():
    found = findings_with_warning(lambda layers: layers[3].weight.fill_(float("nan")))
    why = reasons(found)
    # Only those that look at features alone are left.
    assert set(found) - set(why) == {"mahalanobis", "rmd", "knn"}
    assert "the scores of 50 of 50 images are NaN or infinite" in why["msp"]
    assert "logits of the validation images are NaN" in why["temperature"]


def test_infinite_logits():
    found = findings_with_warning(lambda layers: layers[3].bias[:1].fill_(float("inf")))
    why = reasons(found)
    assert "the scores of 50 of 50 images are NaN or infinite" in why["energy"]
    assert set(found) - set(why) == {"mahalanobis", "rmd", "knn", "she"}


def test_nan_features():
    why = reasons(findings_with_warning(lambda layers: layers[1].weight.fill_(float("nan"))))
    assert set(why) == set(DETECTORS.names())
    assert "features of the training images are NaN" in why["mahalanobis"]


def findings_with_warning(change):
    # Nothing is folded here, so freezing has nothing to warn of; were there, the network would still be used.
    return findings(network(change))


def test_a_warning_of_freezing_is_no_error():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Flatten(), nn.Linear(64, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES)
    )
    nn.init.constant_(layers[4].weight, float("nan"))
    with pytest.warns(ModelWarning, match="cannot be folded"):
        found = findings(layers.eval())
    assert "are NaN" in reasons(found)["msp"]


def test_a_network_that_always_says_the_same():
    found = findings(network(lambda layers: layers[3].bias[2].add_(100)))
    assert reasons(found) == {}


def test_a_class_that_is_never_recognized_in_training_but_seen_later():
    layers = network()
    labels = torch.full((200,), 3)
    why = reasons(findings(layers, labels))
    assert "of which no training image is recognized" in why["she"]
    assert set(why) == {"she"}  # classes without images have no mean, and need none


def test_equal_rows_in_the_last_layer():
    def repeat(layers):
        layers[3].weight[1] = layers[3].weight[0]
        layers[3].bias[:2] = 10  # and both are predicted

    assert set(reasons(findings(network(repeat)))) == {"fdbd"}


def test_a_network_cut_off_from_its_images():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, CLASSES)

        def forward(self, images):
            return self.layer(images.detach().flatten(1))

    assert "no gradient" in reasons(findings(Detached()))["odin"]


def test_too_few_training_images_and_none():
    images = torch.rand(20, 1, 8, 8)
    extractor = Extractor(network(), images)
    few = extractor.run(images, torch.arange(20) % CLASSES)
    assert "no neighbour number 50" in score_outputs(fit_detectors(["knn"], few, few)["knn"], few)
    without = fit_detectors(DETECTORS.names(), None, None)
    scores = {name: score_outputs(each, few) for name, each in without.items()}
    assert set(scores) - set(reasons(scores)) == {
        "msp", "max_logit", "energy", "entropy", "gen", "gradnorm", "odin", "ash", "scale",
    }  # fmt: skip
    assert "no training images" in scores["vim"]
    assert "no validation images" in fit_detectors(["temperature"], few, None)["temperature"].reason


def test_empty_sets():
    images = torch.rand(80, 1, 8, 8)
    extractor = Extractor(network(), images[:4])
    own = extractor.run(images, torch.arange(80) % CLASSES)
    none = own.take(slice(0))
    for name, fitted in fit_detectors(DETECTORS.names(), own, own).items():
        assert score_outputs(fitted, none) == "there are no images to score", name
    for name, fitted in fit_detectors(DETECTORS.names(), none, own).items():
        assert fitted.reason in (None, "the data set has no training images to fit on"), name


def test_fewer_training_images_than_features_are_said():
    images = torch.rand(60, 1, 8, 8)
    extractor = Extractor(network(), images[:4])
    own = extractor.run(images, torch.arange(60) % CLASSES)
    for count, is_said in ((WIDTH + CLASSES - 1, True), (WIDTH + CLASSES, False)):
        fitted = fit_detectors(["mahalanobis", "rmd"], own.take(slice(count)), own)
        for each in fitted.values():
            assert (each.detector.remark is not None and "too few" in each.detector.remark) == is_said


def test_one_image_on_either_side_and_identical_ones():
    images = torch.rand(200, 1, 8, 8)
    extractor = Extractor(network(), images[:4])
    own = extractor.run(images, torch.arange(200) % CLASSES)
    fitted = fit_detectors(DETECTORS.names(), own, own)
    one, same = own.take(slice(1)), own.take(torch.zeros(30, dtype=torch.int64))
    for inside, outside in ((own, one), (one, own), (own, same), (same, same)):
        found = [{name: score_outputs(each, part) for name, each in fitted.items()} for part in (inside, outside)]
        for name in fitted:
            entry = compare_scores(found[0][name], found[1][name], resamples=20)
            assert entry.auroc is not None
            assert (entry.intervals == {}) == (min(len(inside), len(outside)) == 1)
            if inside is same:
                assert entry.auroc == 0.5


def test_no_features_to_be_had():
    class NoLayer(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, :3]

    images = torch.rand(60, 1, 8, 8)
    extractor = Extractor(NoLayer(), images)
    outputs = extractor.run(images, torch.arange(60) % 3)
    scores = {
        name: score_outputs(each, outputs) for name, each in fit_detectors(DETECTORS.names(), outputs, outputs).items()
    }
    for name in ("knn", "react", "vim"):
        assert "no fully connected layer" in scores[name]
    assert set(scores) - set(reasons(scores)) == {"msp", "max_logit", "energy", "entropy", "gen", "temperature", "odin"}


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [(lambda outputs: 1 / 0, "ZeroDivisionError"), (lambda outputs: outputs.logits, "must return a tensor of shape")],
)
def test_a_plug_in_that_fails_is_named(answer, complaint):
    @register_detector("broken")
    class Broken(Detector):
        """Fails."""

        def __call__(self, outputs):
            return answer(outputs)

    try:
        with pytest.raises(EvaluationError, match=f"'broken'.*{complaint}"):
            score_outputs(fit_detectors(["broken"], None, None)["broken"], Outputs(torch.zeros(2, 3)))
    finally:
        del DETECTORS._registered["broken"]
