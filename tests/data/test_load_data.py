"""What load_data promises for every set: splits, limits, statistics, provenance, and the same again."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets as sklearn_datasets

from robustprune.data import DATASETS, InMemorySplit, RawData, load_data, register_dataset
from robustprune.errors import DataError, UnknownNameError

EMBEDDED = ["digits", "photo-patches", "noise", "uniform", "constant"]


def rows(split):
    """The pictures of a split as a sorted list, to compare contents whatever their order."""
    return sorted(bytes(image) for image in split.images.flatten(1).numpy())


def test_digits_are_scikit_learns():
    data = load_data()
    assert (data.name, data.num_classes, data.channels, data.image_size) == ("digits", 10, 1, (8, 8))
    assert {name: len(split) for name, split in data.splits().items()} == {
        "train": 1294,
        "val": 144,
        "test": 359,
    }
    published = np.rint(sklearn_datasets.load_digits().images * 255 / 16).astype(np.uint8)
    everything = sorted([*rows(data.train), *rows(data.val), *rows(data.test)])
    assert everything == sorted(bytes(image) for image in published.reshape(1797, 64))
    assert not data.flips


def test_the_digits_test_split_is_the_same_at_every_seed():
    first, second = load_data(seed=0), load_data(seed=1)
    assert torch.equal(first.test.images, second.test.images)
    assert rows(first.val) != rows(second.val)
    shares = first.test.labels.bincount() / torch.cat([first.train.labels, first.val.labels]).bincount()
    assert ((shares - 0.25).abs() < 0.01).all()


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("options", [{}, {"image_size": 12, "channels": 1, "seed": 3}, {"channels": 3}])
def test_the_spec_gives_the_same_data_again(name, options):
    data = load_data(name, **options)
    spec = json.loads(json.dumps(data.spec))
    again = load_data(**spec)
    assert again.provenance == data.provenance == json.loads(json.dumps(data.provenance))
    for part, split in data.splits().items():
        assert torch.equal(again.require(part).images, split.images)
        assert torch.equal(again.require(part).labels, split.labels)


@settings(deadline=None, max_examples=15)
@given(st.integers(10, 1000), st.integers(0, 100))
def test_a_limit_keeps_the_validation_images_and_is_exact(limit, seed):
    free, limited = load_data(seed=seed), load_data(seed=seed, train_limit=limit)
    assert len(limited.train) == limit
    assert torch.equal(limited.val.images, free.val.images)
    assert torch.equal(limited.test.images, free.test.images)
    assert set(rows(limited.train)) <= set(rows(free.train))
    assert len(limited.train.labels.unique()) == 10


def test_limits_out_of_range_name_what_there_is():
    with pytest.raises(DataError, match="1294 are available"):
        load_data(train_limit=1295)
    with pytest.raises(DataError, match="at least 10"):
        load_data(train_limit=9)
    with pytest.raises(DataError, match="no training images to limit"):
        load_data("noise", train_limit=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 7}, "the least is 8"),
        ({"channels": 2}, "1 .grey. or 3"),
        ({"validation_fraction": 0.6}, "between 0 and 0.5"),
        ({"validation_fraction": float("nan")}, "between 0 and 0.5"),
        ({"seed": -1}, "negative"),
        ({"workers": -1}, "negative"),
        ({"name": "digits:3"}, "nothing after a colon"),
        ({"name": "photo-patches", "image_size": 500}, "at most 427"),
    ],
)
def test_requests_that_make_no_sense(options, message):
    with pytest.raises(DataError, match=message):
        load_data(**options)


def test_an_unknown_name_is_answered_with_a_near_one():
    with pytest.raises(UnknownNameError, match="fashion-mnist"):
        load_data("fashion_mnist")


def test_a_missing_split_says_which_there_are():
    data = load_data("noise")
    assert data.require("test") is data.test
    with pytest.raises(DataError, match="no train split, only test"):
        data.require("train")
    with pytest.raises(DataError, match="no split called 'training'"):
        data.require("training")
    with pytest.raises(DataError, match="no val split, only train, test"):
        load_data(validation_fraction=0).require("val")


def test_statistics_are_of_the_training_images():
    data = load_data("digits", channels=3, image_size=10)
    scaled = data.train.images.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data.std, scaled.std(axis=(0, 2, 3)), rtol=1e-10)


def test_the_hash_follows_the_content():
    plain, limited = load_data(), load_data(train_limit=500)
    hashes, others = plain.provenance["sha256"], limited.provenance["sha256"]
    assert hashes["test"] == others["test"]
    assert hashes["train"] != others["train"]
    assert hashes["test"] == plain.test.fingerprint()
    assert load_data(image_size=9).provenance["sha256"]["test"] != hashes["test"]


def test_patches_are_crops_of_the_photographs():
    photographs = sklearn_datasets.load_sample_images().images
    data = load_data("photo-patches", image_size=16, seed=2)
    assert (len(data.test), data.classes) == (2000, ("china", "flower"))
    assert data.test.labels.bincount().tolist() == [1000, 1000]
    for number in (0, 1, 998, 1999):
        patch = data.test.images[number].permute(1, 2, 0).numpy()
        photograph = photographs[int(data.test.labels[number])]
        windows = np.lib.stride_tricks.sliding_window_view(photograph[:, :, 0], (16, 16))
        candidates = np.argwhere((windows[:, :, 0] == patch[0, :, 0]).all(axis=2))
        assert any((photograph[top : top + 16, left : left + 16] == patch).all() for top, left in candidates)


def test_synthetic_sets_have_the_statistics_of_their_names():
    noise, uniform, constant = (load_data(name, seed=5).test.images for name in ("noise", "uniform", "constant"))
    assert noise.shape == uniform.shape == constant.shape == (2000, 3, 32, 32)
    assert float(noise.double().mean()) == pytest.approx(127.5, abs=0.1)
    # A normal of deviation 64 clipped at ±127.5 has a deviation of 61.4.
    assert float(noise.double().std()) == pytest.approx(61.4, abs=0.2)
    assert float(uniform.double().std()) == pytest.approx(np.sqrt((256**2 - 1) / 12), abs=0.1)
    assert (constant == constant[:, :, :1, :1]).all()
    assert len(constant[:, :, 0, 0].unique(dim=0)) > 1900


def test_synthetic_sets_come_in_the_shape_asked_for():
    data = load_data("noise", channels=1, image_size=8)
    assert data.test.shape == (1, 8, 8)
    assert data.provenance["resized_from"] is None
    # Made grey, not averaged from three colours, which would shrink the deviation.
    assert data.std[0] == pytest.approx(61.4 / 255, abs=0.005)


def test_plug_ins_are_loaded_like_built_in_sets():
    name = "stripes-for-a-test"

    @register_dataset(name)
    def load_stripes(request):
        """Stripes."""
        images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
        return RawData(("even", "odd"), train=InMemorySplit(images, torch.arange(40) % 2))

    try:
        data = load_data(f"{name}:anything", validation_fraction=0.25)
        assert (len(data.train), len(data.val)) == (30, 10)
        with pytest.raises(DataError, match="no test split"):
            data.require("test")
        with pytest.raises(ValueError, match="already registered"):
            register_dataset(name)
    finally:
        DATASETS._registered.pop(name)


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [(("a",), [0, 1], "1 classes"), (("a", "b"), [0, -1], "from -1"), (("a",), [], "no images")],
)
def test_what_a_plug_in_returns_is_checked(classes, labels, message):
    split = InMemorySplit(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), torch.tensor(labels, dtype=torch.int64))
    with pytest.raises(DataError, match=message):
        RawData(classes, test=split)


def test_a_set_without_splits_is_refused():
    with pytest.raises(DataError, match="no split"):
        RawData(("a",))


def test_importing_the_package_imports_no_heavy_library():
    code = (
        "import sys, robustprune.data; "
        "print([m for m in ('sklearn', 'torchvision', 'scipy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["image_size", "channels", "train_limit", "seed", "workers"])
@pytest.mark.parametrize("value", ["16", 16.5, True, (16, 16)])
def test_a_setting_that_is_no_whole_number_is_refused_by_name(name, value):
    with pytest.raises(DataError, match=f"{name} must be a whole number, got"):
        load_data(**{name: value})


@pytest.mark.parametrize("value", ["0.1", None, float("nan"), 0.6])
def test_a_validation_fraction_is_a_number_up_to_a_half(value):
    with pytest.raises(DataError, match="not a number between 0 and 0"):
        load_data(validation_fraction=value)
