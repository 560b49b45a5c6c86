"""Whose fault it is where an attack of another package fails: its own, the network's, or what was asked of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from robustprune.attacks.engine.problem import AttackProblem
from robustprune.errors import AttackError, ModelError, RobustPruneError
from robustprune.registry import missing_package

# What attacks say that were given no gradient.
_NO_GRADIENT = ("grad", "differentiated", "NoneType")
_LONGEST_REASON = 400


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
