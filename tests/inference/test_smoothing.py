"""Randomized smoothing: of a linear network the certificate is the distance to its plane; and attacks within it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from robustprune.errors import EvaluationError
from robustprune.inference import ABSTAINS, Certify, certify, predict_smoothed, saved_votes
from robustprune.runtime.work import Work

SIGMA = 0.5
IMAGES = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(3))


class Plane(nn.Module):
    """Logits (0, w·x + b): a hyperplane with a unit normal."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(16, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight / weight.norm())
        self.bias = nn.Parameter(-(IMAGES.flatten(1) @ self.weight).median().detach())

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(score), score], dim=1)


def distances() -> np.ndarray:
    plane = Plane()
    return plane(IMAGES)[:, 1].abs().detach().double().numpy()  # type: ignore[no-any-return]


def test_of_a_plane_the_radius_is_below_the_distance_and_tends_to_it() -> None:
    # Of the noise 1 − Φ(−d/σ) stays on the image's side, and σ Φ⁻¹ of that is the distance d (Cohen et al., appendix).
    plane, labels = Plane(), Plane()(IMAGES).argmax(1)
    few = certify(plane, IMAGES, labels, sigma=SIGMA, n=200)
    many = certify(plane, IMAGES, labels, sigma=SIGMA, n=20_000)
    true = distances()
    assert (few.radii <= true).all()
    assert (many.radii <= true).all()
    gap_of_few, gap_of_many = (true - each.radii for each in (few, many))
    assert gap_of_many.mean() < gap_of_few.mean() / 4
    far = true > 0.1
    assert far.sum() >= 4
    assert (gap_of_many[far] < 0.07).all()
    assert (many.predictions[far] == labels.numpy()[far]).all()
    # An image on the plane is of neither side.
    assert many.predictions[true < 0.005].tolist() == [ABSTAINS] * int((true < 0.005).sum())
    # The share of the votes is that of the closed form, within four standard deviations.
    chance = norm.cdf(true / SIGMA)
    on_its_side = many.votes / 20_000
    certain = many.radii > 0
    np.testing.assert_allclose(on_its_side[certain], chance[certain], atol=4 * np.sqrt(0.25 / 20_000))


def test_an_interval_covers_the_distance_as_often_as_promised() -> None:
    # Each seed and image is a draw; α = 0.1 of radii may exceed the distance.
    plane, labels = Plane(), Plane()(IMAGES).argmax(1)
    settings = {"sigma": SIGMA, "n": 100, "n0": 50, "alpha": 0.1}
    radii = np.stack([certify(plane, IMAGES, labels, seed=seed, **settings).radii for seed in range(40)])
    wrong = int((radii > distances()).sum())
    assert 0 < wrong <= 0.1 * radii.size + 4 * np.sqrt(0.09 * radii.size)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network that was trained under noise, and twenty digits."""
    images, labels = load_digits(return_X_y=True)
    shown = torch.tensor(images / 16, dtype=torch.float32)
    truth = torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(8):
            for rows in torch.randperm(1500).split(64):
                optimizer.zero_grad()
                noisy = shown[rows] + SIGMA / 2 * torch.randn(shown[rows].shape)
                F.cross_entropy(network(noisy), truth[rows]).backward()
                optimizer.step()
    return network.eval(), shown[-20:], truth[-20:]


def attacked(network: nn.Module, images: Tensor, labels: Tensor, radii: Tensor, sigma: float) -> Tensor:
    """Return points within radii where the smoothed network's loss is high, by PGD on averaged gradients."""
    generator = torch.Generator().manual_seed(9)
    delta = torch.zeros_like(images)
    for _ in range(12):
        delta.requires_grad_()
        noise = sigma * torch.randn((32, *images.shape), generator=generator)
        logits = network((images + delta + noise).flatten(0, 1)).reshape(32, len(images), -1)
        loss = F.nll_loss(logits.softmax(-1).mean(0).log(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, delta)
        step = gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12) * radii[:, None] / 3
        delta = (delta + step).detach()
        delta = delta * (radii / delta.norm(dim=1).clamp(min=1e-12)).clamp(max=1)[:, None]
    return images + delta


