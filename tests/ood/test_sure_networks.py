"""Networks that are so sure that softmax rounds to 1, and networks that rule classes out by a logit of −∞."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robustprune.metrics import detection_figures
from robustprune.ood import DETECTORS, Extractor, Outputs, fit_detectors, make_detector, score_outputs
from robustprune.ood.detectors.entropy import GEN
from robustprune.ood.detectors.msp import MSP
from robustprune.ood.detectors.odin import ODIN

BY_CERTAINTY = ["msp", "temperature", "entropy", "gen"]


def two_logits(margins):
    """Return logits of two classes, for which every score of certainty ranks as the margin does."""
    return torch.stack([torch.as_tensor(margins), torch.zeros(len(margins), dtype=torch.float64)], dim=1)


@pytest.mark.parametrize("name", BY_CERTAINTY)
@given(st.lists(st.integers(1, 700), min_size=2, max_size=30, unique=True))
def test_no_two_margins_tie(name, margins):
    logits = two_logits(np.sort(margins).astype(np.float64))
    scores = make_detector(name)(Outputs(logits)).numpy()
    assert (np.diff(scores) < 0).all()


@given(st.lists(st.floats(0.01, 1e4), min_size=2, max_size=30, unique=True), st.sampled_from([1.0, 1e2, 1e4]))
def test_the_largest_probability_ranks_as_if_it_did_not_round(margins, scale):
    margins = np.sort(np.round(margins, 2)) * scale
    scores = MSP.score(two_logits(margins)).numpy()
    assert (np.diff(scores)[np.diff(margins) > 0] < 0).all()
    np.testing.assert_allclose(scores, -1 / (1 + np.exp(-margins)), atol=1e-6)


def test_single_precision_loses_no_rank_either():
    scores = MSP.score(two_logits([16.0, 17, 18, 19, 20]).float())
    assert scores.dtype == torch.float64
    assert (scores.diff() < 0).all()


def test_logits_ten_thousand_times_as_large_are_told_apart_as_before():
    random = np.random.default_rng(0)
    inside, outside = (torch.tensor(random.gamma(shape, 1, 500)) for shape in (6, 3))
    for scale in (1.0, 100.0, 1e4):
        scores = [MSP.score(two_logits(scale * each)) for each in (inside, outside)]
        assert detection_figures(*scores).auroc == pytest.approx(detection_figures(-inside, -outside).auroc, abs=1e-12)


def test_gen_by_hand_where_the_largest_probability_rounds_to_1():
    # p and 1 − p are e^−m but for e^−2m, either way round: the sum is 2·e^(−γm).
    for margin in (40.0, 100.0, 600.0):
        assert GEN.score(two_logits([margin])).item() == pytest.approx(2 * np.exp(-0.1 * margin), rel=1e-12)


def test_odin_steps_towards_certainty_where_the_network_is_sure():
    class Sure(nn.Module):
        def forward(self, images):
            # The margin grows by the first pixel and shrinks by the second.
            flat = images.flatten(1)
            margin = 500 + flat[:, 0] - flat[:, 1]
            return torch.stack([margin, torch.zeros_like(margin)], dim=1)

    step = ODIN.step(Sure(), torch.full((3, 1, 1, 4), 0.5), temperature=1.0, epsilon=0.01)
    assert step.flatten(1).tolist() == [pytest.approx([0.01, -0.01, 0, 0])] * 3


def masked(logits, classes=3):
    """Return the logits with further classes that are ruled out."""
    return torch.cat([logits, logits.new_full((len(logits), classes), -torch.inf)], dim=1)


@pytest.mark.parametrize("name", ["msp", "max_logit", "energy", "entropy", "gen", "energy:temperature=2"])
def test_classes_that_are_ruled_out_change_no_score(name):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    detector = make_detector(name)
    torch.testing.assert_close(detector(Outputs(masked(logits))), detector(Outputs(logits)), rtol=1e-12, atol=1e-12)
    free = masked(logits).requires_grad_()
    detector(Outputs(free)).sum().backward()
    assert free.grad[:, :4].isfinite().all()


def test_a_network_that_rules_classes_out_by_its_last_bias():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 6))
    bare = nn.Sequential(*layers[:3], nn.Linear(12, 4))
    with torch.no_grad():
        bare[3].weight.copy_(layers[3].weight[:4])
        bare[3].bias.copy_(layers[3].bias[:4])
        layers[3].bias[4:] = -torch.inf
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (150, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(150) % 4
    found = []
    for network in (layers, bare):
        outputs = Extractor(network, images[:4]).run(images, labels)
        fitted = fit_detectors(DETECTORS.names(), outputs, outputs)
        found.append({name: score_outputs(each, outputs) for name, each in fitted.items()})
    with_mask, without = found
    # gradnorm counts the classes; vim needs the bias as a number, and says so; dice ranks the weights of all classes.
    assert "weights of the last layer are NaN or infinite" in with_mask["vim"]
    for name in set(DETECTORS.names()) - {"gradnorm", "vim", "dice", "odin"}:
        np.testing.assert_allclose(with_mask[name], without[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert all(np.isfinite(with_mask[name]).all() for name in ("gradnorm", "dice", "odin"))


def test_a_network_that_leaves_one_class_possible():
    logits = masked(torch.zeros(5, 1, dtype=torch.float64))
    for name in BY_CERTAINTY:
        scores = score_outputs(
            fit_detectors([name], Outputs(logits, labels=torch.zeros(5).long()), None)[name], Outputs(logits)
        )
        assert isinstance(scores, str) or np.isfinite(scores).all()
        assert isinstance(scores, str) or np.ptp(scores) == 0
