"""What an attack sees: a set of samples to be misclassified, and the questions it may ask about them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustprune.attacks.engine.attack_counts import FirstGradients
from robustprune.attacks.engine.best_points import BestPoints
from robustprune.attacks.engine.goal import Goal, Score
from robustprune.attacks.engine.loss_path import LossPath
from robustprune.attacks.engine.queries import ModelQueries, Response
from robustprune.attacks.engine.samples import Samples
from robustprune.attacks.losses import TARGETED_LOSSES, Loss, get_loss, margin
from robustprune.attacks.norms import Radius, contain, get_norm, nearest_delta, uphill
from robustprune.attacks.registry import AttackFunction, check_norm
from robustprune.attacks.requests import Attack
from robustprune.errors import AttackError
from robustprune.runtime.randomness import derive_seed, seeded_generator


class AttackProblem:
    """A set of samples under attack. An attack proposes points; everything else is decided here.

    Whatever points (N, …) an attack passes, they are moved into the ε-ball and the box before the model sees
    them, only the active samples among them are computed, in full batches across the set, and the best point
    of each sample is kept. An attack may so be written as if for one batch, without a thought for any of it;
    one that keeps much state per sample does better to hold the indices of those still active (`rows`), to `ask`
    about them alone, and to `narrow` what it holds after each step.

    Attributes:
        images: (N, …) float32 in [0, 1], on the device of the model.
        labels: (N,) int64.
        targets: (N,) int64, the classes to reach; None where any wrong one will do.
        clean_logits: (N, K) at the images.
        sample_ids: N numbers that the samples go by, whatever their places here.
        epsilon: The budget.
        norm: Its norm, by name.
        restart: Which restart this is, from 0.
        stages: The parts begun so far, as the points kept name them; an attack of one piece has one called ``""``.
        stage: The one that runs.
        has_drawn: Whether another restart would do something else; set by whatever draws at random here.
        looked: The parts whose first gradients are counted.
        path: How the margins of the samples rose.
        model: The module behind the questions, for attacks that bring their own; what it computes is not
            counted unless they see to it.
    """

    def __init__(
        self,
        model_queries: ModelQueries,
        model: nn.Module,
        samples: Samples,
        clean_logits: Tensor,
        request: Attack,
        *,
        single: Tensor | None = None,
    ) -> None:
        """Set a problem up; called by the engine with samples and logits on one device, images as floats.

        Where the clean logits are means of several passes, ``single`` are those of the one that has the last word.
        """
        images, labels, targets = samples.images, samples.labels, samples.targets
        self.images, self.labels, self.targets, self.clean_logits = images, labels, targets, clean_logits
        self.epsilon, self.norm = request.epsilon, request.norm
        self._norm = get_norm(request.norm)
        self.restart = 0
        self.details: dict[str, Any] = {}
        self.has_drawn = False
        self.queries = 0
        self.goal = Goal(labels, targets)
        self.best = BestPoints(images, self.goal, clean_logits, request.selection, single)
        self.path = LossPath(self._margins(clean_logits, torch.arange(len(labels), device=labels.device)))
        self.model, self.model_queries = model, model_queries
        self.stages, self.stage = [""], ""
        self.looked: set[str] = set()
        self.saved: Any = None  # a SavedChunk, whose module imports this one
        self._draws = 0
        self._only = torch.ones_like(self.best.is_broken)
        self._pool = torch.zeros_like(self.best.is_broken)
        self.sample_ids, self._request = samples.ids, request
        self._is_nearest_kept = request.selection == "nearest"

    @property
    def active(self) -> Tensor:
        """(N,) bool: the samples still computed; those broken are not, unless early stopping is off."""
        return self._pool & ~self.best.is_broken if self._request.early_stop else self._pool

    @property
    def rows(self) -> Tensor:
        """Indices (n,) of the active samples."""
        return self.active.nonzero().flatten()

    def narrow(self, rows: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """Return those of the samples ``rows`` (n,) that are still active, and what belongs to them of each (n, …)."""
        left = self.active[rows].nonzero().flatten()  # chosen by a mask, each of them would wait for the device
        return (rows, *others) if len(left) == len(rows) else tuple(each[left] for each in (rows, *others))

    def begin_restart(self, restart: int, only: Tensor | None = None) -> None:
        """Start over on the samples that survived so far (called by the engine), or on some of them (N,)."""
        self.restart = restart
        self.has_drawn = False
        if only is not None:
            self._only = only
        self._fill_pool()

    def _fill_pool(self) -> None:
        # What is broken may still come nearer, but for what was broken before the attack.
        is_settled = self.best.first_broken == 0 if self._is_nearest_kept else self.best.is_broken
        self._pool = ~is_settled & self._only & (self.epsilon > 0)

    def run_stage(self, name: str, attack: AttackFunction, **options: Any) -> None:
        """Run another attack as a named part of this one, on what the parts before it left.

        The result says which part broke a sample, and an interrupted attack is picked up after the last part
        that was finished. A part draws at random as if it ran alone.

        Raises:
            AttackError: The part does not know the norm; mark an attack with `for_norms` to have that found out early.
        """
        check_norm(attack, name, self.norm)
        parameters = inspect.signature(attack).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        self.describe(stages={**self.details.get("stages", {}), name: defaults | options})
        self.run_part(name, attack, options)

    def run_part(self, name: str, attack: AttackFunction, options: dict[str, Any]) -> None:
        """Run a part unless it is behind; the engine calls the whole of an attack ``""``."""
        if name not in self.stages:
            self.stages.append(name)
        if self.saved is not None and self.saved.is_done(self.restart, name):
            self.has_drawn |= self.saved.had_drawn
            return
        outer = self.stage, self._draws
        self.stage, self._draws = name, 0
        self._fill_pool()
        attack(self, **options)
        self.stage, self._draws = outer
        if self.saved is not None:
            self.saved.finish(self.restart, name)

    def describe(self, **details: Any) -> None:
        """Add to the options the result reports, such as a schedule that follows from them."""
        self.details.update(details)

    def draw(self, sampler: Callable[[Generator, torch.Size], Tensor]) -> Tensor:
        """Return one random tensor per active sample (N, …), zero for the others.

        ``sampler`` gets a generator on the CPU, seeded by (seed, sample id, restart, number of draws before), and the
        shape of a sample: neither batch size nor order nor the choice of a subset changes what a sample gets.
        """
        generator = Generator()
        drawn = torch.zeros(self.images.shape)
        where: list[int | str] = [self.restart, self._draws, *([self.stage] if self.stage else [])]
        for row in self.rows.tolist():
            generator.manual_seed(derive_seed(self._request.seed, self.sample_ids[row], *where))
            drawn[row] = sampler(generator, self.images.shape[1:])
        self._draws += 1
        self.has_drawn = True
        return drawn.to(self.images.device)

    def skip_draw(self) -> None:
        """Go on as if something had been drawn that is not needed."""
        self._draws += 1

    def draw_seed(self, *what: int | str) -> int:
        """Return a seed for generators the engine does not own, keyed by seed, restart, stage and ``what``."""
        self.has_drawn = True
        return derive_seed(self._request.seed, self.restart, self.stage, *what)

    def run_forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K) of the model for images (n, …) as they are: not counted, not contained, not kept."""
        return self.model_queries.mean_logits(self.model, images)

    def shared_generator(self) -> Generator:
        """Return a generator on the CPU whose draws all samples share, keyed by seed, restart and stage."""
        self.has_drawn = True
        return seeded_generator(self._request.seed, "shared", self.restart, self.stage)

    @property
    def distances(self) -> Tensor:
        """(N,) norms of the nearest perturbations found, of the selection "nearest"; inf where there is none yet."""
        return self.best.sizes

    def random_start(self) -> Tensor:
        """Return points (N, …) drawn uniformly from the ε-ball around the images, moved into the box."""
        norm = self._norm
        return self.project(self.images + self.draw(lambda generator, shape: norm.draw(generator, shape, self.epsilon)))

    def project(self, points: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return points (n, …) moved into the ε-ball around the images ``rows``, then into the box [0, 1]."""
        if self.epsilon >= self._norm.widest(self.images[0].numel()):
            return points.clamp(0, 1)
        if self.norm == "linf":
            return points.clamp(*(bound if rows is None else bound[rows] for bound in self.bounds))
        return contain(points, self.images if rows is None else self.images[rows], self.epsilon, self._norm)

    def shorten(self, rows: Tensor, points: Tensor, radii: Radius) -> Tensor:
        """Return points (n, …) moved into balls of radii (n,) around the images ``rows``, then into the box [0, 1]."""
        images = self.images[rows]
        return (images + nearest_delta(points, images, radii, self._norm)).clamp(0, 1)

    @cached_property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and largest points (N, …) of the balls in L∞, which are boxes."""
        norm, beyond = get_norm("linf"), 2 * self.epsilon
        low, high = (contain(self.images + each, self.images, self.epsilon, norm) for each in (-beyond, beyond))
        return low, high

    def size(self, delta: Tensor) -> Tensor:
        """Return the norms (n,) of perturbations (n, …)."""
        return self._norm.size(delta)

    def rise(self, gradient: Tensor) -> Tensor:
        """Return how fast losses (n,) of gradients (n, …) can rise, per unit of the norm: the dual norm of those."""
        return get_norm(self._norm.dual).size(gradient)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return directions (N, …) of norm 1 along which the loss rises fastest; zero for a zero gradient."""
        return self._norm.steepest(gradient)

    def uphill(self, points: Tensor, gradients: Tensor) -> Tensor:
        """Return `robustprune.attacks.norms.uphill` directions (n, …) at points (n, …)."""
        return uphill(self._norm, points, gradients)

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
        answer = self.best.logits.clone()
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
    ) -> Response:
        """Return what the model says of some samples, and keep the points that are better than those before.

        Args:
            rows: (n,) indices of the samples, usually `rows` or what is left of them.
            points: (n, …); contained before use.
            loss: As in `loss_and_gradient`.
            against: (n,) the class that ``"dlr"`` or ``"margin"`` weighs against each sample's label.
            gradient: Whether gradients are needed.
            is_contained: Without, points need only lie in the box, and are not kept, as where the ball is not reached.
        """
        score, query, stage = self._score(loss, rows, against), self.queries + 1, self.stage
        number, self.queries = self.stages.index(stage), query
        logits = self.clean_logits.new_zeros(len(rows), self.clean_logits.shape[1])
        losses = torch.zeros(len(rows), device=logits.device)
        gradients = torch.zeros_like(points) if gradient else points.new_zeros(0)
        start = FirstGradients() if gradient and len(rows) and stage not in self.looked else None
        self.path.begin()

        def compute(part: slice) -> None:
            where = rows[part]
            batch = points[part].detach().to(self.images.device).float()
            proposed = batch
            # Never the attack's own tensor: there are models that work in place.
            batch = self.project(batch, where) if is_contained else batch.clone()
            found = self.model_queries.answer(
                self.model, batch, lambda logits: score(logits, where), start, gradient=gradient, proposed=proposed
            )
            logits[part], losses[part] = found.logits, found.losses
            if gradient:
                gradients[part] = found.gradients
            self.model_queries.on_batch(len(where))
            self.best.asked[where] += 1
            if is_contained:
                sizes = self.size(batch - self.images[where]) if self._is_nearest_kept else None
                self.best.record(where, batch, logits[part], score, query, number, sizes=sizes)
                self.path.note(where, self._margins(logits[part], where))

        self.model_queries.batches.run(len(rows), compute)
        if start is not None:
            self.looked.add(stage)
            self.model_queries.counts.add_start(stage, start)
        return Response(logits, losses, gradients)

    def _margins(self, logits: Tensor, rows: Tensor) -> Tensor:
        return self.goal.score(margin)(logits, rows)

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
        if loss not in TARGETED_LOSSES:
            raise AttackError(
                f"no loss {loss!r} weighs one class against another. Known: {', '.join(TARGETED_LOSSES)}."
            )
        compare = TARGETED_LOSSES[str(loss)]
        rivals = torch.zeros_like(self.labels)
        rivals[rows] = against
        return lambda logits, where: compare(logits, self.labels[where], rivals[where])
