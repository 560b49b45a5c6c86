"""What an attack sees: a set of samples to be misclassified, and the questions it may ask about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustprune.attacks.batching import Batches
from robustprune.attacks.goal import Goal, Score
from robustprune.attacks.ledger import Ledger, Start, Tally
from robustprune.attacks.losses import Loss, get_loss, get_targeted_loss
from robustprune.attacks.norms import contain
from robustprune.attacks.settings import Settings
from robustprune.errors import AttackError
from robustprune.randomness import derive_seed, seeded_generator


@dataclass(frozen=True)
class Answer:
    """What the model says of n samples at n points.

    Attributes:
        logits: (n, K).
        losses: (n,), which grow as the goal comes closer.
        gradients: (n, …) of the losses; zero where there is none to be had, and if they were not asked for.
    """

    logits: Tensor
    losses: Tensor
    gradients: Tensor


class AttackProblem:
    """A set of samples under attack. An attack proposes points; everything else is decided here.

    Whatever points (N, …) an attack passes, they are moved into the ε-ball and the box before the model sees
    them, only the active samples among them are computed, in full batches across the set, and the best point
    of each sample is kept. An attack may so be written as if for one batch, without a thought for any of it;
    one that keeps much state per sample does better to hold the indices of those still active (`rows`) and
    to `ask` about them alone.

    Attributes:
        images: (N, …) float32 in [0, 1], on the device of the model.
        labels: (N,) int64.
        targets: (N,) int64, the classes to reach; None where any wrong one will do.
        clean_logits: (N, K) at the images.
        epsilon: The budget.
        norm: Its norm, by name.
        restart: Which restart this is, from 0.
        model: The module behind the questions, for attacks that bring their own; what it computes is not
            counted unless they see to it.
    """

    def __init__(
        self,
        forward: Callable[[nn.Module, Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        clean_logits: Tensor,
        sample_ids: list[int],
        settings: Settings,
        tally: Tally,
        on_batch: Callable[[int], None],
        *,
        targets: Tensor | None = None,
        model: nn.Module,
        batches: Batches | None = None,
    ) -> None:
        """Set a problem up; called by the engine with images, labels and logits on one device."""
        self.images, self.labels, self.targets, self.clean_logits = images, labels, targets, clean_logits
        self.epsilon, self.norm = settings.epsilon, settings.norm.name
        self.restart = 0
        self.details: dict[str, Any] = {}
        self.has_drawn = False
        self.queries = 0
        self.goal = Goal(labels, targets)
        self.ledger = Ledger(images, self.goal, clean_logits, settings.selection)
        self.model = model
        self.stages: list[str] = [""]
        self.tally, self.batches = tally, batches or Batches(settings.batch_size)
        self._only = torch.ones_like(self.ledger.is_broken)
        self._pool = torch.zeros_like(self.ledger.is_broken)
        self._forward, self._on_batch = forward, on_batch
        self._sample_ids, self._settings = sample_ids, settings
        self._stage, self._draws = "", 0
        self._start: Start | None = None
        self._had_drawn = False
        self.detach_state()

    @property
    def active(self) -> Tensor:
        """(N,) bool: the samples still computed; those broken are not, unless early stopping is off."""
        return self._pool & ~self.ledger.is_broken if self._settings.early_stop else self._pool

    @property
    def rows(self) -> Tensor:
        """Indices (n,) of the active samples."""
        return self.active.nonzero().flatten()

    def begin_restart(self, restart: int, only: Tensor | None = None) -> None:
        """Start over on the samples that survived so far (called by the engine), or on some of them (N,)."""
        self.restart = restart
        self._draws = 0
        self.has_drawn = False
        if only is not None:
            self._only = only
        self._fill_pool()

    def run_restart(self, attack: Callable[..., None], options: dict[str, Any]) -> None:
        """Run the attack, unless a saved state says that it was (called by the engine)."""
        if self._is_missing(""):
            attack(self, **options)
            self._on_finished("")
        else:
            self.has_drawn |= self._had_drawn

    def run_stage(self, name: str, attack: Callable[..., None], **options: Any) -> None:
        """Run another attack as a named part of this one, on what the parts before it left.

        The result says which part broke a sample, and an interrupted attack is picked up after the last part
        that was finished. A part draws at random as if it ran alone.
        """
        self.describe(stages={**self.details.get("stages", {}), name: options})
        if name not in self.stages:
            self.stages.append(name)
        if not self._is_missing(name):
            self.has_drawn |= self._had_drawn
            return
        outer = self._stage, self._draws
        self._stage, self._draws = name, 0
        self._fill_pool()
        attack(self, **options)
        self._stage, self._draws = outer
        self._on_finished(name)

    def describe(self, **details: Any) -> None:
        """Add to the options the result reports, such as a schedule that follows from them."""
        self.details.update(details)

    def draw(self, sampler: Callable[[Generator, torch.Size], Tensor]) -> Tensor:
        """Return one random tensor per active sample (N, …), zero for the others.

        The generator handed to ``sampler`` is seeded by (seed, sample id, restart, number of draws before):
        neither batch size nor order nor the choice of a subset changes what a sample gets.

        Args:
            sampler: Generator on the CPU, shape of one sample → a tensor of that shape.
        """
        generator = Generator()
        drawn = torch.zeros(self.images.shape)
        where: list[int | str] = [self.restart, self._draws, *([self._stage] if self._stage else [])]
        for row in self.rows.tolist():
            generator.manual_seed(derive_seed(self._settings.seed, self._sample_ids[row], *where))
            drawn[row] = sampler(generator, self.images.shape[1:])
        self._draws += 1
        self.has_drawn = True
        return drawn.to(self.images.device)

    def draw_seed(self, *what: int | str) -> int:
        """Return a seed for generators the engine does not own, keyed by seed, restart, stage and ``what``."""
        self.has_drawn = True
        return derive_seed(self._settings.seed, self.restart, self._stage, *what)

    def run_forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K) of the model for images (n, …) as they are: not counted, not contained, not kept."""
        return self._forward(self.model, images)

    def shared_generator(self) -> Generator:
        """Return a generator on the CPU whose draws all samples share, keyed by seed, restart and stage."""
        self.has_drawn = True
        return seeded_generator(self._settings.seed, "shared", self.restart, self._stage)

    def random_start(self) -> Tensor:
        """Return points (N, …) drawn uniformly from the ε-ball around the images, moved into the box."""
        norm = self._settings.norm
        return self.project(self.images + self.draw(lambda generator, shape: norm.draw(generator, shape, self.epsilon)))

    def project(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return points (n, …) moved into the ε-ball around the images ``rows``, then into the box [0, 1]."""
        images = self.images if rows is None else self.images[rows]
        return contain(points, images, self.epsilon, self._settings.norm)

    def size(self, delta: Tensor) -> Tensor:
        """Return the norms (n,) of perturbations (n, …)."""
        return self._settings.norm.size(delta)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return directions (N, …) of norm 1 along which the loss rises fastest; zero for a zero gradient."""
        return self._settings.norm.steepest(gradient)

    def uphill(self, points: Tensor, gradients: Tensor) -> Tensor:
        """Return `steepest` directions (n, …) at points (n, …).

        In L1, where a step moves few pixels, those that the box holds are passed over.
        """
        if self.norm == "l1":
            is_held = ((points <= 0) & (gradients < 0)) | ((points >= 1) & (gradients > 0))
            gradients = gradients.masked_fill(is_held, 0)
        return self.steepest(gradients)

    def gradient(self, points: Tensor, loss: str | Loss = "ce") -> Tensor:
        """Return the gradient (N, …) of each sample's loss, along which it rises; zero where not active."""
        return self.loss_and_gradient(points, loss)[1]

    def loss_and_gradient(self, points: Tensor, loss: str | Loss = "ce") -> tuple[Tensor, Tensor]:
        """Return losses (N,) at the points and their gradients (N, …); zero where not active.

        Args:
            points: (N, …); contained before use, so the values are those of ``project(points)``.
            loss: A name in `robustprune.attacks.losses.LOSSES`, or logits (n, K), labels (n,) → (n,). With a
                target, it is the target's, and what is returned rises as it falls.
        """
        rows = self.rows
        answer = self.ask(rows, self._points_of(points, rows), loss)
        losses = torch.zeros(len(self.labels), device=self.images.device)
        gradients = torch.zeros_like(self.images)
        losses[rows], gradients[rows] = answer.losses, answer.gradients
        return losses, gradients

    def evaluate(self, points: Tensor, loss: str | Loss = "ce") -> Tensor:
        """Return the logits (N, K) at the points, without gradients.

        Samples that are not active keep the logits of the point kept for them.

        Args:
            points: (N, …); contained before use.
            loss: As in `loss_and_gradient`; of two points that do not break a sample, the one of higher loss
                is kept.
        """
        rows = self.rows
        answer = self.ledger.logits.clone()
        answer[rows] = self.ask(rows, self._points_of(points, rows), loss, gradient=False).logits
        return answer

    def ask(
        self,
        rows: Tensor,
        points: Tensor,
        loss: str | Loss = "ce",
        *,
        against: Tensor | None = None,
        gradient: bool = True,
        is_contained: bool = True,
    ) -> Answer:
        """Return what the model says of some samples, and keep the points that are better than those before.

        Args:
            rows: (n,) indices of the samples, usually `rows` or what is left of them.
            points: (n, …); contained before use.
            loss: As in `loss_and_gradient`.
            against: (n,) a class per sample that the loss weighs against the label; ``loss`` is then
                ``"dlr"`` or ``"margin"``.
            gradient: Whether gradients are needed.
            is_contained: Without, the points need only lie in the box, and are not kept: for attacks that
                approach the ball from outside.
        """
        score, stage = self._score(loss, rows, against), self.stages.index(self._stage)
        self.queries += 1
        logits = torch.zeros(len(rows), self.clean_logits.shape[1], device=self.images.device)
        losses = torch.zeros(len(rows), device=self.images.device)
        gradients = torch.zeros_like(points) if gradient else points.new_zeros(0)

        def compute(part: Tensor) -> None:
            where = rows[part]
            batch = points[part].detach().to(self.images.device).float()
            if not batch.isfinite().all():
                raise AttackError("the attack proposed points with NaN or infinity")
            if is_contained:
                batch = contain(batch, self.images[where], self.epsilon, self._settings.norm)
            with torch.set_grad_enabled(gradient):
                found = self._forward(self.model, batch.requires_grad_() if gradient else batch)
                values = score(found, where)
            if values.shape != where.shape:
                raise AttackError(f"a loss must return one number per sample, not shape {tuple(values.shape)}")
            if gradient:
                gradients[part] = self._ascent(values, batch)
            found, batch = found.detach(), batch.detach()
            logits[part], losses[part] = found, values.detach().to(losses.dtype)
            self._on_batch(len(where))
            self.ledger.asked[where] += 1
            self.tally.forwards += len(where)
            self.tally.not_finite += int((~found.isfinite()).any(dim=1).sum())
            if is_contained:
                self.ledger.record(where, batch, found, score, self.queries, stage)

        first = gradient and len(rows) > 0 and self._stage not in self.tally.starts
        self._start = Start() if first else None
        self.batches.run(torch.arange(len(rows), device=self.images.device), compute)
        if self._start is not None:
            self.tally.starts[self._stage] = self._start
        return Answer(logits, losses, gradients)

    def watch_stages(self, is_missing: Callable[[str], bool], on_finished: Callable[[str], None]) -> None:
        """Ask ``is_missing`` before each stage and tell ``on_finished`` after it; the whole attack is ``""``."""
        self._is_missing, self._on_finished = is_missing, on_finished

    def detach_state(self) -> None:
        """Run every stage, and tell nobody."""
        self.watch_stages(lambda stage: True, lambda stage: None)

    def reopen(self, doubtful: Tensor) -> None:
        """Take samples (N,) for unbroken again, from their images on."""
        ledger = self.ledger
        ledger.is_broken &= ~doubtful
        ledger.points[doubtful], ledger.logits[doubtful] = self.images[doubtful], self.clean_logits[doubtful]
        ledger.first_broken[doubtful] = ledger.stage[doubtful] = -1

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs beside the ledger."""
        details = json.dumps(self.details, default=str)
        return {"queries": self.queries, "drawn": self.has_drawn, "stages": list(self.stages), "details": details}

    def restore(self, state: dict[str, Any], ledger: dict[str, Tensor]) -> None:
        """Go back to a `state`."""
        self.queries, self._had_drawn = state["queries"], state["drawn"]
        self.stages[:] = state["stages"]
        self.details = json.loads(state["details"])
        self.ledger.restore(ledger)

    def _fill_pool(self) -> None:
        self._pool = ~self.ledger.is_broken & self._only & (self.epsilon > 0)

    def _points_of(self, points: Tensor, rows: Tensor) -> Tensor:
        if points.shape != self.images.shape:
            raise AttackError(
                f"the attack proposed points of shape {tuple(points.shape)} for images of shape "
                f"{tuple(self.images.shape)}"
            )
        return points.to(self.images.device)[rows]

    def _score(self, loss: str | Loss, rows: Tensor, against: Tensor | None) -> Score:
        if against is None:
            return self.goal.score(get_loss(loss))
        compare = get_targeted_loss(loss)
        rivals = torch.zeros_like(self.labels)
        rivals[rows] = against
        return lambda logits, where: compare(logits, self.labels[where], rivals[where])

    def _ascent(self, losses: Tensor, batch: Tensor) -> Tensor:
        """Return the gradient, with zeros, and a note in the tally, where there is none to be had."""
        gradient = None
        if losses.requires_grad:
            (gradient,) = torch.autograd.grad(losses.sum(), batch, allow_unused=True)
        self.tally.gradients += len(batch)
        if gradient is None:
            self.tally.without_graph += len(batch)
            return torch.zeros_like(batch)
        flat = gradient.flatten(1)
        is_finite = flat.isfinite().all(dim=1)
        self.tally.not_finite += int((~is_finite).sum())
        if self._start is not None:
            self._start.gradients += int(is_finite.sum())
            self._start.zeros += int((flat == 0).all(dim=1).sum())
        return gradient.masked_fill(~is_finite.reshape(-1, *([1] * (batch.ndim - 1))), 0)
