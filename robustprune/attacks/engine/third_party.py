"""Attacks of other packages by name, under the same guards: ``torchattacks:CW``, ``foolbox:LinfDeepFoolAttack``.

They see many samples at once and draw from the process-wide generators: a seed for each sample, as our own attacks
have it, is not to be had. So the same neighbours always go together, as many as `TOGETHER`, from a seed of
their own, and the size of batches changes nothing as long as it is no smaller; order, the choice of a subset, and what
an earlier attack has broken may. Whatever they return is moved into the ball and the box and judged afresh; forward
passes and gradients are counted on the way.

Most of them work in one norm, which `third_party_norms` learns, and are refused in others. Those that measure in none
of ours, such as the number of pixels, run in any, with a warning.
"""

from __future__ import annotations

import inspect
import math
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.ledger import Start
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.samples import TOGETHER
from robustprune.attacks.engine.third_party_norms import (
    BUDGETS,
    TORCHATTACKS_NAMES,
    Measure,
    foolbox_measure,
    kept_apart,
    torchattacks_measure,
)
from robustprune.attacks.registry import ENGINE_OPTIONS, AttackFunction, attack_family, for_norms
from robustprune.errors import AttackError, ModelError, RobustPruneError
from robustprune.registry import missing_package, suggest
from robustprune.runtime.randomness import isolated_generators

# What attacks say that were given no gradient.
_NO_GRADIENT = ("grad", "differentiated", "NoneType")
_LONGEST_REASON = 400
_KINDS = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

Perturb = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Images (n, …), labels (n,), targets (n,) or None → points (n, …)."""

Given = Mapping[str, Callable[[AttackProblem], Any]]
"""Parameter of a constructor → what it is given, as it follows from what is attacked."""


class Counting(nn.Module):
    """The model under attack, counting what is computed on it."""

    def __init__(self, problem: AttackProblem) -> None:
        """Stand for the model of ``problem``."""
        super().__init__()
        self.model = problem.model
        # By which they tell the device, also of networks without parameters.
        self.place = nn.Parameter(problem.images.new_zeros(0), requires_grad=False)
        self.training = False
        self._tally, self._draws, self._stage = problem.oracle.tally, problem.oracle.draws, problem.stage
        self._run, self._shape = problem.run_forward, problem.images.shape[1:]
        self._start: Start | None = None

    def begin(self) -> None:
        """Look at the next gradient: it is the first one of some samples."""
        self._start = self._tally.starts.setdefault(self._stage, Start())

    def train(self, mode: bool = True) -> Counting:
        """Stay in evaluation mode: some attacks put a model in training mode once they are done."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K)."""
        self._tally.forwards += self._draws * len(images)
        if images.requires_grad:
            images.register_hook(self._count)  # type: ignore[no-untyped-call]
        try:
            return self._run(images)
        except ModelError as error:
            if images.ndim == 1 + len(self._shape):
                raise
            # Raised apart from it, as what the network raises is passed on.
            refused = f"made of images of {tuple(self._shape)}, it hands the network {tuple(images.shape)}: {error}"
        raise ValueError(refused)

    def _count(self, gradient: Tensor) -> Tensor:
        self._tally.gradients += self._draws * len(gradient)
        if self._start is not None:
            self._start.gradients += len(gradient)
            self._start.zeros += int((gradient.flatten(1) == 0).all(dim=1).sum())
            self._start = None
        # Through channels-last weights it comes in their order, in which it cannot be viewed flat.
        return gradient.contiguous()


