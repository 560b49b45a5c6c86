"""CKA against the estimator written out, and against what must hold of any such index."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustprune.errors import EvaluationError
from robustprune.metrics import linear_cka


def written_out(first: np.ndarray, second: np.ndarray) -> float:
    """The unbiased HSIC of Song et al. 2012 on full Gram matrices."""

    def hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
        n = len(k)
        k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
        one = np.ones(n)
        total = np.trace(k @ l) + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        return float(total - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))

    k, l = first @ first.T, second @ second.T  # noqa: E741
    return hsic(k, l) / math.sqrt(hsic(k, k) * hsic(l, l))


def related(count: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    first = random.normal(size=(count, 12)) * np.linspace(0.2, 2, 12) + 3
    return first, first @ random.normal(size=(12, 7)) + noise * random.normal(size=(count, 7)) - 1


@pytest.mark.parametrize("count", [4, 5, 30, 200])
def test_it_is_the_formula(count: int) -> None:
    first, second = related(count)
    assert linear_cka(first, second) == pytest.approx(written_out(first, second), rel=1e-9)
    assert linear_cka(second, first) == pytest.approx(linear_cka(first, second), rel=1e-12)


def test_biased_and_unbiased_agree_on_many_samples() -> None:
    # Kornblith et al. 2019, table 1: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of centred features.
    first, second = related(2000)
    x, y = first - first.mean(axis=0), second - second.mean(axis=0)
    biased = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert linear_cka(first, second) == pytest.approx(biased, abs=5e-3)  # 10 / N


def test_rotation_scale_and_place_do_not_matter() -> None:
    first, second = related(40)
    expected = linear_cka(first, second)
    random = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(random.normal(size=(12, 12)))
    assert linear_cka(7 * first @ rotation + 100, -0.1 * second) == pytest.approx(expected, rel=1e-9)
    assert linear_cka(first @ random.normal(size=(12, 12)), second) != pytest.approx(expected, abs=1e-2)


def test_a_representation_is_like_itself() -> None:
    first, _ = related(25)
    assert linear_cka(first, first) == pytest.approx(1, abs=1e-12)
    assert linear_cka(first, 1000 - 3 * first, batch_size=10) == pytest.approx(1, abs=1e-9)


def test_unrelated_representations_are_0_in_the_mean() -> None:
    # More features than samples, where the biased estimate is .8 whatever the features.
    random = np.random.default_rng(0)
    values = [linear_cka(random.normal(size=(20, 60)), random.normal(size=(20, 80))) for _ in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20
    assert np.std(values) < 0.1


def test_minibatches_come_close_to_the_whole() -> None:
    first, second = related(2000, noise=4)
    whole = linear_cka(first, second)
    assert 0.3 < whole < 0.9
    for size in (50, 250):
        assert linear_cka(first, second, batch_size=size) == pytest.approx(whole, abs=0.01)


def test_minibatches_by_hand() -> None:
    # 11 samples in batches of 4: two batches, three samples over. Numerators and denominators are averaged.
    first, second = related(11)
    parts = [slice(0, 4), slice(4, 8)]

    def hsic(x: np.ndarray, y: np.ndarray) -> float:
        grams = []
        for each in (x, y):
            gram = each @ each.T
            np.fill_diagonal(gram, 0)
            grams.append(gram)
        k, l = grams  # noqa: E741
        return float((k * l).sum() + k.sum() * l.sum() / 6 - k.sum(axis=0) @ l.sum(axis=0)) / 4

    sums = [
        sum(hsic(x[part], y[part]) for part in parts) for x, y in ((first, second), (first, first), (second, second))
    ]
    expected = sums[0] / math.sqrt(sums[1] * sums[2])
    assert linear_cka(first, second, batch_size=4) == pytest.approx(expected, rel=1e-9)


def test_maps_are_flattened_and_tensors_are_arrays() -> None:
    maps = torch.randn(9, 3, 4, 4)
    other = torch.randn(9, 5).bfloat16().requires_grad_()
    flat = maps.double().reshape(9, 48).numpy()
    expected = written_out(flat, other.detach().double().numpy())
    assert linear_cka(maps, other) == pytest.approx(expected, rel=1e-9)
    wide = np.random.default_rng(0).normal(size=(6, 40_000))  # more than are converted at a time
    assert linear_cka(wide, wide[:, ::-1]) == pytest.approx(1)
    assert linear_cka(wide[:, :30_000], wide[:, 20_000:]) == pytest.approx(
        written_out(wide[:, :30_000], wide[:, 20_000:]), rel=1e-9
    )


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_what_does_not_vary_has_no_alignment(value: float) -> None:
    first, _ = related(10)
    assert math.isnan(linear_cka(first, np.full((10, 3), value)))
    assert math.isnan(linear_cka(torch.full((10, 700), value), first))


@pytest.mark.parametrize(
    ("first", "second", "size", "complaint"),
    [
        (np.ones((5, 2)), np.ones((6, 2)), None, "got 5 and 6"),
        (np.ones((3, 2)), np.ones((3, 2)), None, "at least 4 samples, got 3"),
        (np.ones((8, 2)), np.ones((8, 2)), 3, "at least 4 samples, got 3"),
        (np.array([[1.0], [np.nan], [2], [3]]), np.ones((4, 2)), None, "NaN"),
        (np.ones((4, 2)), torch.tensor([[1.0], [torch.inf], [2], [3]]), None, "infinite"),
    ],
)
def test_nonsense_is_a_clean_error(first: np.ndarray, second: np.ndarray, size: int | None, complaint: str) -> None:
    with pytest.raises(EvaluationError, match=complaint):
        linear_cka(first, second, batch_size=size)
