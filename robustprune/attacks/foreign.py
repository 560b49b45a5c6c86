"""Attacks of other packages by name, under the same guards: ``torchattacks:CW``, ``foolbox:LinfDeepFoolAttack``.

They see many samples at once and draw from the process-wide generators: a seed for each sample, as our own attacks
have it, is not to be had. So the same neighbours always go together, as many as `TOGETHER`, from a seed of
their own, and the size of batches changes nothing as long as it is no smaller; order, the choice of a subset, and what
an earlier attack has broken may. Whatever they return is moved into the ball and the box and judged afresh; forward
passes and gradients are counted on the way.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.problem import AttackProblem
from robustprune.attacks.registry import Attack, attack_family
from robustprune.attacks.settings import TOGETHER
from robustprune.attacks.stages import Walk
from robustprune.errors import AttackError
from robustprune.randomness import isolated_generators
from robustprune.registry import missing_package, suggest

# What an attack is given here, and what it cannot be given.
_BUDGET = "eps"
_KINDS = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Perturb = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Images (n, …), labels (n,), targets (n,) or None → points (n, …)."""


class Counting(nn.Module):
    """The model under attack, counting what is computed on it."""

    def __init__(self, problem: AttackProblem) -> None:
        """Stand for the model of ``problem``."""
        super().__init__()
        self.model = problem.model
        self._tally, self._draws = problem.oracle.tally, problem.oracle.draws
        self._run = problem.run_forward

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K)."""
        self._tally.forwards += self._draws * len(images)
        if images.requires_grad:
            images.register_hook(self._count)  # type: ignore[no-untyped-call]
        return self._run(images)

    def _count(self, gradient: Tensor) -> None:
        self._tally.gradients += self._draws * len(gradient)


@attack_family
def torchattacks_attack(name: str) -> Attack:
    """Any attack of torchattacks (Kim 2020, arXiv:2010.01950), by class; options are its constructor's.

    Raises:
        AttackError: torchattacks has no such attack.
    """
    torchattacks = _import("torchattacks")
    kind = _find(torchattacks, torchattacks.attack.Attack, "torchattacks", name)

    def prepare(problem: AttackProblem, options: dict[str, Any]) -> Perturb:
        budget = {_BUDGET: problem.epsilon} if _BUDGET in inspect.signature(kind).parameters else {}
        # Else the attack would put the model back into training mode.
        attacker = kind(Counting(problem).eval(), **budget, **options)

        def perturb(images: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
            if targets is not None:
                attacker.set_mode_targeted_by_label(quiet=True)
            found: Tensor = attacker(images, labels if targets is None else targets)
            return found

        return perturb

    return _as_attack(prepare, kind, ("model", _BUDGET, "device"))


@attack_family
def foolbox_attack(name: str) -> Attack:
    """Any attack of foolbox (Rauber et al. 2020), by class; options are its constructor's.

    Raises:
        AttackError: foolbox has no such attack.
    """
    foolbox = _import("foolbox")
    kind = _find(foolbox.attacks, foolbox.attacks.base.Attack, "foolbox", name)

    def prepare(problem: AttackProblem, options: dict[str, Any]) -> Perturb:
        model = foolbox.PyTorchModel(Counting(problem).eval(), bounds=(0, 1), device=problem.images.device)
        attacker = kind(**options)

        def perturb(images: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
            wrong = foolbox.criteria.Misclassification(labels)
            goal = wrong if targets is None else foolbox.criteria.TargetedMisclassification(targets)
            _, clipped, _ = attacker(model, images, goal, epsilons=problem.epsilon)
            found: Tensor = clipped
            return found

        return perturb

    return _as_attack(prepare, kind, ())


def _import(package: str) -> Any:
    try:
        # What it imports in outdated ways is not the user's concern.
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise missing_package(f"every attack {package}:NAME", package) from error


def _find(module: Any, base: type, package: str, name: str) -> type:
    known = sorted(each for each, value in vars(module).items() if isinstance(value, type) and issubclass(value, base))
    if name not in known:
        raise AttackError(
            f"{package} has no attack {name!r}.{suggest(name, known)} It has: {', '.join(known)}; write one as "
            f"{package}:{known[0]}"
        )
    found: type = getattr(module, name)
    return found


def _as_attack(
    prepare: Callable[[AttackProblem, dict[str, Any]], Perturb], kind: type, given: tuple[str, ...]
) -> Attack:
    """Return an attack that takes the options of a class's constructor but for those that are given."""

    def attack(problem: AttackProblem, **options: Any) -> None:
        size = min(TOGETHER, problem.oracle.batches.size)
        problem.describe(samples_together=size)
        if len(problem.rows) == 0:
            return
        perturb = prepare(problem, options)

        def begin(saved: dict[str, Tensor] | None) -> Walk:
            return Walk(problem.rows, problem.images[problem.rows]) if saved is None else Walk(**saved)

        for group, walk in problem.steps(math.ceil(len(problem.images) / size), begin):
            _move(problem, walk, walk.rows // size == group, perturb, (kind.__name__, problem.sample_id(group * size)))
        problem.ask(walk.rows, walk.points, "margin", gradient=False)

    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.kind in _KINDS and parameter.name not in given
    ]
    problem = inspect.Parameter("problem", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    attack.__signature__ = inspect.Signature([problem, *own])  # type: ignore[attr-defined]
    return attack


def _move(problem: AttackProblem, walk: Walk, which: Tensor, perturb: Perturb, seed: tuple[int | str, ...]) -> None:
    """Move the points of some samples (n,) to where the other package wants them."""

    def compute(part: Tensor) -> None:
        where = walk.rows[part]
        targets = None if problem.targets is None else problem.targets[where]
        with isolated_generators(problem.draw_seed(*seed)):
            found = perturb(problem.images[where].clone(), problem.labels[where].clone(), targets)
        found = found.detach().to(problem.images)
        # A step without a gradient may divide by zero: that is no proposal.
        walk.points[part] = torch.where(found.isfinite(), found, problem.images[where])

    problem.oracle.batches.run(which.nonzero().flatten(), compute)
