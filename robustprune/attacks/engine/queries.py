"""Asking a network about a batch of points: logits, losses, gradients, and what they cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.attack_counts import Counts, FirstGradients
from robustprune.attacks.engine.goal import are_predictions
from robustprune.attacks.norms import over_samples
from robustprune.errors import AttackError, ModelWarning
from robustprune.models import naming_failures, run_model
from robustprune.runtime.randomness import derive_seed, isolated_generators

# How torch's allocators, and the C++ library below them, put it.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


class Batches:
    """How many samples go through a network at once: as many as asked for, until that proves too much.

    Attributes:
        size: Samples per batch; only ever falls.
    """

    def __init__(self, size: int) -> None:
        """Start with ``size`` samples per batch."""
        self.size = size

    def run(self, n: int, work: Callable[[slice], None]) -> None:
        """Call ``work`` with consecutive parts of ``n`` samples; a part that runs out of memory comes again, halved.

        So ``work`` does nothing that counts before it is past the network.
        """
        start = 0
        while start < n:
            stop = min(start + self.size, n)
            try:
                work(slice(start, stop))
            except Exception as error:
                if stop - start == 1 or not is_out_of_memory(error):
                    raise
                self.size = (stop - start) // 2
                warnings.warn(
                    f"memory ran out on {stop - start} samples at once; going on with {self.size}",
                    ModelWarning,
                    stacklevel=2,
                )
                continue
            start = stop


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that memory ran out."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


@dataclass(frozen=True)
class Response:
    """What the model says of n samples at n points.

    Attributes:
        logits: (n, K).
        losses: (n,), which grow as the goal comes closer.
        gradients: (n, …) of the losses; zero where there is none to be had, and if they were not asked for.
    """

    logits: Tensor
    losses: Tensor
    gradients: Tensor


class ModelQueries:
    """Answers for a batch, and keeps count.

    Of a network that draws at random, the answer is the mean over several draws: of logits, of losses, and of the
    gradients of the losses (expectation over transformation, Athalye et al. 2018, arXiv:1707.07397, section 3), not
    the gradient at the mean logits, which is another one where the loss is curved.

    Attributes:
        draws: How many passes an answer takes.
        on_batch: Told of so many samples after each batch of a question.
    """

    def __init__(self, counts: Counts, batches: Batches, on_batch: Callable[[int], None], draws: int = 1) -> None:
        """Ask so many times."""
        self.counts, self.batches, self.draws, self.on_batch = counts, batches, draws, on_batch

    def mean_logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return logits (n, K) for images (n, …), differentiable and not counted."""
        return _mean([run_model(model, images) for _ in range(self.draws)])

    def predict(self, model: nn.Module, images: Tensor) -> Tensor:
        """Return logits (N, K) for images (N, …) of any number."""
        logits: list[Tensor] = []
        with torch.no_grad():
            self.batches.run(len(images), lambda part: logits.append(self.mean_logits(model, images[part])))
        self.counts.forwards += self.draws * len(images)
        return torch.cat(logits)

    def answer(
        self,
        model: nn.Module,
        batch: Tensor,
        loss: Callable[[Tensor], Tensor],
        start: FirstGradients | None,
        *,
        gradient: bool,
        proposed: Tensor,
    ) -> Response:
        """Return what the model says of one batch (n, …); its gradients, if wanted, are noted in ``start``, if given.

        ``loss`` is a function of logits (n, K); ``proposed`` are the points that the batch was made of.

        Raises:
            AttackError: Those are not finite.
        """
        without_graph = self.counts.without_graph
        draws = [self._draw(model, batch.detach(), loss, gradient=gradient) for _ in range(self.draws)]
        # At once, as each question by itself would wait for the device.
        odd = [(~are_predictions(logits)).sum() for logits, _, _ in draws]
        logits, losses, gradients = (_mean(each) for each in zip(*draws, strict=True))
        sums = [(~each.sum().isfinite()).to(odd[0]) for each in (proposed, gradients)]
        no_predictions, odd_points, odd_gradients = torch.stack([torch.stack(odd).sum(), *sums]).tolist()
        if odd_points and not all_finite(proposed):
            raise AttackError("the attack proposed points with NaN or infinity")
        self.counts.not_finite += no_predictions
        self.counts.forwards += self.draws * len(batch)
        if gradient:
            self.counts.gradients += self.draws * len(batch)
            is_whole = self.counts.without_graph == without_graph
            if odd_gradients or (start is not None and is_whole):
                gradients = self._usable(gradients, start if is_whole else None)
        return Response(logits, losses, gradients)

    def _draw(
        self, model: nn.Module, batch: Tensor, loss: Callable[[Tensor], Tensor], *, gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (n, K), losses (n,) and gradients (n, …) of one pass: zero where the losses have none."""
        with torch.set_grad_enabled(gradient):
            logits = run_model(model, batch.requires_grad_(gradient))
            losses = loss(logits)
        if losses.shape != batch.shape[:1]:
            raise AttackError(f"a loss must return one number per sample, not shape {tuple(losses.shape)}")
        slopes = None
        if gradient and losses.requires_grad:
            with naming_failures(f"has no gradient at images of shape {tuple(batch.shape)}"):
                (slopes,) = torch.autograd.grad(losses.sum(), batch, allow_unused=True)
        if slopes is None:
            self.counts.without_graph += gradient * len(batch)
            slopes = torch.zeros_like(batch) if gradient else batch.new_zeros(0)
        return logits.detach(), losses.detach(), slopes

    def _usable(self, gradients: Tensor, start: FirstGradients | None) -> Tensor:
        """Return gradients (n, …) with zeros, and a note in the counts, where they are not finite."""
        if start is None and all_finite(gradients):
            return gradients
        flat = gradients.flatten(1)
        is_finite = flat.isfinite().all(dim=1)
        self.counts.not_finite += int((~is_finite).sum())
        if start is not None:
            start.gradients += int(is_finite.sum())
            start.zeros += int((flat == 0).all(dim=1).sum())
        return gradients.masked_fill(over_samples(~is_finite, gradients), 0)


def all_finite(values: Tensor) -> bool:
    """Return whether all are: as their sum is, or, should that overflow, one by one."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def _mean(draws: Sequence[Tensor]) -> Tensor:
    return draws[0] if len(draws) == 1 else torch.stack(tuple(draws)).mean(dim=0)


def predict_once(model: nn.Module, images: Tensor, sample_ids: Sequence[int], *, seed: int, batches: Batches) -> Tensor:
    """Return logits (N, K) of one pass over images (N, …) in [0, 1], without gradients.

    Draws are keyed by the seed and by the first sample of each batch, apart from those that an attack has seen: a
    network that draws from the generators of torch, NumPy or Python draws for an image and for what attacks made of
    it the same. A sample that is broken by one of several points is so no victim of being asked several times. A
    network with a generator of its own, or after memory ran out in between, draws afresh.
    """
    logits: list[Tensor] = []

    def compute(part: slice) -> None:
        own = derive_seed(seed, "verdict", sample_ids[part.start])
        with torch.no_grad(), isolated_generators(own, images.device):
            logits.append(run_model(model, images[part]))

    batches.run(len(images), compute)
    return torch.cat(logits)