def test_no_attack_within_the_radius_changes_the_smoothed_answer(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, images, labels = trained
    sigma = SIGMA / 2
    found = certify(network, images, labels, sigma=sigma, n=1000)
    assert found.accuracy() > 0.5
    radii = torch.tensor(found.radii, dtype=torch.float32)
    certain = torch.tensor(found.radii > 0)
    classes = torch.tensor(found.predictions)
    points = attacked(network, images[certain], classes[certain], radii[certain] * 0.999, sigma)
    assert ((points - images[certain]).norm(dim=1) <= radii[certain]).all()
    # So what is certified withstands the attack, sample by sample; α near 1 takes the class of most votes.
    answers = predict_smoothed(network, points, sigma=sigma, n=4000, alpha=0.999, seed=5)
    np.testing.assert_array_equal(answers, classes[certain].numpy())
    # Where the radius is left behind by far, the answer does change: the attack is no straw man.
    far = attacked(network, images, labels, torch.full((20,), 4.0), sigma)
    assert (predict_smoothed(network, far, sigma=sigma, n=200) != labels.numpy()).mean() > 0.8


def test_noise_belongs_to_the_image(trained: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, images, labels = trained
    settings = {"sigma": 0.3, "n": 170, "n0": 30, "seed": 4}
    whole = certify(network, images, labels, **settings)
    small = certify(network, images, labels, batch_size=7, **settings)
    np.testing.assert_array_equal(small.votes, whole.votes)
    np.testing.assert_array_equal(small.radii, whole.radii)
    some = torch.tensor([3, 11, 17])
    part = certify(network, images[some], labels[some], sample_ids=some, **settings)
    np.testing.assert_array_equal(part.votes, whole.votes[some])
    other = certify(network, images, labels, **{**settings, "seed": 5})
    assert (other.votes != whole.votes).any()


class Interrupted(nn.Module):
    """A network that is shown so many batches and then no more, counting them."""

    def __init__(self, inner: nn.Module, batches: int) -> None:
        super().__init__()
        self.inner, self.left, self.shown = inner, batches, 0

    def forward(self, images: Tensor) -> Tensor:
        self.shown += 1
        if self.shown > self.left:
            raise KeyboardInterrupt
        return self.inner(images)  # type: ignore[no-any-return]

    def __str__(self) -> str:  # the same network, however much it is shown
        return "Interrupted"


def test_an_interrupted_one_goes_on_where_it_was(
    trained: tuple[nn.Module, Tensor, Tensor], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, images, labels = trained
    monkeypatch.setattr(saved_votes, "SECONDS_BETWEEN", 0.0)
    # Neither of what looks at the network first is counted.
    monkeypatch.setattr("robustprune.inference.smoothing.accelerate", lambda model, images: model)
    monkeypatch.setattr("robustprune.inference.smoothing._check_apart", lambda model, images: None)
    settings = {"sigma": 0.3, "n": 100, "n0": 50}
    whole = certify(network, images, labels, **settings)
    work = Work(folder=tmp_path)  # type: ignore[arg-type]
    for moment in (1, 9, 24):
        with pytest.raises(KeyboardInterrupt):
            certify(Interrupted(network, moment), images, labels, work=work, **settings)
    last = Interrupted(network, 10_000)
    resumed = certify(last, images, labels, work=work, **settings)
    np.testing.assert_array_equal(resumed.radii, whole.radii)
    np.testing.assert_array_equal(resumed.predictions, whole.predictions)
    # Two batches an image: the first calls were through with 0, 4 and 12 images.
    assert last.shown == 2 * (20 - 16)
    assert len(work.kept) == 1
    (file,) = work.kept
    file.write_bytes(b"nothing")
    with pytest.raises(EvaluationError, match="delete it to start anew"):
        certify(Interrupted(network, 10_000), images, labels, work=work, **settings)


def test_a_network_that_says_nothing_certifies_nothing() -> None:
    class Silent(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :2] * torch.nan

    found = certify(Silent(), IMAGES[:2], [0, 1], sigma=0.1, n=10, n0=10)
    assert found.predictions.tolist() == [ABSTAINS] * 2
    assert found.abstained == 1
    assert found.average_radius == 0


def test_what_makes_no_sense_is_refused() -> None:
    plane, labels = Plane(), torch.zeros(12)
    with pytest.raises(EvaluationError, match="needs sigma"):
        certify(plane, IMAGES, labels)
    with pytest.raises(EvaluationError, match=r"sigma: Input should be greater than 0"):
        certify(plane, IMAGES, labels, sigma=0)
    with pytest.raises(EvaluationError, match="there is no setting 'sgima'"):
        certify(plane, IMAGES, labels, 0.5, sgima=1)
    with pytest.raises(EvaluationError, match="12 images need as many labels"):
        certify(plane, IMAGES, labels[:3], 0.5)
    with pytest.raises(EvaluationError, match="12 images need as many sample ids"):
        certify(plane, IMAGES, labels, 0.5, sample_ids=[1])
    with pytest.raises(EvaluationError, match=r"must lie in \[0, 1\].* run from .* Divide by 255"):
        certify(plane, IMAGES * 255, labels, 0.5)
    with pytest.raises(EvaluationError, match="run from nan"):
        certify(plane, IMAGES * torch.nan, labels, 0.5)
    with pytest.raises(EvaluationError, match="batch_size must be at least 1"):
        certify(plane, IMAGES, labels, 0.5, batch_size=0)


class Centred(Plane):
    """Subtracts the mean of the batch, as a layer with batch statistics does."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images - images.mean(0))


class Dropping(Plane):
    """Draws at random in evaluation mode, too."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.dropout(images, 0.2))


def test_an_answer_that_depends_on_the_batch_is_refused_and_a_random_one_is_not() -> None:
    labels = Plane()(IMAGES).argmax(1)
    with pytest.raises(EvaluationError, match="other images are beside an image in its batch"):
        certify(Centred(), IMAGES, labels, SIGMA, n=100)
    assert certify(Dropping(), IMAGES, labels, SIGMA, n=100).accuracy() > 0


def test_a_request_reads_its_radii_from_text() -> None:
    assert Certify(0.25, radii="0+0.25+0.5").radii == Certify(sigma=0.25, radii=[0, 0.25, 0.5]).radii == (0, 0.25, 0.5)
    assert Certify(0.25, radii=1).radii == (1,)
    with pytest.raises(EvaluationError, match="radii"):
        Certify(0.25, radii=[-1])
    with pytest.raises(EvaluationError, match="radii"):
        Certify(0.25, radii=[])
