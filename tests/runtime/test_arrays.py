"""Arrays in every layout say the same as the plain tensor of the same numbers, wherever arrays are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from robustprune import metrics
from robustprune.attacks import run_attack, security_curve, transfer_attack
from robustprune.corruptions import corrupt
from robustprune.cost import measure_cost
from robustprune.errors import (
    AttackError,
    CorruptionError,
    EvaluationError,
    PruningError,
    RobustPruneError,
)
from robustprune.evaluation.similarity import compare_representations
from robustprune.inference import freeze, predict_logits
from robustprune.ood import Extractor, Outputs, fit_detectors, score_outputs
from robustprune.pruning import find_blocks
from robustprune.runtime.arrays import to_numpy, to_tensor


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def interleaved(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, axis=0)[::2]


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "plain": lambda array: array,
    "tensor": torch.tensor,
    "backwards": lambda array: np.flip(np.flip(array).copy()),
    "backwards in the first axis": lambda array: array[::-1].copy()[::-1],
    "every other": interleaved,
    "foreign byte order": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "read-only": read_only,
    "list of arrays": list,
    "tuple of arrays backwards": lambda array: tuple(np.flip(np.flip(each).copy()) for each in array),
    "list of tensors": lambda array: [torch.tensor(each) for each in array],
    "masked with nothing masked": np.ma.masked_array,
    "transposed": lambda array: np.ascontiguousarray(array.T).T,
    "unaligned": lambda array: np.frombuffer(b"0" + array.tobytes(), array.dtype, offset=1).reshape(array.shape),
}
TYPES = ["u1", "i1", "i2", "i4", "i8", "u2", "u4", "f2", "f4", "f8", "?"]


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    kind=st.sampled_from(TYPES),
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 5),
)
def test_any_layout_is_copied_value_by_value(shape: list[int], kind: str, layout: str, seed: int) -> None:
    plain = (np.random.default_rng(seed).random(shape) * 100).astype(kind)
    values = LAYOUTS[layout](plain)
    for found in (to_tensor(values).numpy(), to_numpy(values)):
        assert found.shape == plain.shape
        np.testing.assert_array_equal(found.astype("f8"), plain.astype("f8"))
    assert to_tensor(values).numpy().dtype == plain.dtype


def test_numbers_and_nested_lists() -> None:
    assert to_tensor(3).shape == to_tensor(np.float32(0.5)).shape == ()
    assert to_tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert to_tensor([[torch.tensor(1), 2], [np.int16(3), 4]]).tolist() == [[1, 2], [3, 4]]
    assert to_tensor(range(3)).tolist() == [0, 1, 2]
    assert to_tensor([torch.tensor([0.5], dtype=torch.bfloat16, requires_grad=True)]).tolist() == [[0.5]]
    assert to_tensor(np.longdouble(0.25)).dtype == torch.float64
    assert to_tensor(torch.eye(2).to_sparse()).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "values",
    [
        None,
        "seven",
        ["a", "b"],
        [[1, 2], [3]],
        [torch.ones(2), torch.ones(3)],
        [1, None],
        {1: 2},
        object(),
        (each for each in range(3)),
        np.array([1 + 2j]),
        torch.ones(2, dtype=torch.complex64),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        np.ma.masked_array([1, 2], mask=[True, False]),
        torch.ones(2, device="meta"),
        [10**40],
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused_by_name(values: Any) -> None:
    for convert in (to_tensor, to_numpy):
        with pytest.raises(AttackError, match=r"^labels (must be real numbers|are a masked array)"):
            convert(values, "labels", AttackError)


N, IMAGES = 12, torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()


@pytest.mark.quick_cases(5)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_attacks_take_any_layout(network: nn.Module, layout: str) -> None:
    lay = LAYOUTS[layout]
    labels = predict_logits(network, IMAGES).argmax(dim=1)
    targets, ids = (labels + 1) % 3, np.arange(5, 5 + N)
    settings: dict[str, Any] = {"attack": "pgd", "steps": 2, "epsilon": 0.05}
    expected = run_attack(network, IMAGES, labels, sample_ids=ids.tolist(), targets=targets, **settings)
    for kind in ("i8", "i2", "u2", "u1"):
        given_labels, given_targets = lay(labels.numpy().astype(kind)), lay(targets.numpy().astype(kind))
        found = run_attack(
            network, lay(IMAGES.numpy()), given_labels, sample_ids=lay(ids), targets=given_targets, **settings
        )
        assert torch.equal(found.adversarial, expected.adversarial)
        assert torch.equal(found.broken, expected.broken)
    curve = security_curve(network, lay(IMAGES.numpy()), lay(labels.numpy()), epsilons=np.array([0.05]), steps=2)
    assert curve.results[0].n == N
    moved = transfer_attack(network, network, lay(IMAGES.numpy()), lay(labels.numpy()), "fgsm", sample_ids=lay(ids))
    assert moved.n == N


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_corruptions_detectors_and_metrics_take_any_layout(network: nn.Module, layout: str) -> None:
    lay = LAYOUTS[layout]
    expected = predict_logits(network, IMAGES)
    for kind, tolerance in (("f4", 0), ("f8", 1e-6), ("f2", 2e-3)):
        found = predict_logits(network, lay(IMAGES.numpy().astype(kind)))
        assert float((found - expected).abs().max()) <= tolerance
    pixels = (IMAGES * 255).byte()
    assert torch.equal(predict_logits(network, lay(pixels.numpy())), predict_logits(network, pixels))
    assert torch.equal(freeze(network, lay(pixels.numpy()))(IMAGES), freeze(network, pixels)(IMAGES))

    ids = np.arange(3, 3 + N)
    corrupted = corrupt(lay(pixels.numpy()), "gaussian_noise", 3, sample_ids=lay(ids))
    assert torch.equal(corrupted, corrupt(pixels, "gaussian_noise", 3, sample_ids=ids))

    for kind in ("f4", "u1"):
        assert measure_cost(network, lay(IMAGES.numpy().astype(kind))) == measure_cost(network, IMAGES)
        with pytest.raises(PruningError, match="no block of this Sequential can be removed"):
            find_blocks(network, lay(IMAGES.numpy().astype(kind)))

    assert compare_representations(network, network, lay(IMAGES.numpy())) == {"penultimate": pytest.approx(1)}
    extractor, labels = Extractor(network, lay(IMAGES.numpy()[:4])), expected.argmax(dim=1)
    outputs = extractor.run(lay(IMAGES.numpy()), lay(labels.numpy()))
    bare = Outputs(lay(expected.numpy()), labels=lay(labels.numpy()))
    for each in (outputs, bare):
        scores = score_outputs(fit_detectors(["msp"], each, each)["msp"], each)
        assert scores == pytest.approx(-expected.softmax(dim=1).amax(dim=1).numpy(), abs=1e-6)

    logits, classes = lay(expected.numpy()), lay(labels.numpy().astype("i4"))
    assert metrics.accuracy(logits, classes) == 1
    for figure in (metrics.brier_score, metrics.expected_calibration_error, metrics.negative_log_likelihood):
        assert figure(logits, classes) == figure(expected, labels)
    first = expected[:, 0].numpy()
    assert metrics.detection_figures(lay(first), lay(first + 1)) == metrics.detection_figures(first, first + 1)
    is_right = first > 0
    assert metrics.area_under_risk_coverage(lay(first), lay(is_right)) == metrics.area_under_risk_coverage(
        first, is_right
    )
    assert metrics.linear_cka(logits, lay(IMAGES.numpy())) == metrics.linear_cka(expected, IMAGES)


BAD: list[Any] = [None, "seven", [[1, 2], [3]], object(), np.array(["a"]), 3, [torch.ones(2), torch.ones(3)]]


@pytest.mark.parametrize("bad", BAD, ids=[repr(type(each).__name__) + str(number) for number, each in enumerate(BAD)])
def test_what_is_no_array_is_one_clear_error_everywhere(network: nn.Module, bad: Any) -> None:
    labels = torch.zeros(N, dtype=torch.int64)
    scores = torch.zeros(N)
    uses: list[tuple[type[RobustPruneError], Callable[[], object]]] = [
        (EvaluationError, lambda: predict_logits(network, bad)),
        (AttackError, lambda: run_attack(network, bad, labels)),
        (RobustPruneError, lambda: find_blocks(network, bad)),
        (RobustPruneError, lambda: measure_cost(network, bad)),
        (AttackError, lambda: run_attack(network, IMAGES, bad)),
        (CorruptionError, lambda: corrupt(bad, "gaussian_noise", 3)),
        (EvaluationError, lambda: metrics.accuracy(bad, labels)),
        (EvaluationError, lambda: metrics.accuracy(torch.zeros(N, 3), bad)),
        (EvaluationError, lambda: metrics.detection_figures(bad, scores)),
        (EvaluationError, lambda: metrics.risk_coverage(bad, scores)),
        (EvaluationError, lambda: metrics.linear_cka(bad, IMAGES)),
        (EvaluationError, lambda: metrics.centred_gram(bad)),
        (RobustPruneError, lambda: compare_representations(network, network, bad)),
        (EvaluationError, lambda: Extractor(network, IMAGES).run(bad)),
        (AttackError, lambda: run_attack(network, IMAGES, labels, sample_ids=bad if bad is not None else [None] * N)),
        (AttackError, lambda: run_attack(network, IMAGES, labels, targets=bad if bad is not None else ["a"] * N)),
        (CorruptionError, lambda: corrupt((IMAGES * 255).byte(), "gaussian_noise", 3, sample_ids=bad or ["a"] * N)),
    ]
    for kind, use in uses:
        with pytest.raises(kind):
            use()


@pytest.mark.filterwarnings("error")
def test_images_that_ask_for_gradients(network: nn.Module) -> None:
    labels = predict_logits(network, IMAGES).argmax(dim=1)
    found = run_attack(network, IMAGES.clone().requires_grad_(), labels, "fgsm", epsilon=0.05)
    assert torch.equal(found.adversarial, run_attack(network, IMAGES, labels, "fgsm", epsilon=0.05).adversarial)
    assert not found.adversarial.requires_grad


def test_ids_are_integers() -> None:
    labels = torch.zeros(N, dtype=torch.int64)

    def first_class(images: Tensor) -> Tensor:
        return torch.stack([images.flatten(1).sum(dim=1), images.flatten(1)[:, 0]], dim=1)

    for ids in (np.arange(N) + 0.5, torch.arange(N).float(), [1.0] * N):
        with pytest.raises(AttackError, match="one integer per image"):
            run_attack(first_class, IMAGES, labels, attack="fgsm", sample_ids=ids)  # type: ignore[arg-type]
    with pytest.raises(AttackError, match=f"expected {N} sample ids"):
        run_attack(first_class, IMAGES, labels, attack="fgsm", sample_ids=[1])  # type: ignore[arg-type]
