"""The protocol: what is fitted on what, what is compared with what, and what is said when something is not there."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

from robustprune.data import InMemorySplit, load_data
from robustprune.errors import DataError, EvaluationError, UnknownNameError
from robustprune.inference import predict_logits
from robustprune.ood import DETECTORS, OOD, PRESETS, evaluate_ood
from robustprune.ood.image_sets import expand_sets, group_of, load_set


@pytest.fixture(autouse=True)
def _empty_root(tmp_path, monkeypatch):
    monkeypatch.setenv("ROBUSTPRUNE_DATA", str(tmp_path / "data"))


@pytest.mark.quick_cases(1)
def test_figures_are_those_of_the_scores_beside_them(case, digits):
    result = evaluate_ood(
        case.network, digits, OOD(["noise", "photo-patches"], detectors=["msp", "knn", "vim"], resamples=50)
    )
    for place, entry in enumerate(result.entries):
        assert (entry.n_in, entry.n_out) == (359, 2000)
        for name, figures in entry.detectors.items():
            inside, outside = result.samples[f"ood_in_{name}"], result.samples[f"ood{place}_{name}"]
            labels = np.repeat([0, 1], [len(inside), len(outside)])
            assert figures.auroc == pytest.approx(roc_auc_score(labels, np.concatenate([inside, outside])))
            low, high = figures.intervals["auroc"]
            assert low <= figures.auroc <= high
            assert figures.prevalence == pytest.approx(2000 / 2359)
            assert figures.reason is None


def test_detectors_are_fitted_on_training_images_as_they_are(case, digits):
    result = evaluate_ood(case.network, digits, OOD("noise", detectors="knn", resamples=0))

    def features(split):  # by the plain network, in training order, without anything of this package's detection
        caught = []
        last = [module for module in case.network.modules() if isinstance(module, nn.Linear)][-1]
        handle = last.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))
        predict_logits(case.network, digits.require(split).images, batch_size=10_000)
        handle.remove()
        return (caught[0] / caught[0].norm(dim=1, keepdim=True)).numpy()

    neighbours = NearestNeighbors(n_neighbors=50).fit(features("train"))
    expected = neighbours.kneighbors(features("test"))[0][:, -1]
    np.testing.assert_allclose(result.samples["ood_in_knn"], expected, atol=1e-3)
    assert result.summary.protocol["fitted_on"] == {"train": 1294, "val": 144}


def with_labels(data, part, labels):
    return replace(data, **{part: InMemorySplit(data.require(part).images, labels)})


def test_test_labels_decide_nothing_and_validation_labels_only_the_temperature(case, digits):
    asked = OOD("noise", detectors=["temperature", "rmd", "she", "dice"], resamples=0)
    before = evaluate_ood(case.network, digits, asked)
    shuffled = with_labels(digits, "test", digits.require("test").labels.flip(0))
    after = evaluate_ood(case.network, shuffled, asked)
    assert after.entries == before.entries
    wrong = with_labels(digits, "val", (digits.require("val").labels + 1) % 10)
    after = evaluate_ood(case.network, wrong, asked)
    changed = [
        name for name in asked.detectors if (after.samples[f"ood_in_{name}"] != before.samples[f"ood_in_{name}"]).any()
    ]
    assert changed == ["temperature"]


def test_a_temperature_that_nothing_decides_is_said_where_its_figures_are(case, digits):
    images = digits.require("val").images
    right = with_labels(digits, "val", predict_logits(case.network, images).argmax(dim=1))
    result = evaluate_ood(
        case.network, right, OOD("noise", detectors=["temperature", "msp"], full_spectrum=True, resamples=0), limit=60
    )
    (entry,) = result.entries
    for table in (entry.detectors, entry.full_spectrum):
        assert "all 144 validation images are classified correctly" in table["temperature"].reason
        assert table["temperature"].auroc == table["msp"].auroc
        assert table["msp"].reason is None
    assert result.summary.selective["temperature"].reason is None


def test_resamples_are_counted_before_anything_is_computed(digits):
    class Untouched(nn.Module):
        def forward(self, images):
            raise AssertionError("asked before the settings were looked at")

    for resamples in (1, 19, 25.5, -1):
        with pytest.raises(EvaluationError, match="20 resamples"):
            evaluate_ood(Untouched(), digits, OOD("noise", detectors="msp", resamples=resamples))


@pytest.mark.quick_cases(1)
def test_everything_is_left_as_it_was(case, digits):
    network = case.network
    network.train()
    try:
        modes = [module.training for module in network.modules()]
        state = {name: value.clone() for name, value in network.state_dict().items()}
        generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        evaluate_ood(
            network,
            digits,
            OOD("noise", attack_epsilons="1/255", attack_limit=4, attack_steps=1, resamples=0),
            limit=60,
        )
        assert [module.training for module in network.modules()] == modes
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
        assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
        assert torch.equal(torch.get_rng_state(), generators[0])
        assert random.getstate() == generators[1]
        np.testing.assert_array_equal(np.random.get_state()[1], generators[2])
    finally:
        network.eval()


def test_all_detectors_by_default(case, digits):
    result = evaluate_ood(case.network, digits, OOD("constant", resamples=0), limit=60)
    assert list(result.entries[0].detectors) == DETECTORS.names()
    result = evaluate_ood(
        case.network, digits, OOD(["constant", "noise", "constant"], detectors=["energy", "knn:k=3"], resamples=0),
        limit=60,
    )  # fmt: skip
    assert [(entry.dataset, list(entry.detectors)) for entry in result.entries] == [
        ("constant", ["energy", "knn:k=3"]), ("noise", ["energy", "knn:k=3"]),
    ]  # fmt: skip
    assert list(result.summary.selective) == ["energy", "knn:k=3"]


def test_selective_prediction_ends_at_the_error_rate(case, digits):
    result = evaluate_ood(case.network, digits, OOD("noise", detectors="msp", resamples=0))
    logits = predict_logits(case.network, digits.require("test").images)
    error = float((logits.argmax(dim=1) != digits.require("test").labels).float().mean())
    entry = result.summary.selective["msp"]
    assert entry.coverage[-1] == 1
    assert entry.risk[-1] == pytest.approx(error)
    assert entry.risk[9] <= entry.risk[-1]
    assert len(entry.risk) == 20


def test_a_preset_names_what_is_missing_and_goes_on(case, digits):
    result = evaluate_ood(
        case.network, digits, OOD(["near", "far", "sanity"], detectors=["msp", "energy"], resamples=0), limit=60
    )
    found = [entry.dataset for entry in result.entries]
    asked = [name for sets in PRESETS["digits"].values() for name in sets]
    assert set(found) | set(result.summary.missing) == {*asked, "noise", "uniform", "constant"}
    assert not set(found) & set(result.summary.missing)
    assert "put the images there" in result.summary.missing["textures"]
    assert "photo-patches" in found
    means = {mean.group: mean for mean in result.summary.groups}
    own = [entry.detectors["msp"].auroc for entry in result.entries if entry.group == "far"]
    assert means["far"].detectors["msp"]["auroc"] == pytest.approx(np.mean(own))
    assert {entry.group for entry in result.entries if entry.dataset == "noise"} == {"sanity"}


def test_what_is_asked_for_by_name_has_to_be_there(case, digits):
    with pytest.raises(DataError, match="no folder textures or file textures"):
        evaluate_ood(case.network, digits, OOD(["noise", "textures"], detectors="msp", resamples=0), limit=60)
    with pytest.raises(DataError, match="'cifar10' was not found"):
        evaluate_ood(case.network, digits, OOD("cifar10", detectors="msp", resamples=0), limit=60)
    with pytest.raises(UnknownNameError, match="Did you mean 'fashion-mnist'"):
        evaluate_ood(case.network, digits, OOD("fashion-minst", detectors="msp", resamples=0), limit=60)
    with pytest.raises(EvaluationError, match="itself"):
        evaluate_ood(case.network, digits, OOD("digits", detectors="msp", resamples=0), limit=60)
    with pytest.raises(UnknownNameError, match="no detector called"):
        evaluate_ood(case.network, digits, OOD("noise", detectors="mspp", resamples=0), limit=60)
    with pytest.raises(EvaluationError, match="at least one"):
        evaluate_ood(case.network, digits, [])
    with pytest.raises(EvaluationError, match="detectors without an out-of-distribution set"):
        OOD([], detectors="msp")
    with pytest.raises(EvaluationError, match="attack_steps"):
        evaluate_ood(case.network, digits, OOD("noise", detectors="msp", attack_epsilons="1/255", attack_steps=0))


def test_sets_of_ones_own(case, digits, tmp_path):
    generator = np.random.default_rng(0)
    root = tmp_path / "own"
    for name in ("a", "b"):
        (root / "textures" / name).mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "textures" / name / f"{number}.png")
    images = generator.integers(0, 256, (5, 9, 9), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.zeros(5, dtype=np.int64))
    result = evaluate_ood(
        case.network,
        digits,
        OOD([f"npz:{tmp_path / 'mine.npz'}", "textures"], detectors="energy", resamples=0, root=root),
    )
    npz, folder = result.entries
    assert (npz.n_out, folder.n_out) == (5, 6)
    assert (npz.group, folder.group) == ("other", "far")
    assert npz.conversions["resized_from"] == [9, 9]
    assert folder.conversions["channels_from"] == 3
    assert folder.conversions["channels_to"] == 1
    assert folder.conversions["resized_to"] == [8, 8]


def test_images_of_another_aspect_are_converted_and_it_is_said(digits):
    oblong = replace(
        digits,
        **{part: InMemorySplit(split.images[:, :, :6], split.labels) for part, split in digits.splits().items()},
    )
    found = load_set("photo-patches", oblong, limit=10)
    assert found.images.shape == (10, 1, 6, 8)
    assert found.conversions["resized_from"] == [32, 32]
    assert found.conversions["resized_to"] == [6, 8]
    assert found.conversions["channels_from"] == 3


def test_a_limit_takes_a_part_of_what_a_larger_one_takes(digits):
    few, more = (load_set("noise", digits, limit=limit) for limit in (10, 50))
    assert set(few.indices.tolist()) < set(more.indices.tolist())
    assert torch.equal(few.images, load_data("noise", image_size=8, channels=1).require("test").take(few.indices))


def test_groups_are_openoods():
    assert PRESETS["cifar10"]["near"] == ("cifar100", "tiny-imagenet")
    assert set(PRESETS["cifar100"]["far"]) == {"mnist", "svhn", "textures", "places365"}
    assert set(PRESETS) == {"cifar10", "cifar100", "fashion-mnist", "digits"}
    assert group_of("cifar10", "svhn") == "far"
    assert group_of("cifar10", "digits") == "other"
    assert group_of("npz:/a", "uniform") == "sanity"
    assert expand_sets("cifar10", ["near", "svhn", "cifar100"]) == ["cifar100", "tiny-imagenet", "svhn"]
    with pytest.raises(EvaluationError, match="no near sets are known for 'svhn'"):
        expand_sets("svhn", ["near"])


def test_a_collapsed_network_gives_a_clean_result(digits):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.fill_(-1)
    result = evaluate_ood(
        network, digits, OOD(["noise"], resamples=20, attack_epsilons=0.01, attack_limit=3, attack_steps=1)
    )
    detectors = result.entries[0].detectors
    assert (detectors["energy"].auroc, detectors["energy"].fpr95_ood_positive) == (0.5, 1)
    assert "all scores are equal" in detectors["energy"].reason
    assert detectors["mahalanobis"].auroc is None
    assert "do not vary" in detectors["mahalanobis"].reason
    assert "do not vary" in result.summary.selective["mahalanobis"].reason
    assert all("mahalanobis" not in name for name in result.samples)
    attacked = result.entries[0].attacks[0].detectors
    assert attacked["mahalanobis"].auroc_clean is None
    assert not attacked["energy"].valid  # its gradients are zero
