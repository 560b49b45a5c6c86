"""What can be asked of an evaluation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from robustprune.attacks.requests import Attacks
from robustprune.corruptions.requests import Corruptions
from robustprune.errors import EvaluationError, RobustPruneError
from robustprune.inference.requests import Certify
from robustprune.ood.requests import OOD
from robustprune.runtime.requests import PathText, Request

Count = Annotated[int, Field(ge=1)]


class Shift(Request):
    """Image sets of the same classes that were gathered elsewhere: ``Shift({"cifar10.2": "cifar10.2/"})``.

    Attributes:
        sets: Name → place: ``npz:FILE``, ``imagefolder:DIR``, or the folder of a published set.
    """

    FIRST: ClassVar[str | None] = "sets"
    ERROR: ClassVar[type[RobustPruneError]] = EvaluationError

    sets: dict[str, PathText] = Field(default_factory=dict)


class Evaluation(Request):
    """What is measured of a network; accuracy and calibration always are.

    Attributes:
        split: ``test``, ``val`` or ``train``.
        limit: Evaluate a stratified sample of so many images.
        seed: Of the sample, the attacks, the corruptions and the noise.
        batch_size: Images per forward pass; changes no result.
        attacks: Attacks, and how they are run.
        corruptions: Corrupted images.
        shift: The same classes from elsewhere.
        ood: Out-of-distribution detection.
        certify: Certified accuracy by randomized smoothing.
        latency: Whether to time the network, for five seconds, on images of noise.
    """

    ERROR: ClassVar[type[RobustPruneError]] = EvaluationError

    split: Literal["test", "val", "train"] = "test"
    limit: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Count = 256
    attacks: Attacks = Attacks()
    corruptions: Corruptions = Corruptions()
    shift: Shift = Shift()
    ood: OOD = OOD()
    certify: Certify = Certify()
    latency: bool = False
