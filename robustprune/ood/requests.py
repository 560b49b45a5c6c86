"""What can be asked of out-of-distribution detection."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from robustprune.attacks.requests import LinfEpsilons
from robustprune.errors import EvaluationError, RobustPruneError
from robustprune.metrics.detection import check_resampling
from robustprune.runtime.requests import Names, PathText, Request


def _enough(resamples: Any) -> Any:
    if resamples != 0:
        check_resampling(resamples)
    return resamples


Count = Annotated[int, Field(ge=1)]


class OOD(Request):
    """Detection of out-of-distribution images: ``OOD(["near", "svhn"], detectors=["energy", "knn:k=50"])``.

    Attributes:
        sets: Out-of-distribution sets by name, as for :func:`robustprune.load_data`; ``near``, ``far`` and ``sanity``
            for groups of them; or ``corrupted``, the evaluated images under all corruptions or some
            (``corrupted:corruption=fog+snow,severity=5``).
        detectors: Names of ``robustprune list detectors`` with their options, ``knn:k=50``; all by default.
        fit_limit: Fit on so many training images, stratified; None for all. By default as many as CIFAR has.
        tune_on: A set to choose the options of detectors on, against validation images; it cannot be among
            ``sets``. By default options are those of the papers.
        full_spectrum: Give every figure a second time with corrupted images counted as in-distribution too.
        resamples: Of the bootstrap behind the intervals; 0 for none.
        attack_epsilons: Budgets (L∞) at which detectors are attacked; none by default.
        attack_steps: Steps of PGD.
        attack_limit: Attack so many images of each set.
        cache: Folder to keep logits and features in, for the next time.
        root: Folder to look for image sets in before the usual ones.
        download: Whether a missing set may be downloaded.
    """

    FIRST: ClassVar[str | None] = "sets"
    ERROR: ClassVar[type[RobustPruneError]] = EvaluationError

    sets: Names = ()
    detectors: Names | None = None
    fit_limit: Count | None = 50_000
    tune_on: str | None = None
    full_spectrum: bool = False
    resamples: Annotated[int, BeforeValidator(_enough)] = 200
    attack_epsilons: LinfEpsilons = ()
    attack_steps: Count = 10
    attack_limit: Count = 100
    cache: PathText | None = None
    root: PathText | None = None
    download: bool = False

    @model_validator(mode="after")
    def _is_about_some_set(self) -> Self:
        plain = {name: field.default for name, field in type(self).model_fields.items()}
        idle = [name for name, default in plain.items() if getattr(self, name) != default and not self.sets]
        if idle:
            raise ValueError(f"{', '.join(idle)} without an out-of-distribution set; name one")
        return self
