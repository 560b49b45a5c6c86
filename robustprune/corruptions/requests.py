"""What can be asked of corruptions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

from robustprune.corruptions.registry import list_names
from robustprune.errors import CorruptionError, RobustPruneError
from robustprune.runtime.requests import PathText, Request, read_names


class Corruptions(Request):
    """Corrupted images of an evaluation: ``Corruptions("all")``, ``Corruptions(published="CIFAR-10-C/")``.

    Attributes:
        names: ``all`` (the fifteen), ``extras`` (the four), or names, see ``robustprune list corruptions``, with their
            options (``frost:folder=PICTURES``). Of a published set all by default, else none.
        published: Folder of a published corrupted set to read instead of making the images: arrays as in CIFAR-10-C,
            or folders as in ImageNet-C.
        options: Options of the corruptions, such as ``folder`` of frost; whatever keyword is no other field is one.
    """

    FIRST: ClassVar[str | None] = "names"
    REST: ClassVar[str | None] = "options"
    ERROR: ClassVar[type[RobustPruneError]] = CorruptionError

    names: Annotated[tuple[str, ...], BeforeValidator(lambda names: read_names(list_names(names)))] = ()
    published: PathText | None = None
    options: dict[str, Any] = Field(default_factory=dict)
