"""Options that several commands share, and the values that commands are given for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from click.core import ParameterSource

from robustprune.cli.paths import CodeFile, DataRoot, Naming, Read, Source, named_paths

if TYPE_CHECKING:
    import torch

    from robustprune.runtime.process_group import ProcessGroup
    from robustprune.training import Recipe

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


class KeyValue(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``name=value``, for options that a plug-in defines."""

    name = "name=value"

    def __init__(self, *taken: str, texts: Collection[str] = ()) -> None:
        """Refuse the names in ``taken``, which have options of their own; for those in ``texts`` all is text."""
        self.taken = taken
        self.texts = texts

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Split ``name=value``; numbers become numbers, true and false truth values, all else stays text."""
        key, equals, text = str(value).partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r} is not of the form name=value", param, ctx)
        if not text.strip():
            self.fail(f"{key!r} is given nothing; was a variable of the shell unset?", param, ctx)
        if key in self.taken:
            self.fail(f"{key!r} has an option of its own, see --help", param, ctx)
        return key, text if key in self.texts else read_value(text)

    def reads(self, value: tuple[str, Any]) -> Iterator[Read]:
        """Yield the files that the value may name, as ``weights_file`` does."""
        return named_paths(str(value[1]), plain=True)


def plugin_options(flag: str, name: str, kind: KeyValue, text: str) -> Callable[[F], F]:
    """Return an option that may be repeated, of which a command is given a dictionary."""

    def collect(_ctx: click.Context, _param: click.Parameter, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise click.UsageError(f"{flag} {key}=… is given more than once; give it once")
            found[key] = value
        return found

    return click.option(flag, name, type=kind, multiple=True, callback=collect, help=text)


def read_value(text: str) -> int | float | bool | str:
    """Return what a value on the command line stands for: 4 and 1e-5 are numbers; 007 and 1_000, as names, are not."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def stack(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return one decorator that applies all of them."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def gathered(
    name: str, make: Callable[..., Any], *options: Callable[[Any], Any], panel: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds options to a command, which is given one value for all of them.

    The command's argument is called ``name``, and ``make`` makes it of the options' values, by their names. Its help
    shows them in a panel of their own.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def call(*arguments: Any, **given: Any) -> Any:
            own = {each: given[each] for each in names}
            others = {each: value for each, value in given.items() if each not in own}
            return command(*arguments, **others, **{name: make(**own)})

        known = len(getattr(command, "__click_params__", ()))
        stack(*options)(call)
        added = call.__click_params__[known:]  # type: ignore[attr-defined]
        names = [param.name for param in added]
        for param in added:
            param.panel = param.panel or panel
        return call

    return decorate


@dataclass(frozen=True)
class NetworkOptions:
    """The network that a command line names: a ticket's file, or a kind of network with options of its own."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    code: str | None = None
    """The Python file of a ``file:`` network's ticket."""

    @property
    def is_ticket(self) -> bool:
        """Whether ``model`` names a file of ours rather than a kind of network."""
        return self.model.endswith((".pt", ".pth", ".ckpt")) or Path(self.model).is_file()

    def beside(self, others: Iterable[NetworkOptions]) -> NetworkOptions:
        """Return it as it is opened beside others: the options are theirs where it is a ticket, which takes none."""
        are_theirs = self.is_ticket and not all(other.is_ticket for other in others)
        return replace(self, options={}) if are_theirs else self


@dataclass(frozen=True)
class DataOptions:
    """The image set that a command line names, and how it is loaded; None is not given."""

    name: str | None = None
    root: str | None = None
    download: bool = False
    image_size: int | None = None
    channels: int | None = None
    train_limit: int | None = None
    validation_fraction: float | None = None
    workers: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What :func:`robustprune.load_data` takes beside the name, as far as it was given."""
        loading = vars(self) | {"name": None, "download": self.download or None}
        return {name: value for name, value in loading.items() if value is not None}


@dataclass(frozen=True)
class Setup:
    """What a command computes with: the seed of all that is random, the device by name, and processor threads."""

    seed: int = 0
    device: str = "auto"
    threads: int | None = None

    def begin(self) -> torch.device:
        """Compute with so many threads from now on, and return the device; one that is not here is an error."""
        from robustprune.runtime.devices import choose_device
        from robustprune.runtime.threads import limit_threads

        limit_threads(self.threads)
        return choose_device(self.device)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")

_seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, help="Of everything random.")
_threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads.  [default: processors it may use]"
)

setup_options = stack(
    gathered(
        "setup",
        Setup,
        _seed_option,
        click.option("--device", default="auto", help="auto (the fastest there is), cpu, cuda, cuda:1, xpu or mps."),
        _threads_option,
    ),
    json_option,
)
"""For ``setup: Setup`` and ``as_json``."""
processor_options = stack(gathered("setup", Setup, _seed_option, _threads_option), json_option)
"""The same, of commands that have nothing to compute elsewhere than on the processor."""


def _model_option(text: str) -> Callable[[F], F]:
    return click.option("--model", required=True, type=Naming(plain=True), help=text)


_network_option = plugin_options(
    "--model-option",
    "options",
    KeyValue("name", "data", "seed", texts={"weights_file", "threat_model"}),
    "E.g. width=32 for a ResNet.",
)
_weights_option = click.option(
    "--weights",
    type=Source(),
    help="Checkpoint of a new network: torch.save or safetensors.",
)


def _network(
    model: str, options: dict[str, Any], weights: str | None = None, code: str | None = None
) -> NetworkOptions:
    if weights is not None:
        if "weights_file" in options:
            raise click.UsageError("--weights and --model-option weights_file=… name one thing twice; give one of them")
        options = {**options, "weights_file": weights}
    return NetworkOptions(model, options, code)


network_options = gathered(
    "network",
    _network,
    _model_option("A ticket's file, or a name: see `robustprune list models`."),
    click.option(
        "--model-code", "code", type=CodeFile(), help="Python file, or FILE.py:NAME, of a ticket's own network."
    ),
    _weights_option,
    _network_option,
    panel="Network",
)
"""For ``network: NetworkOptions``."""
new_network_options = gathered(
    "network",
    _network,
    _model_option("A name: see `robustprune list models`."),
    _weights_option,
    _network_option,
    panel="Network",
)
"""The same, of commands that take no ticket."""

dataset_options = gathered(
    "dataset",
    DataOptions,
    click.option(
        "--dataset",
        "name",
        type=Naming(),
        help="See `robustprune list datasets`. [default: the ticket's own, or digits for a new network]",
    ),
    click.option("--data-root", "root", type=DataRoot(), help="Folder to look for the data set in."),
    click.option("--download", is_flag=True, help="Allow a missing data set to be downloaded."),
    click.option("--image-size", type=click.IntRange(min=8), help="Resize to this side, in pixels."),
    click.option("--channels", type=click.Choice([1, 3]), help="Convert to gray or colour."),
    click.option("--train-limit", type=click.IntRange(min=1), help="Stratified number of training images."),
    click.option("--validation-fraction", type=click.FloatRange(0, 0.5), help="Held out of train. [default: 0.1]"),
    click.option("--workers", type=click.IntRange(min=0), help="Processes that read images of large sets."),
    panel="Data set",
)
"""For ``dataset: DataOptions``."""

split_option = click.option("--split", type=click.Choice(["test", "val", "train"]), default="test")

eligibility_option = click.option(
    "--eligibility", default="authors", help="Which blocks may go: authors, strict or identity."
)


def _recipe(recipe: str, *, adversarial: str | None = None, epsilon: str | None = None, **given: Any) -> Recipe:
    from robustprune.training import Recipe

    if epsilon is not None and adversarial is None:
        raise click.UsageError("--eps is the budget of adversarial training; add --adversarial pgd, fgsm or trades")
    return Recipe.of(recipe, adversarial=adversarial, epsilon=epsilon, **given)


def recipe_options(*further: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options of a recipe, for ``recipe: Recipe``; further ones are fields of it."""
    return gathered(
        "recipe",
        _recipe,
        click.option("--recipe", default="quick", help="quick or paper."),
        click.option("--epochs", type=click.IntRange(min=1), help="In place of the recipe's."),
        click.option("--batch-size", type=click.IntRange(min=2), help="In place of the recipe's."),
        click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="In place of the recipe's."),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "bf16", "fp16"]),
            help="What training passes compute in; weights, attacks and evaluation stay in fp32. [default: fp32]",
        ),
        click.option(
            "--compile", is_flag=True, help="Run training passes by torch.compile; for long ones on graphics cards."
        ),
        *further,
        panel="Training",
    )


country_options = gathered(
    "country",
    lambda country, no_energy: None if no_energy else country,
    click.option("--country", default="USA", help="ISO 3166 code of the grid that feeds you."),
    click.option("--no-energy", is_flag=True, help="Do not measure energy."),
    panel="Energy",
)
"""For ``country: str | None``, of which None measures no energy."""


def was_given(option: str) -> bool:
    """Whether the user gave an option, rather than leaving it at its default."""
    context = click.get_current_context()
    return context is not None and context.get_parameter_source(option) is not ParameterSource.DEFAULT


def opened(processes: ProcessGroup, dataset: DataOptions, work: Callable[[], T]) -> T:
    """Return what ``work`` opens in every process, in the main one first if it may have to download something."""
    if dataset.download:
        return processes.main_first(work)
    with processes.raising_everywhere():
        return work()
