"""Randomized smoothing: the class that a network most often gives to noisy copies, and how far that is proven.

Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918: PREDICT and CERTIFY there. The noise of an image is its own, by seed
and number; neither the batch size nor which images are certified together changes it. Noisy copies are not moved back
into [0, 1], as there: the network is shown what lies outside, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustprune.errors import EvaluationError, ModelWarning
from robustprune.inference.frozen import accelerate
from robustprune.inference.requests import Certify
from robustprune.inference.saved_votes import SavedVotes, votes_file
from robustprune.metrics import (
    average_certified_radius,
    certified_accuracy,
    certified_radius,
    is_majority,
)
from robustprune.models import as_network, evaluation_mode, logit_gap, model_device, placed, run_model, to_unit_range
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.devices import Device
from robustprune.runtime.randomness import seeded_generator
from robustprune.runtime.work import Work, labelled, steps

ABSTAINS = -1
_COUPLED = 1e-3  # of the largest logit; rounding that differs with the size of a batch stays below
_BLOCK = 50  # noisy copies that are drawn together: to draw fewer of them at once would change what is drawn


@dataclass(frozen=True, eq=False)
class Certificates:
    """What is proven of each image.

    Attributes:
        predictions: (N,) int64, the classes; −1 where it abstains.
        radii: (N,) float64, L2 radii within which the smoothed classifier's answer stays; 0 where it abstains.
        votes: (N,) int64, how many of the noisy copies were given the class that was chosen.
        labels: (N,) int64.
        request: How they were made.
    """

    predictions: NDArray[np.int64]
    radii: NDArray[np.float64]
    votes: NDArray[np.int64]
    labels: NDArray[np.int64]
    request: Certify

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) whether the class is the label."""
        found: NDArray[np.bool_] = self.predictions == self.labels
        return found

    @property
    def abstained(self) -> float:
        """The share of images of which nothing is proven."""
        return float(np.mean(self.predictions == ABSTAINS))

    @property
    def average_radius(self) -> float:
        """The mean radius, 0 where the class is wrong (Zhai et al. 2020, arXiv:2001.02378)."""
        return average_certified_radius(self.radii, self.right)

    def accuracy(self, radius: float = 0.0) -> float:
        """Return the share of images whose label is proven within an L2 radius."""
        return certified_accuracy(self.radii, self.right, radius)


def certify(
    model: nn.Module,
    images: Array,
    labels: Array,
    request: Certify | float | None = None,
    *,
    seed: int = 0,
    sample_ids: Sequence[int] | Array | None = None,
    batch_size: int = 256,
    device: Device = None,
    work: Work = Work(),
    **fields: Any,
) -> Certificates:
    """Return L2 radii within which the smoothed classifier's answers are proven: ``certify(…, sigma=0.25, n=1000)``.

    Each image takes n + n0 forward passes. A network that was not trained under such noise has small radii.

    Args:
        model: Maps float images in [0, 1], and noisy ones beyond, to logits (N, K); normalization is inside it.
        images: (N, …), uint8 or float in [0, 1].
        labels: (N,) integers.
        request: How much noise, how many copies; or σ alone.
        seed: Keys the noise, together with the sample ids.
        sample_ids: (N,) integers that say which image is which; 0…N−1 by default.
        batch_size: Copies per forward pass. Does not change the outcome beyond rounding.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``, … or ``auto``, the fastest there is; by default where
            the network's weights are. The network itself stays where it is.
        work: Processes share the images; its folder keeps votes, which an interrupted call goes on from.
        fields: Fields of `Certify`, in place of those of the request.

    Raises:
        EvaluationError: No σ, images outside [0, 1], images and labels that do not fit each other, a value that
            makes no sense, or a network whose answer to an image depends on the others of its batch.
        ModelError: The model does not run on these images.
    """
    asked = Certify.of({} if request is None else request, **fields)
    if asked.sigma is None:
        raise EvaluationError("certify needs sigma, the standard deviation of the noise on the [0, 1] scale, as 0.25")
    voters = _Voters(model, images, sample_ids, (seed, batch_size, asked.sigma), device)
    truth = to_tensor(labels, "labels").cpu().long()
    if truth.shape != (len(voters.images),):
        raise EvaluationError(f"{len(voters.images)} images need as many labels, got shape {tuple(truth.shape)}")
    _check_scale(voters.images)

    def run(places: Tensor) -> list[Tensor]:
        saved = SavedVotes(len(places), voters.file(places, asked, work))
        step = steps(labelled(work.progress, "certifying"), max(1, len(places) - saved.done))
        for place in places[saved.done :].tolist():
            chosen = int(voters.votes(place, "choice", asked.n0).argmax())
            votes = voters.votes(place, "radius", asked.n)
            saved.add(chosen, int(votes[chosen]) if chosen < len(votes) else 0)
            step()
        return [saved.classes, saved.votes]

    classes, votes = (each.numpy() for each in work.processes.spread(len(truth), 1, run))
    radii = certified_radius(votes, asked.n, sigma=asked.sigma, alpha=asked.alpha)
    return Certificates(np.where(radii > 0, classes, ABSTAINS), radii, votes, truth.numpy(), asked)