@attack_family
def torchattacks_attack(name: str) -> AttackFunction:
    """Any attack of torchattacks (Kim 2020, arXiv:2010.01950), by class; options are its constructor's.

    Raises:
        AttackError: torchattacks has no such attack, or it is made of other things than a network.
    """
    torchattacks = _import("torchattacks")
    kind = _find(torchattacks, torchattacks.attack.Attack, "torchattacks", name)
    if name in getattr(torchattacks, "__wrapper__", ()):
        raise AttackError(
            f"torchattacks:{name} is made of other attacks, or of training images, rather than of a network alone; "
            f"run attacks together as --attack torchattacks:PGD --attack torchattacks:APGD --union, or as union_attack"
        )

    given: Given = dict.fromkeys(BUDGETS, lambda problem: problem.epsilon) | {
        "norm": lambda problem: TORCHATTACKS_NAMES[problem.norm],
        # No longer than all that they hand it to takes.
        "seed": lambda problem: problem.draw_seed(name) % 2**32,
        "n_classes": lambda problem: problem.clean_logits.shape[1],
        "device": lambda problem: problem.images.device,
    }

    def prepare(problem: AttackProblem, model: Counting, arguments: dict[str, Any]) -> Perturb:
        attacker: Any = kind(model, **arguments)
        if problem.targets is not None:
            attacker.set_mode_targeted_by_label(quiet=True)

        def perturb(images: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
            found: Tensor = attacker(images, labels if targets is None else targets)
            return found

        return perturb

    peers = {"linf": "torchattacks:PGD", "l2": "torchattacks:PGDL2", "l1": "torchattacks:EADL1"}
    return _as_attack(f"torchattacks:{name}", kind, torchattacks_measure(kind), peers, given, prepare)


@attack_family
def foolbox_attack(name: str) -> AttackFunction:
    """Any attack of foolbox (Rauber et al. 2020), by class; options are its constructor's.

    Raises:
        AttackError: foolbox has no such attack.
    """
    foolbox = _import("foolbox")
    kind = _find(foolbox.attacks, foolbox.attacks.base.Attack, "foolbox", name)

    given: Given = {
        "distance": lambda problem: getattr(foolbox.distances, problem.norm),
        "constraint": lambda problem: problem.norm,
    }

    def prepare(problem: AttackProblem, model: Counting, arguments: dict[str, Any]) -> Perturb:
        bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=problem.images.device)
        attacker = kind(**arguments)
        # One that measures in none of our norms is not to stop, or be cut off, at a budget of ours.
        budget = problem.epsilon if measure.norms else None

        def perturb(images: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
            wrong = foolbox.criteria.Misclassification(labels)
            goal = wrong if targets is None else foolbox.criteria.TargetedMisclassification(targets)
            # As it was found: foolbox would cut it off by its own idea of the distance.
            found: Tensor = attacker(bounded, images, goal, epsilons=budget)[0]
            return found

        return perturb

    measure = foolbox_measure(kind)
    peers = {"linf": "foolbox:LinfPGD", "l2": "foolbox:L2PGD", "l1": "foolbox:L1PGD"}
    return _as_attack(f"foolbox:{name}", kind, measure, peers, given, prepare)


def known_attacks() -> list[str]:
    """Return the names of all attacks of both packages, as `get_attack` takes them.

    Raises:
        MissingDependencyError: One of the packages is not installed.
    """
    torchattacks, foolbox = _import("torchattacks"), _import("foolbox")
    return [
        *(f"torchattacks:{name}" for name in _names(torchattacks, torchattacks.attack.Attack)),
        *(f"foolbox:{name}" for name in _names(foolbox.attacks, foolbox.attacks.base.Attack)),
    ]


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
    known = _names(module, base)
    if name not in known:
        raise AttackError(
            f"{package} has no attack {name!r}.{suggest(name, known)} It has: {', '.join(known)}; write one as "
            f"{package}:{known[0]}"
        )
    found: type = getattr(module, name)
    return found


def _names(module: Any, base: type) -> list[str]:
    return sorted(each for each, value in vars(module).items() if _is_attack(value, base))


def _is_attack(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value) and value is not base


def _as_attack(
    name: str,
    kind: type,
    measure: Measure,
    peers: Mapping[str, str],
    given: Given,
    prepare: Callable[[AttackProblem, Counting, dict[str, Any]], Perturb],
) -> AttackFunction:
    """Return an attack that takes the options of a class's constructor but for those that are given.

    An option whose name belongs to `run_attack` goes by that name with ``own_`` before it.

    Args:
        name: What it is called.
        kind: The class.
        measure: What it measures in.
        peers: Norm → an attack of the same package.
        given: What is no option.
        prepare: Takes a problem, the model in it, and the constructor's further arguments.
    """
    parameters = inspect.signature(kind).parameters
    own = {
        f"own_{each.name}" if each.name in ENGINE_OPTIONS else each.name: each
        for each in parameters.values()
        if each.kind in _KINDS and each.name not in ("model", *given)
    }

    def attack(problem: AttackProblem, **options: Any) -> None:
        size = min(TOGETHER, problem.oracle.batches.size)
        problem.describe(samples_together=size)
        if len(problem.rows) == 0:
            return
        arguments = {each: find(problem) for each, find in given.items() if each in parameters}
        arguments |= {own[option].name: value for option, value in options.items()}
        with blamed(name, problem), kept_apart():
            model = Counting(problem)
            perturb = prepare(problem, model, arguments)

        rows = problem.rows
        points = problem.images[rows]
        for group in range(math.ceil(len(problem.images) / size)):
            seed = (kind.__name__, problem.sample_id(group * size))
            which = (rows // size == group).nonzero().flatten()
            with blamed(name, problem):
                points[which] = _moved(problem, model, rows[which], perturb, seed)
        problem.ask(rows, points, "margin", gradient=False)

    problem = inspect.Parameter("problem", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown = [
        each.replace(name=option, kind=inspect.Parameter.KEYWORD_ONLY, annotation=inspect.Parameter.empty)
        for option, each in own.items()
    ]
    attack.__signature__ = inspect.Signature([problem, *shown])  # type: ignore[attr-defined]
    attack.measure, attack.peers = measure, peers  # type: ignore[attr-defined]
    return for_norms(*measure.norms)(attack) if measure.norms else attack


def _moved(
    problem: AttackProblem, model: Counting, rows: Tensor, perturb: Perturb, seed: tuple[int | str, ...]
) -> Tensor:
    """Return the points (n, …) where the other package wants some samples."""
    points = problem.images[rows]
    draws = problem.draw_seed(*seed)

    def compute(part: Tensor) -> None:
        where = rows[part]
        targets = None if problem.targets is None else problem.targets[where]
        images = problem.images[where].clone(memory_format=torch.contiguous_format)
        with isolated_generators(draws), kept_apart():
            model.begin()
            found = perturb(images, problem.labels[where].clone(), targets)
        if not isinstance(found, Tensor) or found.shape != images.shape:
            what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise TypeError(f"it returned {what} for images of shape {tuple(images.shape)}")
        found = found.detach().to(problem.images)
        # A step without a gradient may divide by zero: that is no proposal.
        points[part] = torch.where(found.isfinite(), found, problem.images[where])

    problem.oracle.batches.run(torch.arange(len(rows), device=rows.device), compute)
    return points


@contextmanager
def blamed(name: str, problem: AttackProblem) -> Iterator[None]:
    """Raise what another package raises as one error that names it; what the network raises stays as it is."""
    try:
        yield
    except Exception as error:
        ours = next((each for each in _chain(error) if isinstance(each, RobustPruneError)), None)
        if ours is error:
            raise
        if ours is not None:
            raise ours from ours.__cause__
        if any(word in str(error) for word in _NO_GRADIENT) and not _has_gradient(problem):
            raise ModelError(
                f"{name} finds no gradient: the logits are cut off from the input (detach, no_grad, or a step "
                f"autograd cannot follow); attack without gradients, such as with 'square'"
            ) from error
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise missing_package(f"the attack {name}", error.name) from error
        raise AttackError(f"{name} failed with {_reason(error)}; {_advice(error, problem)}") from error


def _has_gradient(problem: AttackProblem) -> bool:
    images = problem.images[:1].clone().requires_grad_()
    logits = problem.run_forward(images)
    return logits.requires_grad and torch.autograd.grad(logits.sum(), images, allow_unused=True)[0] is not None


def _advice(error: Exception, problem: AttackProblem) -> str:
    # How foolbox and torchattacks say that an attack is made for targets, or that it is not.
    if "criterion" in str(error) or "argeted mode" in str(error):
        return "it needs targets" if problem.targets is None else "it takes no targets"
    return "give it other options, or use another attack"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: Exception) -> str:
    """Return what an error says, in one line, or else where it was raised."""
    said = " ".join(str(error).split())
    if not said:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{place.line} ({Path(place.filename).name}, line {place.lineno})"
    said = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"
    return f"{type(error).__name__}: {said}"
