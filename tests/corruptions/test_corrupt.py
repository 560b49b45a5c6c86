"""What holds for every corruption: keys, sizes, severity, errors, plug-ins."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from robustprune.corruptions import (
    CORRUPTIONS,
    EXTRAS,
    HEADLINE,
    SEVERITIES,
    ImageRandomness,
    corrupt,
    corruption_options,
    expand_names,
    geometry_scale,
    register_corruption,
)
from robustprune.corruptions.image_randomness import image_keys
from robustprune.data import resize_images
from robustprune.errors import CorruptionError, UnknownNameError

EVERY = HEADLINE + EXTRAS
# These follow from the image alone.
CERTAIN = {"defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast", "saturate", "pixelate"}
CERTAIN |= {"jpeg_compression"}


@pytest.mark.quick_cases(9)
@pytest.mark.parametrize("name", EVERY)
def test_an_image_comes_out_the_same_in_any_batch_and_order(photographs: Tensor, name: str) -> None:
    images = photographs[:300]
    for severity in (1, 3, 5):
        whole = corrupt(images, name, severity, seed=7)
        order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
        shuffled = torch.empty_like(whole)
        shuffled[order] = corrupt(images[order], name, severity, seed=7, sample_ids=order)
        assert torch.equal(shuffled, whole)
        for size in (1, 7, 256):
            for start in (0, 21):
                ids = torch.arange(start, min(start + size, 300))
                assert torch.equal(corrupt(images[ids], name, severity, seed=7, sample_ids=ids), whole[ids])


@pytest.mark.parametrize("name", EVERY)
def test_seed_severity_and_index_make_another_image(photographs: Tensor, name: str) -> None:
    same = photographs[:1].expand(6, -1, -1, -1)
    made = corrupt(same, name, 4, seed=0)
    distinct = len({image.numpy().tobytes() for image in made})
    assert distinct == 1 if name in CERTAIN else distinct == 6
    assert torch.equal(corrupt(same, name, 4, seed=1), made) == (name in CERTAIN)
    assert not torch.equal(corrupt(same, name, 5, seed=0), made)


@pytest.mark.slow
def test_another_process_makes_the_same_images() -> None:
    script = """
import hashlib
from robustprune.corruptions import CORRUPTIONS, corrupt
import numpy as np
images = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 24)).astype(np.uint8)
digest = hashlib.sha256()
for name in CORRUPTIONS.names():
    digest.update(corrupt(images, name, 3, seed=5).numpy().tobytes())
