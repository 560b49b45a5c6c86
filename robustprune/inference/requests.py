"""What can be asked of a smoothed classifier: how much noise, how many votes, at which radii."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from robustprune.errors import EvaluationError, RobustPruneError
from robustprune.runtime.requests import Request, as_list


def _read_radii(value: Any) -> Any:
    """Return radii from one, several, or a text of several joined by a plus: ``0+0.25+0.5``."""
    return [each for one in as_list(value) for each in (one.split("+") if isinstance(one, str) else [one])]


class Certify(Request):
    """Certified accuracy by randomized smoothing: ``Certify(sigma=0.25, n=1000)``, or ``Certify(0.25)``.

    Attributes:
        sigma: Standard deviation of the Gaussian noise, on the [0, 1] scale of pixels; without it nothing is certified.
        n: Noisy copies of each image that decide the radius. The largest radius there can be grows with it: 2.5 σ for
            1,000 and 3.8 σ for the 100,000 of the paper, at its α.
        n0: Further copies, which choose the class.
        alpha: The largest probability, for each image, that what is certified of it is wrong.
        radii: L2 radii to give the certified accuracy at; ``"0+0.25+0.5"`` is one text of several.
        limit: Certify a stratified sample of so many of the images evaluated.
    """

    FIRST: ClassVar[str | None] = "sigma"
    ERROR: ClassVar[type[RobustPruneError]] = EvaluationError

    sigma: Annotated[float, Field(gt=0)] | None = None
    n: Annotated[int, Field(ge=1)] = 1000
    n0: Annotated[int, Field(ge=1)] = 100
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    radii: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1), BeforeValidator(_read_radii)] = (
        *(0.0, 0.25),
        *(0.5, 0.75, 1.0),
    )
    limit: Annotated[int, Field(ge=1)] | None = None