def predict_smoothed(
    model: nn.Module,
    images: Array,
    *,
    sigma: float,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    sample_ids: Sequence[int] | Array | None = None,
    batch_size: int = 256,
    device: Device = None,
) -> NDArray[np.int64]:
    """Return the classes (N,) that the smoothed classifier answers with; −1 where it abstains.

    It answers with a class that has more of the n votes than the next one by more than chance, at level α.
    The arguments are those of `certify`.

    Raises:
        EvaluationError: As `certify`.
        ModelError: As `certify`.
    """
    asked = Certify(sigma, n=n, alpha=alpha)
    voters = _Voters(model, images, sample_ids, (seed, batch_size, sigma), device)
    found = np.full(len(voters.images), ABSTAINS)
    for place in range(len(found)):
        most = voters.votes(place, "prediction", asked.n).topk(2)
        if is_majority(most.values[:1].numpy(), most.values[1:].numpy(), asked.alpha).all():
            found[place] = int(most.indices[0])
    return found


def _check_scale(images: Tensor) -> None:
    low, high = (float(bound) for bound in to_unit_range(images).aminmax())
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise EvaluationError(
            f"images must lie in [0, 1], where sigma and the radii are measured; these run from {low:g} to {high:g}. "
            f"Divide by 255 if they are on that scale, and put normalization inside the model"
        )


def _check_apart(model: nn.Module, images: Tensor) -> None:
    """Refuse a network whose answer to an image depends on the others of its batch: no vote would be its own."""
    with torch.inference_mode():
        together, again = run_model(model, images), run_model(model, images)
        alone = torch.cat([run_model(model, image) for image in torch.split(images, 1)])
    # One that draws at random differs in any case, and each of its draws may be the image's own.
    if logit_gap(together, alone) > _COUPLED >= logit_gap(together, again):
        raise EvaluationError(
            "the network answers otherwise when other images are beside an image in its batch, so its votes prove "
            "nothing of that image alone; batch statistics in use are the usual cause"
        )


class _Voters:
    """A network that is shown noisy copies of images."""

    def __init__(
        self,
        model: nn.Module,
        images: Array,
        sample_ids: Sequence[int] | Array | None,
        how: tuple[int, int, float],
        device: Device,
    ) -> None:
        self.model, self.images = placed(as_network(model), device), to_tensor(images, "images")
        self._seed, self._batch_size, self._sigma = how
        if self.images.ndim < 2 or len(self.images) == 0:
            raise EvaluationError(f"expected images (N, …) with N ≥ 1, got shape {tuple(self.images.shape)}")
        if self._batch_size < 1:
            raise EvaluationError(f"batch_size must be at least 1, got {self._batch_size}")
        self._ids = torch.arange(len(self.images)) if sample_ids is None else to_tensor(sample_ids, "sample ids").cpu()
        if self._ids.shape != (len(self.images),):
            raise EvaluationError(f"{len(self.images)} images need as many sample ids, got {tuple(self._ids.shape)}")
        self._place = model_device(self.model)
        with warnings.catch_warnings(), evaluation_mode(self.model):
            warnings.simplefilter("ignore", ModelWarning)
            few = to_unit_range(self.images[:16]).to(self._place)
            _check_apart(self.model, few)
            self._fast = accelerate(self.model, few)

    def file(self, places: Tensor, asked: Certify, work: Work) -> Any:
        """Return where the votes on some images are kept; None where they are not."""
        if work.folder is None:
            return None
        settings = {"seed": self._seed, **asked.model_dump(mode="json", include={"sigma", "n", "n0"})}
        images = self.images[places.to(self.images.device)]
        path = votes_file(work.folder, self.model, images, self._ids[places], settings)
        work.kept.add(path)
        return path

    def votes(self, place: int, purpose: str, count: int) -> Tensor:
        """Return how many (K,) of so many noisy copies of an image are given each class; logits of NaN count for none.

        Each purpose has noise of its own, of which a smaller count has the beginning.
        """
        image = to_unit_range(self.images[place : place + 1]).to(self._place)
        found = torch.zeros(0, dtype=torch.long)
        with evaluation_mode(self._fast), torch.inference_mode():
            for noise in self._noise(place, purpose, count):
                logits = run_model(self._fast, image + self._sigma * noise.to(self._place)).cpu()
                classes = logits.argmax(dim=1)[~logits.isnan().any(dim=1)]
                own = torch.bincount(classes, minlength=logits.shape[1])
                found = own if len(found) == 0 else found + own
        return found

    def _noise(self, place: int, purpose: str, count: int) -> Iterator[Tensor]:
        """Yield batches (n, …) of normal noise for an image, so many in all."""
        shape, sample = self.images.shape[1:], int(self._ids[place])
        together = max(1, self._batch_size // _BLOCK) * _BLOCK
        for start in range(0, count, together):
            blocks = range(start, min(start + together, count), _BLOCK)
            generators = (seeded_generator(self._seed, "smoothing", purpose, sample, block) for block in blocks)
            drawn = torch.cat([torch.randn((_BLOCK, *shape), generator=each) for each in generators])
            yield from torch.split(drawn[: count - start], self._batch_size)
