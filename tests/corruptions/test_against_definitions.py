"""Each corruption, as a batch, against its definition image by image (tests/corruption_definitions.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import corruption_definitions as definitions
import numpy as np
import pytest

from robustprune.corruptions import SEVERITIES, ImageRandomness, corrupt
from robustprune.corruptions.blur import directional_blur
from robustprune.corruptions.digital import elastic_by
from robustprune.corruptions.noise import alias_table, transitions
from robustprune.corruptions.weather import fog_over, frost_over, plasma, snow_over

Array = np.ndarray[Any, Any]
PHOTOGRAPHS = 20  # that some_photographs begins with


def each(images: Array, definition: Callable[..., Array], *arguments: Any) -> Array:
    """Apply a definition image by image; arguments that are lists have one entry per image."""
    made = []
    for number, image in enumerate(images):
        own = [value[number] if isinstance(value, list) else value for value in arguments]
        made.append(definition(np.ascontiguousarray(image.transpose(1, 2, 0)), *own))
    return np.stack(made).transpose(0, 3, 1, 2)


def assert_within_one_level(found: Array, expected: Array, levels: int = 1) -> None:
    distance = np.abs(np.asarray(found).astype(int) - expected)
    assert distance.max() <= levels
    # Truncation may turn a rounding error into one level, as often in plain areas, but not in most photographs.
    assert (distance[:PHOTOGRAPHS] > 0).mean() < 0.12


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    "name",
    [
        "brightness",
        "contrast",
        "saturate",
        "pixelate",
        "jpeg_compression",
        "gaussian_blur",
        "zoom_blur",
    ],
)
def test_what_is_not_random(some_photographs: Array, name: str, severity: int) -> None:
    expected = each(some_photographs, getattr(definitions, name), severity)
    assert_within_one_level(corrupt(some_photographs, name, severity), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus(some_photographs: Array, severity: int) -> None:
    # The kernels are known to three digits: whole grey levels, but not whether truncation falls on either side.
    found = corrupt(some_photographs, "defocus_blur", severity).numpy().astype(int)
    expected = each(some_photographs, definitions.defocus_blur, severity)
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (8, 8), (29, 31), (17, 9)])
@pytest.mark.parametrize("name", ["pixelate", "jpeg_compression"])
def test_what_pillow_does_to_the_bit(photographs: Any, name: str, height: int, width: int) -> None:
    # JPEG's blocks of 8 and 16 end within, at and after the border; grey images have one channel to code.
    images = photographs[:60, :, :height, :width].numpy()
    for severity in SEVERITIES:
        expected = each(images, getattr(definitions, name), severity)
        np.testing.assert_array_equal(corrupt(images, name, severity), expected)
        grey = [getattr(definitions, name)(image, severity) for image in images[:, 0]]
        np.testing.assert_array_equal(corrupt(images[:, :1], name, severity)[:, 0], grey)


# The random ones, for given random numbers


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_for_given_angles(some_photographs: Array, severity: int) -> None:
    angles = np.linspace(-45, 45, len(some_photographs))
    radius, deviation = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    found = directional_blur(some_photographs, angles, radius, deviation)
    assert_within_one_level(found, each(some_photographs, definitions.motion_blur, severity, list(angles)))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow_for_given_flakes(some_photographs: Array, severity: int) -> None:
    random = np.random.default_rng(severity)
    mean, deviation = definitions.SNOW[severity - 1][:2]
    fields = np.rint(random.normal(mean, deviation, (len(some_photographs), 32, 32)) * 2**16) / 2**16
    angles = random.uniform(-135, -45, len(some_photographs))
    found = snow_over(some_photographs, severity, fields, angles).astype(int)
    expected = each(some_photographs, definitions.snow, severity, list(fields), list(angles))
    # A flake at the threshold may be there or not, which is rare.
    assert (np.abs(found - expected) > 2).mean() < 1e-3
    assert_within_one_level(np.clip(found, expected - 1.0, expected + 1.0), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_frost_for_given_ice(some_photographs: Array, severity: int) -> None:
    ice = np.random.default_rng(severity).integers(0, 256, some_photographs.shape).astype(np.uint8)
    crops = [crop.transpose(1, 2, 0) for crop in ice]
    expected = each(some_photographs, definitions.frost, severity, crops)
    assert_within_one_level(frost_over(some_photographs, severity, ice), expected)


class Replay:
    """A generator that hands out given numbers in order."""

    def __init__(self, numbers: Array) -> None:
        self.numbers = numbers

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        count = int(np.prod(shape))
        taken, self.numbers = self.numbers[:count], self.numbers[count:]
        return taken.reshape(shape) * high


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_for_given_heights(some_photographs: Array, severity: int) -> None:
    numbers = np.random.default_rng(severity).uniform(-1, 1, (len(some_photographs), 32 * 32 - 1))
    veil = plasma(numbers, 32, definitions.FOG[severity - 1][1])
    expected = each(some_photographs, definitions.fog, severity, [Replay(row) for row in numbers])
    assert_within_one_level(fog_over(some_photographs, severity, veil), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_for_given_displacements(some_photographs: Array, severity: int) -> None:
    random = np.random.default_rng(severity)
    shift = definitions.ELASTIC[severity - 1][2] * 32
    corners = random.uniform(-shift, shift, (len(some_photographs), 3, 2))
    wobble = np.rint(random.uniform(-1, 1, (len(some_photographs), 2, 32, 32)) * 2**16) / 2**16
    found = elastic_by(some_photographs, severity, corners, wobble)
    expected = each(some_photographs, definitions.elastic_transform, severity, list(corners), list(wobble))
    assert_within_one_level(found, expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_for_given_offsets(some_photographs: Array, severity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = definitions.GLASS[severity - 1][1]
    offsets = np.random.default_rng(severity).integers(-1, 1, (len(some_photographs), rounds, 32, 32, 2))

    def given(draws: ImageRandomness, purpose: str, count: int, below: int) -> Array:
        assert (count, below) == (2 * 30 * 30, 2)
        moved = offsets[:, int(purpose.split()[1]), 2:, 2:]  # the pixels that the definition visits
        return 1 + moved.transpose(0, 3, 1, 2).reshape(-1, count)

    monkeypatch.setattr(ImageRandomness, "integers", given)
    found = corrupt(some_photographs, "glass_blur", severity).numpy()
    expected = each(some_photographs, definitions.glass_blur, severity, list(offsets))
    assert_within_one_level(found, expected, levels=2)  # it is truncated twice


# The random ones, in distribution


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_alias_tables_hold_the_distributions(name: str, severity: int) -> None:
    threshold, alias = (table.reshape(256, 256) for table in alias_table(name, severity))
    kept = threshold / 2**24
    drawn = kept.copy()
    for level in range(256):
        drawn[level] += np.bincount(alias[level], 1 - kept[level], minlength=256)
    np.testing.assert_allclose(drawn / 256, transitions(name, severity), atol=2**-24)


@pytest.mark.quick_cases(8)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_noise_has_the_distribution_of_its_definition(name: str, severity: int) -> None:
    # All 256 grey levels, 24,000 times each: by level the chance of each outcome is off by at most five deviations.
    plain = np.repeat(np.arange(256, dtype=np.uint8), 3 * 8000).reshape(1, -1, 3)
    random = np.random.default_rng(severity)
    made = getattr(definitions, name)(plain, severity, random).reshape(256, -1)
    chances = transitions(name, severity)
    for level in range(256):
        seen = np.bincount(made[level], minlength=256) / made.shape[1]
        allowed = 5 * np.sqrt(chances[level] / made.shape[1]) + 5 / made.shape[1]
        assert (np.abs(seen - chances[level]) <= allowed).all(), level


def statistics_of_change(made: Array, images: Array) -> tuple[float, float]:
    change = made.astype(float) - images
    return float(change.mean()), float(change.std())


RANDOM = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"]
RANDOM += ["glass_blur", "motion_blur", "snow", "fog", "elastic_transform"]


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name.endswith("noise") else pytest.mark.slow) for name in RANDOM],
)
def test_change_has_the_mean_and_deviation_of_the_definition(photographs: Any, name: str, severity: int) -> None:
    images = photographs.numpy()
    definition = getattr(definitions, f"random_{name}", None) or getattr(definitions, name)
    expected = statistics_of_change(each(images, definition, severity, np.random.default_rng(1)), images)
    found = statistics_of_change(corrupt(images, name, severity, seed=2).numpy(), images)
    # Means near zero (noise, blurs) are measured against the deviation.
    assert found[0] == pytest.approx(expected[0], rel=0.03, abs=0.03 * expected[1])
    assert found[1] == pytest.approx(expected[1], rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("severity", SEVERITIES)
def test_spatter_has_the_mean_and_deviation_of_the_definition(photographs: Any, severity: int) -> None:
    # Drops are few and the mean change is far from zero, so it is measured against itself, over several draws: the
    # standard error of either mean is below one per cent of it.
    images, random = photographs.numpy(), np.random.default_rng(1)
    pairs = [
        (each(images, definitions.random_spatter, severity, random), corrupt(images, "spatter", severity, seed=seed))
        for seed in range(4)
    ]
    expected, found = np.mean(
        [[statistics_of_change(np.asarray(made), images) for made in pair] for pair in pairs], axis=0
    )
    assert found == pytest.approx(expected, rel=0.03)
