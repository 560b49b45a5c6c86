"""Options that several commands share, and what they name: a network, an image set, a file to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from click.core import ParameterSource

from robustprune.cli.paths import DataRoot, Naming, Read, Source, named_paths

if TYPE_CHECKING:
    from robustprune.data import ImageData
    from robustprune.runtime.processes import Processes
    from robustprune.tickets.ticket import Ticket

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


class KeyValue(click.ParamType[tuple[str, Any]]):
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


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")

_seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random."
)
_device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
_threads_option = click.option("--threads", type=click.IntRange(min=1), help="Processor threads to compute with.")

common_options = stack(_seed_option, _device_option, _threads_option, json_option)
# Of commands that have nothing to compute elsewhere than on the processor.
processor_options = stack(_seed_option, _threads_option, json_option)

_model_code_option = click.option(
    "--model-code", type=Source(), help="Python file of a `file:` network, for its tickets."
)
_network_option = click.option(
    "--model-option",
    "network_options",
    type=KeyValue("name", "data", "seed", texts={"weights_file", "threat_model"}),
    multiple=True,
    help="E.g. width=32 for a ResNet.",
)

model_options = stack(
    click.option(
        "--model",
        required=True,
        type=Naming(plain=True),
        help="A ticket's file, or a name: see `robustprune list models`.",
    ),
    _model_code_option,
    _network_option,
)
# Of commands that take no ticket.
new_model_options = stack(
    click.option("--model", required=True, type=Naming(plain=True), help="A name: see `robustprune list models`."),
    _network_option,
)

data_options = stack(
    click.option(
        "--dataset",
        type=Naming(),
        help="See `robustprune list datasets`. [default: the ticket's own, or digits for a new network]",
    ),
    click.option("--data-root", "root", type=DataRoot(), help="Folder to look for the data set in."),
    click.option("--download", is_flag=True, help="Allow a missing data set to be downloaded."),
    click.option("--image-size", type=click.IntRange(min=8), help="Resize to this side, in pixels."),
    click.option("--channels", type=click.Choice(["1", "3"]), help="Convert to gray or colour."),
    click.option("--train-limit", type=click.IntRange(min=1), help="Stratified number of training images."),
    click.option("--validation-fraction", type=click.FloatRange(0, 0.5), help="Held out of train. [default: 0.1]"),
    click.option("--workers", type=click.IntRange(min=0), help="Processes that read images of large sets."),
)

split_option = click.option("--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True)

eligibility_option = click.option(
    "--eligibility", default="authors", show_default=True, help="Which blocks may go: authors, strict or identity."
)

recipe_options = stack(
    click.option("--recipe", default="quick", show_default=True, help="quick or paper."),
    click.option("--epochs", type=click.IntRange(min=1), help="In place of the recipe's."),
    click.option("--batch-size", type=click.IntRange(min=2), help="In place of the recipe's."),
    click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="In place of the recipe's."),
    click.option("--country", default="USA", show_default=True, help="ISO 3166 code of the grid that feeds you."),
    click.option("--no-energy", is_flag=True, help="Do not measure energy."),
)

_DATA_OPTIONS = (
    "root",
    "download",
    "image_size",
    "channels",
    "train_limit",
    "validation_fraction",
    "workers",
)


def resolve(options: dict[str, Any]) -> dict[str, Any]:
    """Take model and data options out of a command's arguments; return them as the workbench takes them."""
    from robustprune.runtime.work import choose_device, limit_threads

    limit_threads(options.pop("threads"))
    if "device" in options:
        options["device"] = choose_device(options["device"])
    return {
        "model": options["model"],
        "dataset": options.pop("dataset"),
        "data_options": take_data_options(options),
        "model_options": dict(options.pop("network_options")),
        "model_code": options.pop("model_code", None),
        "seed": options["seed"],
    }


def take_data_options(options: dict[str, Any]) -> dict[str, Any]:
    """Take how an image set is loaded out of a command's arguments."""
    data = {name: options.pop(name) for name in _DATA_OPTIONS}
    data["download"] = data["download"] or None
    data["channels"] = int(data["channels"]) if data["channels"] else None
    return data


def was_given(option: str) -> bool:
    """Whether the user gave an option, rather than leaving it at its default."""
    context = click.get_current_context()
    return context is not None and context.get_parameter_source(option) is not ParameterSource.DEFAULT


def alike_options(options: dict[str, Any], others: Sequence[str]) -> dict[str, Any]:
    """Return how networks beside a command's first are opened; --model-option is theirs where that is a ticket."""
    from robustprune.cli.workbench import is_ticket_path

    given = {
        "model_options": dict(options["network_options"]),
        "model_code": options["model_code"],
        "seed": options["seed"],
    }
    if is_ticket_path(options["model"]) and not all(map(is_ticket_path, others)):
        options["network_options"] = ()
    return given


def open_named(options: dict[str, Any]) -> tuple[Ticket, ImageData]:
    """Return the network and the image set that a command's arguments name."""
    from robustprune.cli.workbench import open_model

    return open_model(**resolve(options))


@contextmanager
def joined(device: str, *, evaluates: bool = False) -> Iterator[Processes]:
    """Join the processes that torchrun started with this one, for the block."""
    from robustprune.runtime.processes import EVALUATION_TIMEOUT, TRAINING_TIMEOUT, start_processes
    from robustprune.runtime.work import choose_device

    with start_processes(choose_device(device), EVALUATION_TIMEOUT if evaluates else TRAINING_TIMEOUT) as processes:
        yield processes


def opened(processes: Processes, options: dict[str, Any], work: Callable[[], T]) -> T:
    """Return what ``work`` opens in every process, in the main one first if it may have to download something."""
    if options["download"]:
        return processes.main_first(work)
    with processes.agreement():
        return work()


def open_named_network(options: dict[str, Any]) -> Ticket:
    """Return the network alone, for commands that need no images."""
    from robustprune.cli.workbench import open_network

    return open_network(**resolve(options))
