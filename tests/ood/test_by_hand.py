"""Scores worked out by hand, or equal to what the words of the definition say when carried out literally."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from robustprune.errors import DetectorError, EvaluationError, RobustPruneError, UnknownNameError
from robustprune.inference import LinearHead
from robustprune.ood.detector import DETECTORS, Detector, detector_options, make_detector, register_detector
from robustprune.ood.detectors.ash import Scale, shape_activations
from robustprune.ood.detectors.dice import sparsified
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.detectors.entropy import GEN, Entropy
from robustprune.ood.detectors.fdbd import FDBD
from robustprune.ood.detectors.gradnorm import GradNorm
from robustprune.ood.detectors.knn import KNN
from robustprune.ood.detectors.mahalanobis import fit_gaussians
from robustprune.ood.detectors.msp import MSP, MaxLogit
from robustprune.ood.detectors.odin import ODIN
from robustprune.ood.detectors.react import ReAct
from robustprune.ood.detectors.she import SHE
from robustprune.ood.detectors.vim import ViM, principal_dimensions
from robustprune.ood.outputs import Outputs


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


LOGITS = tensor([math.log(2), math.log(1), math.log(1)], [0.0, 0.0, 0.0])  # p = (½, ¼, ¼) and (⅓, ⅓, ⅓)


def test_scores_of_logits():
    third = 1 / 3
    assert MSP.score(LOGITS).tolist() == pytest.approx([-0.5, -third])
    assert MaxLogit.score(LOGITS).tolist() == pytest.approx([-math.log(2), 0])
    assert Energy.score(LOGITS).tolist() == pytest.approx([-math.log(4), -math.log(3)])
    assert Energy.score(LOGITS, 2.0).tolist() == pytest.approx([-2 * math.log(math.sqrt(2) + 2), -2 * math.log(3)])
    assert Entropy.score(LOGITS).tolist() == pytest.approx([1.5 * math.log(2), math.log(3)])
    assert GEN.score(LOGITS, 0.5, 2).tolist() == pytest.approx(
        [math.sqrt(0.5 * 0.5) + math.sqrt(0.25 * 0.75), 2 * math.sqrt(third * 2 * third)]
    )


def test_certainty_is_no_problem():
    certain = tensor([1000.0, 0, 0])
    assert Entropy.score(certain).item() == 0
    assert 0 <= GEN.score(certain).item() < 0.01
    certain.requires_grad_()
    GEN.score(certain).sum().backward()
    assert certain.grad.isfinite().all()


def test_gaussians():
    features, groups = tensor([1.0, 0], [3, 0], [10, 1], [10, 5]), torch.tensor([0, 0, 2, 2])
    # Means (2, 0) and (10, 3); pooled variances (1 + 1)/4 and (4 + 4)/4, no covariance.
    distances = fit_gaussians(features, groups).distances(tensor([2.0, 2], [10, 3]))
    assert distances.flatten().tolist() == pytest.approx([2, 64 / 0.5 + 0.5, 64 / 0.5 + 4.5, 0], abs=1e-5)


def test_a_dead_feature_changes_no_distance_among_the_living():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    groups = torch.arange(200) % 4
    plain = fit_gaussians(features, groups).distances(features)
    dead = torch.cat([features, torch.zeros(200, 1, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(fit_gaussians(dead, groups).distances(dead), plain, rtol=1e-7, atol=1e-7)
    doubled = torch.cat([features, features[:, :1]], dim=1)
    torch.testing.assert_close(fit_gaussians(doubled, groups).distances(doubled), plain, rtol=1e-6, atol=1e-6)


def test_the_neighbour_that_counts_is_the_kth():
    bank = tensor([2.0, 0], [0, 3], [-1, 0])
    # From (1, 0), lengths aside: distances 0, √2 and 2.
    query = tensor([5.0, 0])
    assert [KNN.score(query, bank, k).item() for k in (1, 2, 3)] == pytest.approx([0, math.sqrt(2), 2], abs=1e-11)


def test_a_bank_is_thinned_and_never_short():
    generator = torch.Generator().manual_seed(0)
    train = Outputs(
        torch.zeros(300, 2), torch.rand(300, 4, generator=generator).double(), labels=torch.zeros(300).long()
    )
    detector = KNN(k=2, bank_size=100)
    detector.fit(train, train)
    assert detector.bank.shape == (100, 4)
    rows = {tuple(row) for row in (train.features / train.features.norm(dim=1, keepdim=True)).tolist()}
    assert {tuple(row) for row in detector.bank.tolist()} <= rows


def test_vim():
    # b = 0, so the origin is 0. Training features vary along the first axis most: the residual is the second.
    head = LinearHead(tensor([1.0, 0], [0, 1]), tensor(0.0, 0))
    features = tensor([4.0, 1], [-4, 1], [4, -1], [-4, -1])
    train = Outputs(head(features), features, head, torch.zeros(4).long())
    detector = ViM()
    detector.fit(train, train)
    # Mean largest logit (4 + 1 + 4 − 1)/4 = 2, mean residual 1: α = 2.
    query = tensor([3.0, -5])
    found = detector(Outputs(head(query), query, head))
    assert found.item() == pytest.approx(2 * 5 - math.log(math.exp(3) + math.exp(-5)))
    assert [principal_dimensions(width) for width in (64, 512, 768, 1024, 2048)] == [32, 256, 512, 512, 1000]


def test_react_clips_at_the_percentile_of_all_activations():
    features = torch.arange(10, dtype=torch.float64).reshape(5, 2)
    head = LinearHead(torch.eye(2, dtype=torch.float64), tensor(0.0, 0))
    detector = ReAct(percentile=0.5)
    detector.fit(Outputs(features, features, head, torch.zeros(5).long()), Outputs(features[:0]))
    assert detector(Outputs(features, tensor([100.0, 1]), head)).item() == pytest.approx(
        -math.log(math.exp(4.5) + math.exp(1))
    )


def test_she_keeps_only_what_was_right():
    features, logits = tensor([1.0, 0], [3, 0], [0, 100]), tensor([1.0, 0], [1, 0], [1, 0])
    train = Outputs(logits, features, labels=torch.tensor([0, 0, 1]))
    detector = SHE()
    detector.fit(train, train)
    assert detector(Outputs(tensor([1.0, 0]), tensor([5.0, 7]))).item() == -10  # the pattern of class 0 is (2, 0)


def test_fdbd_is_distance_to_boundaries_over_distance_to_the_mean():
    head = LinearHead(tensor([1.0, 0], [-1, 0], [0, 2]), tensor(0.0, 0, -6))
    query, mean = tensor([3.0, 1]), tensor(0.0, 1)
    # Boundaries of class 0: with class 1 the line x = 0, at distance 3; with class 2 x − 2y + 6 = 0: 7/√5.
    found = FDBD.score(query, head(query), head, mean)
    assert found.item() == pytest.approx(-(3 + 7 / math.sqrt(5)) / 2 / 3)


def test_gradnorm_is_the_gradient_of_the_last_layer():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    layer = nn.Linear(5, 4, dtype=torch.float64)
    expected = []
    for row in features:
        loss = -layer(row).log_softmax(dim=0).mean()
        (gradient,) = torch.autograd.grad(loss, layer.weight)
        expected.append(-gradient.abs().sum().item())
    assert GradNorm.score(features, layer(features)).tolist() == pytest.approx(expected)


def test_odin_steps_towards_certainty_on_the_scale_of_pixels():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images = torch.rand(5, 1, 2, 2)
    step = ODIN.step(network, images)
    assert step.abs().flatten().tolist() == pytest.approx([0.0014] * 20)
    with torch.no_grad():
        before, after = (ODIN.score(network(each).double()) for each in (images, images + step))
    assert (after < before).all()


def test_activation_shaping():
    features = tensor([4.0, 3, 2, 1])
    cut = tensor([4.0, 3, 0, 0])
    assert torch.equal(shape_activations(features, 0.5, "p"), cut)
    assert torch.equal(shape_activations(features, 0.5, "b"), tensor([5.0, 5, 0, 0]))
    torch.testing.assert_close(shape_activations(features, 0.5, "s"), cut * math.exp(10 / 7))
    head = LinearHead(torch.eye(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
    assert Scale.score(features, head, 0.5).item() == pytest.approx(
        -np.logaddexp.reduce(features.numpy()[0] * math.exp(10 / 7))
    )


def test_dice_keeps_the_weights_that_matter():
    head = LinearHead(tensor([1.0, -2], [3, 4]), tensor(1.0, 2))
    # Contributions (10, −2), (30, 4): the upper half is (1, 1) and (2, 1).
    kept = sparsified(head, tensor(10.0, 1), 0.5)
    assert kept.weight.tolist() == [[1, 0], [3, 0]]
    assert kept.bias.tolist() == [1, 2]


def test_names_and_options():
    assert {"msp", "energy", "knn", "rmd", "vim", "odin", "dice"} <= set(DETECTORS.names())
    assert len(DETECTORS.names()) >= 18
    for name in DETECTORS.names():
        assert isinstance(make_detector(name), Detector)
        assert type(make_detector(name)).__doc__
    assert detector_options("knn") == {"k": 50, "bank_size": 50_000}
    assert detector_options("vim") == {"dimensions": 0}
    assert make_detector("knn:k=7").k == 7
    with pytest.raises(UnknownNameError, match="Did you mean 'mahalanobis'"):
        make_detector("mahalonobis")
    with pytest.raises(EvaluationError, match=r"'K' is no option.* Did you mean 'k'.*k=50"):
        make_detector("knn:K")
    with pytest.raises(EvaluationError, match="percentile cannot be"):
        make_detector("ash:percentile=90")
    with pytest.raises(EvaluationError, match=r"variant cannot be 'x': .*'s', 'p' or 'b'"):
        make_detector("ash:variant=x")


def test_a_detector_of_ones_own():
    @register_detector("brightness")
    class Brightness(Detector):
        """Mean pixel."""

        def __call__(self, outputs):
            return outputs.images.float().flatten(1).mean(dim=1)

    try:
        outputs = Outputs(torch.zeros(2, 3), images=torch.tensor([[[[0]]], [[[8]]]], dtype=torch.uint8))
        assert make_detector("brightness")(outputs).tolist() == [0, 8]
        assert detector_options("brightness") == {}
    finally:
        del DETECTORS._registered["brightness"]


@pytest.mark.parametrize(
    "name",
    [
        "ash:percentile=abc", "dice:sparsity=abc", "scale:percentile=nan", "knn:k=2.5", "knn:k=", "knn:k=0",
        "knn:bank_size=10", "energy:temperature=abc", "energy:temperature=-1", "odin:temperature=0",
        "react:percentile=2", "gen:classes=0", "vim:dimensions=1.5",
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_found_before_anything_is_computed(name):
    with pytest.raises(RobustPruneError, match=name.partition(":")[2].partition("=")[0]):
        make_detector(name)


def test_a_formula_is_given_what_its_arguments_are_called():
    @register_detector("lengths")
    class Lengths(Detector):
        """Length of the features, from a center."""

        @staticmethod
        def score(features, center):
            return (features - center).norm(dim=1)

        def learn(self, train, held_out):
            self.center = train.need_features().mean(dim=0)

    try:
        features = tensor([0.0, 0], [6, 8])
        outputs, detector = Outputs(features, features), make_detector("lengths")
        with pytest.raises(DetectorError, match="has not been fitted"):
            detector(outputs)
        detector.fit(outputs, outputs)
        assert detector(outputs).tolist() == [5, 5]
    finally:
        del DETECTORS._registered["lengths"]


def test_a_whole_number_is_taken_where_any_number_is():
    assert make_detector("energy:temperature=2").temperature == 2
    assert make_detector("ash: variant = b , percentile=0.8") == make_detector("ash:variant=b,percentile=0.8")


def test_a_detector_is_a_name():
    for name in (5, None, ["msp"]):
        with pytest.raises(EvaluationError, match="is given by its name"):
            make_detector(name)


@pytest.mark.parametrize("name", DETECTORS.names())
def test_an_option_without_a_value_or_given_twice(name):
    for option, default in detector_options(name).items():
        with pytest.raises(
            EvaluationError, match=re.escape(f"{option} needs a value, as in {name}:{option}={default}")
        ):
            make_detector(f"{name}:{option}")
        with pytest.raises(RobustPruneError, match=f"'{option}' is given twice"):
            make_detector(f"{name}:{option}={default},{option}={default}")
    assert make_detector("odin:epsilon=1e-3").epsilon == 1e-3
    assert make_detector("ash:variant=b").variant == "b"
