"""Attacks of other packages by name, under the same guards: ``torchattacks:CW``, ``foolbox:LinfDeepFoolAttack``.

They see many samples at once and draw from the process-wide generators: a seed for each sample, as our own attacks
have it, is not to be had. So the same neighbours always go together, as many as `TOGETHER`, from a seed of
their own, and the size of batches changes nothing as long as it is no smaller; order, the choice of a subset, and what
an earlier attack has broken may. Whatever they return is moved into the ball and the box and judged afresh; forward
passes and gradients are counted on the way.

Most of them work in one norm, as they say themselves, and are refused in others. Those that name none of ours, such as
those that count pixels, run in any, with a warning.
"""

from __future__ import annotations

import inspect
import math
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks.engine.attack_counts import FirstGradients
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.samples import TOGETHER
from robustprune.attacks.norms import NORMS
from robustprune.attacks.registry import ENGINE_OPTIONS, AttackFunction, attack_family, for_norms
from robustprune.errors import AttackError, RobustPruneError
from robustprune.registry import missing_package, suggest
from robustprune.runtime.randomness import isolated_generators

_LONGEST_REASON = 400
_KINDS = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_THEIR_NORMS = {"Linf": "linf", "L2": "l2", "L1": "l1"}
_STATED = re.compile(r"Distance Measure\s*:(.*)")

# Images (n, …), labels (n,), targets (n,) or None → points (n, …).
Perturb = Callable[[Tensor, Tensor, Tensor | None], Tensor]
# Parameter of a constructor → what it is given, as it follows from what is attacked.
Given = Mapping[str, Callable[[AttackProblem], Any]]


class Counting(nn.Module):
    """The model under attack, counting what is computed on it."""

    def __init__(self, problem: AttackProblem) -> None:
        """Stand for the model of ``problem``."""
        super().__init__()
        self.model, self.training = problem.model, False
        # By which they tell the device, also of networks without parameters.
        self.place = nn.Parameter(problem.images.new_zeros(0), requires_grad=False)
        self._problem, self._counts, self._draws = problem, problem.model_queries.counts, problem.model_queries.draws
        self._start: FirstGradients | None = None

    def begin(self) -> None:
        """Look at the next gradient: it is the first one of some samples."""
        self._start = self._counts.starts.setdefault(self._problem.stage, FirstGradients())

    def train(self, mode: bool = True) -> Counting:
        """Stay in evaluation mode: some attacks put a model in training mode once they are done."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, K)."""
        self._counts.forwards += self._draws * len(images)
        if images.requires_grad:
            images.register_hook(self._count)  # type: ignore[no-untyped-call]
        return self._problem.run_forward(images)

    def _count(self, gradient: Tensor) -> Tensor:
        self._counts.gradients += self._draws * len(gradient)
        if self._start is not None:
            self._start.gradients += len(gradient)
            self._start.zeros += int((gradient.flatten(1) == 0).all(dim=1).sum())
            self._start = None
        # Through channels-last weights it comes in their order, in which it cannot be viewed flat.
        return gradient.contiguous()


@attack_family
def torchattacks_attack(name: str) -> AttackFunction:
    """Any attack of torchattacks (Kim 2020, arXiv:2010.01950), by class; options are its constructor's."""
    kind = _find("torchattacks", name)
    if name in getattr(import_module("torchattacks"), "__wrapper__", ()):
        raise AttackError(
            f"torchattacks:{name} is made of other attacks, or of training images, rather than of a network alone; "
            f"run attacks together as --attack torchattacks:PGD --attack torchattacks:APGD --union, or as union_attack"
        )
    # Their documentation says what an attack measures in: "Distance Measure : Linf, L2".
    stated = _STATED.search(kind.__doc__ or "")
    measures = re.findall(r"L(?:inf|\d+)", stated[1]) if stated else []
    given: Given = dict.fromkeys(("eps", "max_epsilon", "epsilon"), lambda problem: problem.epsilon) | {
        "norm": lambda problem: next(theirs for theirs, norm in _THEIR_NORMS.items() if norm == problem.norm),
        # No longer than all that they hand it to takes.
        "seed": lambda problem: problem.draw_seed(name) % 2**32,
        "n_classes": lambda problem: problem.clean_logits.shape[1],
        "device": lambda problem: problem.images.device,
    }

    def prepare(problem: AttackProblem, model: Counting, arguments: dict[str, Any]) -> Perturb:
        attacker: Any = kind(model, **arguments)
        if problem.targets is not None:
            attacker.set_mode_targeted_by_label(quiet=True)
        return lambda images, labels, targets: attacker(images, labels if targets is None else targets)

    return _as_attack(f"torchattacks:{name}", kind, measures, given, prepare)


