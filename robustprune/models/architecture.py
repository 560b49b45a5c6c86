"""What it takes to build a network again: its name and the numbers that shape it."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from robustprune.errors import ModelError

MODULE_PREFIX = "module:"
"""What the names of architectures begin with that stand for a module of the user's, which only they can build."""
_OWN_ATTRIBUTE = "_robustprune_architecture"  # `architecture` may be one of the module's own

Side = Annotated[int, Field(ge=8, le=4096)]
Options = TypeVar("Options", bound=BaseModel)


class ImageProperties(Protocol):
    """What a network has to know of an image set; :class:`robustprune.data.ImageData` has it."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def channels(self) -> int:
        """Channels of an image."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel, in [0, 1]."""

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel, in [0, 1]."""


class Architecture(BaseModel):
    """The recipe of a network without its weights; plain numbers, so that it fits in a ticket.

    Attributes:
        name: A name that :data:`robustprune.models.MODELS` knows, such as ``resnet32``; ``module:CLASS`` for a module
            that was handed over.
        num_classes: Outputs of the last layer.
        channels: Channels of the images.
        image_size: Height and width of the images in pixels, from 8 to 4096.
        mean: Per channel, in [0, 1]; subtracted inside the network.
        std: Per channel, in [0, 1]; divided by inside the network.
        options: What else the builder takes, such as ``width``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    num_classes: int = Field(ge=1, le=100_000)
    channels: int = Field(ge=1)
    image_size: tuple[Side, Side]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: dict[str, int | float | str | bool] = Field(default_factory=dict)

    @property
    def is_module(self) -> bool:
        """Whether it stands for a module of the user's."""
        return self.name.startswith(MODULE_PREFIX)

    @property
    def called(self) -> str:
        """What to call it before readers, and in records: its name, or the class of a module of the user's."""
        return self.name.removeprefix(MODULE_PREFIX)

    @classmethod
    def for_data(cls, name: str, data: ImageProperties, **options: Any) -> Architecture:
        """Return the architecture ``name`` shaped for an image set."""
        return cls(
            name=name,
            num_classes=data.num_classes,
            channels=data.channels,
            image_size=data.image_size,
            mean=data.mean,
            std=data.std,
            options=options,
        )

    def options_as(self, kind: type[Options], takes: str) -> Options:
        """Return the options as what a builder takes, which ``takes`` says in words."""
        try:
            return kind.model_validate(self.options)
        except ValidationError as error:
            problem = error.errors()[0]
            option = ".".join(map(str, problem["loc"]))
            raise ModelError(f"{self.name}: option {option!r}: {problem['msg'].lower()}; {takes}") from error


def architecture_for(name: str, images: ImageProperties, **options: Any) -> Architecture:
    """Return the architecture ``name`` shaped for an image set.

    Raises:
        ModelError: Images that no network here can be shaped for, such as ones of less than 8 pixels a side.
    """
    try:
        return Architecture.for_data(name, images, **options)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise ModelError(f"{name} cannot be shaped for this data set: {field}: {problem['msg']}") from error


def known_architecture(model: nn.Module) -> Architecture | None:
    """Return the architecture that a network says it has; None where it does not know."""
    noted = (getattr(model, name, None) for name in (_OWN_ATTRIBUTE, "architecture"))
    return next((each for each in noted if isinstance(each, Architecture)), None)


def note_architecture(network: nn.Module, architecture: Architecture) -> None:
    """Let a module of the user's, or rather a copy of it, know its architecture; no attribute of its own is touched."""
    setattr(network, _OWN_ATTRIBUTE, architecture)
