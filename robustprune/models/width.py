"""The one option of the residual networks defined here: how wide they are."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustprune.errors import ModelError
from robustprune.models.architecture import Architecture


class _WidthOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = Field(default=16, ge=1, le=1024)


def width_option(architecture: Architecture) -> int:
    """Return the filters of the stem that an architecture asks for, 16 by default.

    Raises:
        ModelError: Another option than ``width``, or one that is no whole number from 1 to 1024.
    """
    try:
        return _WidthOptions.model_validate(architecture.options).width
    except ValidationError as error:
        problem = error.errors()[0]
        raise ModelError(
            f"{architecture.name}: option {'.'.join(map(str, problem['loc']))!r}: {problem['msg'].lower()}; "
            f"it takes only 'width', a whole number from 1 to 1024"
        ) from error