@attack_family
def foolbox_attack(name: str) -> AttackFunction:
    """Any attack of foolbox (Rauber et al. 2020), by class; options are its constructor's."""
    kind, foolbox = _find("foolbox", name), import_module("foolbox")
    measures = _foolbox_measures(kind)
    given: Given = {
        "distance": lambda problem: getattr(foolbox.distances, problem.norm),
        "constraint": lambda problem: problem.norm,
    }

    def prepare(problem: AttackProblem, model: Counting, arguments: dict[str, Any]) -> Perturb:
        bounded = foolbox.PyTorchModel(model, bounds=(0, 1), device=problem.images.device)
        attacker = kind(**arguments)
        # One that measures in none of our norms is not to stop, or be cut off, at a budget of ours.
        budget = problem.epsilon if set(measures) & set(_THEIR_NORMS) else None

        def perturb(images: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
            wrong = foolbox.criteria.Misclassification(labels)
            goal = wrong if targets is None else foolbox.criteria.TargetedMisclassification(targets)
            # As it was found: foolbox would cut it off by its own idea of the distance.
            found: Tensor = attacker(bounded, images, goal, epsilons=budget)[0]
            return found

        return perturb

    return _as_attack(f"foolbox:{name}", kind, measures, given, prepare)


def _foolbox_measures(kind: type) -> list[str]:
    """Return what an attack of foolbox measures in: the norms that it can be given, or the one of its ``distance``."""
    parameters = inspect.signature(kind).parameters
    if "distance" in parameters:
        return list(_THEIR_NORMS)
    if "constraint" in parameters:
        allowed = str(parameters["constraint"].annotation)
        return [theirs for theirs, norm in _THEIR_NORMS.items() if repr(norm) in allowed]
    # Of most it is an attribute of the class, of some a property that looks at nothing else.
    blank: Any = object.__new__(kind)
    order = getattr(getattr(blank, "distance", None), "p", None)
    return [] if order is None else ["Linf" if order == math.inf else f"L{order}"]


def known_attacks() -> list[str]:
    """Return the names of all attacks of both packages, as `get_attack` takes them."""
    return [f"{package}:{name}" for package in ("torchattacks", "foolbox") for name in _classes(package)]


def _find(package: str, name: str) -> type:
    known = _classes(package)
    if name not in known:
        raise AttackError(
            f"{package} has no attack {name!r}.{suggest(name, known)} It has: {', '.join(known)}; write one as "
            f"{package}:{next(iter(known))}"
        )
    return known[name]


def _classes(package: str) -> dict[str, type]:
    """Return the attacks of a package by name."""
    if find_spec(package) is None:
        extra = "torchattacks" if package == "torchattacks" else None
        raise missing_package(f"every attack {package}:NAME", package, extra=extra)
    # What it imports in outdated ways is not the user's concern.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        module = import_module(package)
    module, base = (module.attacks, "base") if package == "foolbox" else (module, "attack")
    kind = getattr(module, base).Attack
    return {
        name: value
        for name, value in sorted(vars(module).items())
        if isinstance(value, type) and issubclass(value, kind) and not inspect.isabstract(value) and value is not kind
    }


def _as_attack(
    name: str,
    kind: type,
    measures: list[str],
    given: Given,
    prepare: Callable[[AttackProblem, Counting, dict[str, Any]], Perturb],
) -> AttackFunction:
    """Return an attack that takes the options of a class's constructor but for those that are given.

    An option whose name belongs to `run_attack` goes by that name with ``own_`` before it.
    """
    parameters = inspect.signature(kind).parameters
    own = {
        f"own_{each.name}" if each.name in ENGINE_OPTIONS else each.name: each
        for each in parameters.values()
        if each.kind in _KINDS and each.name not in ("model", *given)
    }

    def attack(problem: AttackProblem, **options: Any) -> None:
        size = min(TOGETHER, problem.model_queries.batches.size)
        problem.describe(samples_together=size)
        rows = problem.rows
        if len(rows) == 0:
            return
        arguments = {each: find(problem) for each, find in given.items() if each in parameters}
        arguments |= {own[option].name: value for option, value in options.items()}
        model = Counting(problem)
        with _third_party_code(name):
            perturb = prepare(problem, model, arguments)
        points = problem.images[rows]
        for group in range(math.ceil(len(problem.images) / size)):
            which = (rows // size == group).nonzero().flatten()
            draws = problem.draw_seed(kind.__name__, problem.sample_ids[group * size])

            def compute(part: slice, which: Tensor = which, draws: int = draws) -> None:
                model.begin()
                with isolated_generators(draws, problem.images.device), _third_party_code(name):
                    points[which[part]] = _moved(problem, rows[which[part]], perturb)

            problem.model_queries.batches.run(len(which), compute)
        problem.ask(rows, points, "margin", gradient=False)

    problem = inspect.Parameter("problem", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown = [
        each.replace(name=option, kind=inspect.Parameter.KEYWORD_ONLY, annotation=inspect.Parameter.empty)
        for option, each in own.items()
    ]
    attack.__signature__ = inspect.Signature([problem, *shown])  # type: ignore[attr-defined]
    attack.measures = measures  # type: ignore[attr-defined]
    norms = [norm for norm in NORMS if any(_THEIR_NORMS.get(each) == norm for each in measures)]
    return for_norms(*norms)(attack) if norms else attack


def _moved(problem: AttackProblem, rows: Tensor, perturb: Perturb) -> Tensor:
    """Return the points (n, …) where the other package wants some samples."""
    images = problem.images[rows].clone(memory_format=torch.contiguous_format)
    targets = None if problem.targets is None else problem.targets[rows]
    found = perturb(images, problem.labels[rows], targets)
    if not isinstance(found, Tensor) or found.shape != images.shape:
        what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"it returned {what} for images of shape {tuple(images.shape)}")
    found = found.detach().to(problem.images)
    # A step without a gradient may divide by zero: that is no proposal.
    return torch.where(found.isfinite(), found, problem.images[rows])


@contextmanager
def _third_party_code(name: str) -> Iterator[None]:
    """Run another package's code: what it prints does not end up among results, and its warnings are its own.

    What it raises comes as one error that names it; what the network raises stays as it is.
    """
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, RobustPruneError):
                raise cause from cause.__cause__
            cause = cause.__cause__ or cause.__context__
        if isinstance(error, ModuleNotFoundError) and error.name:
            raise missing_package(f"the attack {name}", error.name) from error
        reason = textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), _LONGEST_REASON, placeholder=" …")
        raise AttackError(
            f"{name} failed: {reason}; give it other options, targets or none, or use another attack"
        ) from error
