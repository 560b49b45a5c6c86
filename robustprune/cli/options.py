"""Options that several commands share, and the values that commands are given for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from robustprune.cli.paths import CodeFile, DataRoot, Naming, Source
from robustprune.registry import read_options, split_names

if TYPE_CHECKING:
    import torch

    from robustprune.runtime.process_group import ProcessGroup

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def list_option(*names: str, **how: Any) -> Callable[[F], F]:
    """Return an option whose list is given by repeating it, or with commas; the command is given the texts."""
    return click.option(*names, multiple=True, **how)


def names_option(*names: str, **how: Any) -> Callable[[F], F]:
    """Return a :func:`list_option` of plug-ins' names, each with options of its own: ``NAME:key=value,key=value``."""
    return list_option(*names, **{"metavar": "NAME,…", "type": Naming()} | how)


def given_names(given: Sequence[str]) -> list[str]:
    """Return the names of a :func:`names_option`, each with its options."""
    return [name for text in given for name in split_names(text)]


def given_criteria(given: Sequence[str]) -> list[str]:
    """Return the criteria of a list of names, each with its options, or several joined by a plus."""
    return [name for text in given for name in split_names(text, joined=True)]


def read_counts(flag: str, given: Sequence[str]) -> tuple[int, ...]:
    """Return the whole numbers from 1 on of a :func:`list_option`."""
    texts = [text.strip() for each in given for text in each.split(",")]
    if not all(text.isdecimal() and int(text) > 0 for text in texts):
        raise click.UsageError(f"{flag} takes whole numbers from 1 on, such as 1,3,5; got {','.join(given)!r}")
    return tuple(map(int, texts))


def read_files(given: Sequence[str]) -> tuple[str, ...]:
    """Return the files of a :func:`list_option`; one may have a comma in its name."""
    return tuple(each for text in given for each in ([text] if Path(text).exists() else text.split(",")))


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
            vars(param).setdefault("panel", panel)
        return call

    return decorate


@dataclass(frozen=True)
class NetworkOptions:
    """The network that a command line names: a ticket's file, or a kind of network with options of its own.

    Attributes:
        model: As it was written: ``ticket.pt``, ``resnet32:width=32``.
        code: The Python file of a ticket of a network of the user's own.
        weights: A checkpoint for a new network.
    """

    model: str
    code: str | None = None
    weights: str | None = None

    @property
    def is_ticket(self) -> bool:
        """Whether a file of ours is named rather than a kind of network."""
        return self.name.endswith((".pt", ".pth", ".ckpt")) or Path(self.model).is_file()

    @property
    def name(self) -> str:
        """The name without options."""
        return self._split[0]

    @property
    def options(self) -> dict[str, Any]:
        """What the network's builder takes beside an image set and a seed."""
        weights = {} if self.weights is None else {"weights_file": self.weights}
        return self._split[1] | weights

    @property
    def _split(self) -> tuple[str, dict[str, Any]]:
        return (self.model, {}) if Path(self.model).is_file() else read_options(self.model)

    def beside(self, model: str) -> NetworkOptions:
        """Return another network that is named beside it."""
        return NetworkOptions(model, self.code)


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


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")

_seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of all random numbers.")
_threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Number of processor threads.  [default: all that it may use]"
)

setup_options = stack(
    gathered(
        "setup",
        Setup,
        _seed_option,
        click.option("--device", default="auto", help="auto (the fastest), cpu, cuda, cuda:1, xpu or mps."),
        _threads_option,
    ),
    json_option,
)
"""For ``setup: Setup`` and ``as_json``."""
processor_options = stack(gathered("setup", Setup, _seed_option, _threads_option), json_option)
"""The same, of commands that have nothing to compute elsewhere than on the processor."""


def _model_option(text: str) -> Callable[[F], F]:
    return click.option("--model", required=True, type=Naming(plain=True), help=text)


_weights_option = click.option(
    "--weights",
    type=Source(),
    help="Checkpoint to start a new network from (torch.save or safetensors).",
)


def _network(model: str, weights: str | None = None, code: str | None = None) -> NetworkOptions:
    network = NetworkOptions(model, code)
    if weights is not None and "weights_file" in network.options:
        raise click.UsageError("--weights and weights_file=… of --model name one thing twice; give one of them")
    return replace(network, weights=weights)


network_options = gathered(
    "network",
    _network,
    _model_option("File of a ticket, or a network with its options: resnet32:width=32. See `robustprune list models`."),
    click.option(
        "--model-code",
        "code",
        type=CodeFile(),
        help="Python file that defines the ticket's network: FILE.py or FILE.py:NAME.",
    ),
    _weights_option,
    panel="Network",
)
"""For ``network: NetworkOptions``."""
new_network_options = gathered(
    "network",
    _network,
    _model_option("Network with its options: resnet32:width=32. See `robustprune list models`."),
    _weights_option,
    panel="Network",
)
"""The same, of commands that take no ticket."""


def _dataset_name(default: str) -> Callable[[F], F]:
    text = f"Image set, see `robustprune list datasets`.  [default: {default}]"
    return click.option("--dataset", "name", type=Naming(), help=text)


_loading_options = (
    click.option("--data-root", "root", type=DataRoot(), help="Folder to look for image sets in."),
    click.option("--download", is_flag=True, help="Download the image set if it is missing."),
    click.option("--image-size", type=click.IntRange(min=8), help="Resize images to this height and width, in pixels."),
    click.option("--channels", type=click.Choice([1, 3]), help="Convert images to grey (1) or colour (3)."),
    click.option(
        "--train-limit", type=click.IntRange(min=1), help="Use a stratified sample of this many training images."
    ),
    click.option(
        "--validation-fraction",
        type=click.FloatRange(0, 0.5),
        help="Share of the training images that is held out for validation.  [default: 0.1]",
    ),
    click.option(
        "--data-workers",
        "workers",
        type=click.IntRange(min=0),
        help="Processes that read images of sets too large for memory.  [default: 0, read in the main process]",
    ),
)
dataset_options = gathered(
    "dataset",
    DataOptions,
    _dataset_name("that of the ticket; digits for a new network"),
    *_loading_options,
    panel="Data set",
)
"""For ``dataset: DataOptions``."""
new_dataset_options = gathered("dataset", DataOptions, _dataset_name("digits"), *_loading_options, panel="Data set")
"""The same, of commands that take no ticket."""

split_option = click.option(
    "--split", type=click.Choice(["test", "val", "train"]), default="test", help="Split that the images are taken from."
)

ELIGIBILITY = click.Choice(["paper", "strict", "identity"])
ELIGIBILITY_HELP = (
    "Which blocks a ranking may remove. identity: all removable ones. paper: all but the first of each stage. strict: "
    "all but the first and the last of each stage; the last of the last stage may go. paper and strict leave at least "
    "two blocks in each stage."
)
eligibility_option = click.option(
    "--eligibility",
    type=ELIGIBILITY,
    default="paper",
    help=ELIGIBILITY_HELP,
)


UNIT_HELP = (
    "What goes as one: whole blocks (block), or the attention or the MLP branches of a transformer's blocks, each with "
    "its normalization."
)
UNIT = click.Choice(["block", "attention", "mlp"])


decide_by_option = click.option(
    "--decide-by",
    metavar="NAME",
    help="joint: criterion of whole tickets that chooses between blocks and filters, such as naswot or jacobian.  "
    "[default: cka]",
)


resume_option = click.option(
    "--resume", is_flag=True, help="Continue an interrupted call with the same --out, if there is one."
)


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