print(digest.hexdigest())
"""
    done = [
        subprocess.run([sys.executable, "-c", setup + script], capture_output=True, text=True, check=True).stdout
        for setup in ("import torch; torch.set_num_threads(1)", "import torch; torch.set_num_threads(2)")
    ]
    assert done[0] == done[1]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (1, 28, 28), (3, 33, 40), (3, 96, 64)])
def test_any_size_and_grey(large_photographs: Tensor, name: str, channels: int, height: int, width: int) -> None:
    images = large_photographs[:, :channels, :height, :width].repeat(8, 1, 1, 1)
    before = images.clone()
    for severity in SEVERITIES:
        made = corrupt(images, name, severity)
        assert (made.dtype, made.shape) == (torch.uint8, images.shape)
        # Grey has no saturation.
        assert torch.equal(made, images) == (name == "saturate" and channels == 1)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", EVERY)
def test_imagenet_size(large_photographs: Tensor, name: str) -> None:
    made = corrupt(large_photographs, name, 3)
    assert made.shape == large_photographs.shape
    assert torch.equal(corrupt(large_photographs[1:2], name, 3, sample_ids=[1]), made[1:2])


# Constants that do not make it worse and worse, by design of the published sets.
NOT_MONOTONE = {
    "glass_blur": "severities 1 to 3 shuffle alike and only blur more; 4 shuffles twice but blurs less than 5",
    "elastic_transform": "the affine part, which moves most, shrinks while the wobble grows",
    "frost": "from severity 4 on more of the image is taken away, which the ice makes up for in brightness",
    "saturate": "severities 1 and 2 take colour away, 3 to 5 add it",
    "spatter": "severities 4 and 5 are mud, which covers less than the water of severity 3",
}


@pytest.mark.parametrize("name", [name for name in EVERY if name not in NOT_MONOTONE])
def test_harm_grows_with_severity(photographs: Tensor, name: str) -> None:
    images = photographs[::4]
    changes = [(corrupt(images, name, s).float() - images.float()).abs().mean() for s in SEVERITIES]
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize("name", NOT_MONOTONE)
def test_exceptions_are_exceptions(photographs: Tensor, name: str) -> None:
    images = photographs[::4]
    changes = [(corrupt(images, name, s).float() - images.float()).abs().mean() for s in SEVERITIES]
    assert changes != sorted(changes)


@pytest.mark.parametrize("name", ["defocus_blur", "gaussian_blur", "motion_blur", "zoom_blur", "glass_blur"])
@pytest.mark.parametrize("side", [32, 64])
def test_plain_areas_stay_plain(name: str, side: int) -> None:
    # Weights that sum to one in whole numbers: no grey level is lost to rounding.
    levels = torch.arange(0, 256, 5, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, side, side)
    for severity in SEVERITIES:
        assert torch.equal(corrupt(levels, name, severity), levels)


def test_blurs_scale_with_the_side() -> None:
    # A point of 1 pixel at 32 is one of 4 × 4 at 128: blurred, it spreads four times as far.
    point = torch.zeros(1, 1, 128, 128, dtype=torch.uint8)
    point[..., 60:68, 60:68] = 255
    small = torch.nn.functional.avg_pool2d(point.float(), 4).byte()
    for name in ("gaussian_blur", "defocus_blur"):
        for severity in (4, 5):
            large = torch.nn.functional.avg_pool2d(corrupt(point, name, severity).float(), 4)
            assert (large - corrupt(small, name, severity).float()).abs().max() < 20, (name, severity)
    assert geometry_scale(128, 200) == 4
    assert geometry_scale(8, 8) == 1


def test_bits_are_uniform_and_independent_between_images() -> None:
    draws = ImageRandomness(image_keys(0, "fog", 1, np.arange(500)))
    words = draws.bits("test", 1000)
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    # 500 images × 32,000 bits: deviations of at most five standard errors, by image and by place.
    assert np.abs(bits.mean(axis=1) - 0.5).max() < 5 * 0.5 / np.sqrt(32_000)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(500)
    unit = words / 2**32 - 0.5
    correlation = np.corrcoef(unit)[np.triu_indices(500, 1)]
    assert np.abs(correlation).max() < 5.5 / np.sqrt(1000)
    assert not np.array_equal(draws.bits("other", 1000), words)


def test_normal_numbers_have_their_moments() -> None:
    numbers = ImageRandomness(image_keys(0, "snow", 1, np.arange(200))).normal("flakes", 0.1, 0.2, 50, 50).ravel()
    error = 0.2 / np.sqrt(numbers.size)
    assert numbers.mean() == pytest.approx(0.1, abs=4 * error)
    assert numbers.std() == pytest.approx(0.2, abs=4 * error)
    fourth = (((numbers - 0.1) / 0.2) ** 4).mean()
    assert fourth == pytest.approx(3, abs=0.05)


def test_frost_from_a_folder(photographs: Tensor, tmp_path: Path) -> None:
    plain = np.full((400, 300, 3), 200, dtype=np.uint8)
    Image.fromarray(plain).save(tmp_path / "ice.png")
    images = photographs[:20]
    made = corrupt(images, "frost", 2, folder=tmp_path)
    # By hand: all of the image and 30 % of 200.
    assert torch.equal(made, (images.int() + 60).clamp(max=255).byte())
    with pytest.raises(CorruptionError, match="no frost pictures in"):
        corrupt(images, "frost", 2, folder=tmp_path / "none")
    (tmp_path / "broken.png").write_bytes(b"ice")
    with pytest.raises(CorruptionError, match=r"broken\.png cannot be read"):
        corrupt(images, "frost", 1, folder=str(tmp_path))


def test_what_cannot_be_corrupted(photographs: Tensor) -> None:
    for wrong, match in (
        (photographs[:2].float(), "must be uint8, 0 to 255, got float32"),
        (photographs[0], r"got \(3, 32, 32\)"),
        (photographs[:2, :2], "C of 1 or 3"),
        (photographs[:2, :, :7], "at least 8"),
    ):
        with pytest.raises(CorruptionError, match=match):
            corrupt(wrong, "fog", 1)
    for severity in (0, 6, 1.5, True, np.True_, "2", [2], np.array([1, 2]), None, float("nan"), 2j, -1, 10**30):
        with pytest.raises(CorruptionError, match="a severity is 1, 2, 3, 4 or 5"):
            corrupt(photographs[:2], "fog", severity)  # type: ignore[arg-type]
    for name in (5, None, ["fog"]):
        with pytest.raises(CorruptionError, match="is given by its name"):
            corrupt(photographs[:2], name, 1)  # type: ignore[arg-type]
        with pytest.raises(CorruptionError, match="is given by its name"):
            expand_names([name])  # type: ignore[list-item]
    for names in (5, {"fog": 1}):
        with pytest.raises(CorruptionError, match="is given by its name"):
            expand_names(names)  # type: ignore[arg-type]
    for folder in (5, "", ["x"]):
        with pytest.raises(CorruptionError, match="must be a path"):
            corrupt(photographs[:2], "frost", 1, folder=folder)
    with pytest.raises(CorruptionError, match="one integer per image"):
        corrupt(photographs[:2], "fog", 1, sample_ids=[1])
    with pytest.raises(CorruptionError, match=r"'foldr' is no option of frost\. Did you mean 'folder'"):
        corrupt(photographs[:2], "frost", 1, foldr="x")
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian_noise'"):
        corrupt(photographs[:2], "gausian_noise", 1)
    with pytest.raises(CorruptionError, match="takes no argument after a colon"):
        corrupt(photographs[:2], "fog:3", 1)
    assert corrupt(photographs[:0], "fog", 1).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("name", EVERY)
def test_a_severity_is_a_number_of_any_type(photographs: Tensor, name: str) -> None:
    expected = corrupt(photographs[:3], name, 2, seed=1)
    for severity in (2.0, np.int64(2), np.uint8(2), np.float32(2), Fraction(2)):
        assert torch.equal(corrupt(photographs[:3], name, severity, seed=1), expected)  # type: ignore[arg-type]


# By definition: on small images noise that strikes few elements often strikes none, and drops miss some.
SPARSE = {"impulse_noise", "spatter"}


@pytest.mark.quick_cases(25)
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("side", [8, 9, 10, 13, 16, 24, 28, 32])
def test_nearly_every_image_is_changed(photographs: Tensor, name: str, side: int) -> None:
    small = resize_images(photographs[:60], (side, side))
    for images in (small, small[:, :1], small[:, :, :8]):
        changed = [(corrupt(images, name, s) != images).flatten(1).any(1).double().mean() for s in SEVERITIES]
        if name == "saturate" and images.shape[1] == 1:
            assert max(changed) == 0
        else:
            assert min(changed) >= (0.2 if name in SPARSE else 0.9), (images.shape, changed)


def test_a_zoom_of_eight_pixels_by_hand() -> None:
    # A ramp across: enlarged z-fold about the middle its slope is divided by z.
    ramp = torch.arange(8, dtype=torch.uint8).mul(30).expand(1, 1, 8, 8).contiguous()
    places = np.arange(8) - 3.5
    factors = np.arange(1, 1.06, 0.01)
    mean = (places + sum(places / factor for factor in factors)) / (len(factors) + 1)
    expected = torch.from_numpy(np.floor(30 * (3.5 + mean) + 1e-3)).expand(8, 8)
    made = corrupt(ramp, "zoom_blur", 1)
    assert (made[0, 0] - expected).abs().max() <= 1
    assert not torch.equal(made, ramp)
    assert torch.equal(made[0, 0], made[0, 0, :1].expand(8, 8))


def test_a_corruption_that_fails_or_writes_into_what_it_is_given(
    photographs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CORRUPTIONS, "_registered", {})

    @register_corruption("failing")
    def failing(images: np.ndarray, severity: int, draws: ImageRandomness) -> np.ndarray:
        return images + "1"  # type: ignore[operator,no-any-return]

    @register_corruption("in_place")
    def in_place(images: np.ndarray, severity: int, draws: ImageRandomness) -> np.ndarray:
        images[:] = 7
        return images

    with pytest.raises(CorruptionError, match=r"'failing' failed: .*leave it out, or mend it"):
        corrupt(photographs[:3], "failing", 1)
    own = photographs[:3].clone()
    assert bool((corrupt(own, "in_place", 1) == 7).all())
    assert torch.equal(own, photographs[:3])


AUTHORS = ["frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg"]


@pytest.mark.parametrize(
    ("names", "drawn"),
    [(AUTHORS, 5), (AUTHORS[:5], 5), ([*AUTHORS, "mine.png"], 7), (["a.PNG", *AUTHORS[1:]], 6)],
)
def test_the_folder_of_the_authors_is_drawn_from_as_they_do(names: list[str], drawn: int, tmp_path: Path) -> None:
    # np.random.randint(5) over the six: never the last. Any other folder is drawn from as a whole.
    for place, name in enumerate(names):
        Image.fromarray(np.full((300, 300, 3), 20 * (place + 1), dtype=np.uint8)).save(tmp_path / name)
    for other in (".frost7.png", "._frost1.png", "make_cifar_c.py", "README.md"):
        (tmp_path / other).write_bytes(b"no picture")
    (tmp_path / "more.png").mkdir()
    black = torch.zeros(300, 1, 32, 32, dtype=torch.uint8)
    made = corrupt(black, "frost", 5, folder=tmp_path)
    # Of black, 45 % of the picture is left: nine levels a picture.
    assert {round(float(image.float().mean()) / 9) for image in made} == set(range(1, 1 + drawn))


def test_one_of_your_own(photographs: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CORRUPTIONS, "_registered", {})

    @register_corruption("darkness")
    def darkness(images: np.ndarray, severity: int, draws: ImageRandomness, *, floor: int = 0) -> np.ndarray:
        return np.maximum(images // (1 + severity), floor).astype(np.uint8)

    made = corrupt(photographs[:5], "darkness", 3, floor=9)
    assert torch.equal(made, (photographs[:5] // 4).clamp(min=9))
    assert corruption_options("darkness") == {"floor": 0}
    assert "darkness" in CORRUPTIONS.names()

    @register_corruption("wrong")
    def wrong(images: np.ndarray, severity: int, draws: ImageRandomness) -> np.ndarray:
        return images / 2

    with pytest.raises(CorruptionError, match=r"'wrong' made float64"):
        corrupt(photographs[:5], "wrong", 1)


def test_names() -> None:
    assert sorted(EVERY) == CORRUPTIONS.names()
    assert expand_names("all") == list(HEADLINE)
    assert expand_names(["fog", "all", "extras"]) == ["fog", *(n for n in HEADLINE if n != "fog"), *EXTRAS]
    with pytest.raises(UnknownNameError):
        expand_names(["all", "smog"])
