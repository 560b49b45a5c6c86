"""What a network calls in one forward pass, with what, and what comes back."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from robustprune.errors import PruningError
from robustprune.models import architecture_of, run_uncompiled
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.randomness import isolated_generators, seeded_generator


@dataclass(eq=False)
class Call:
    """What went through a module in one call.

    Attributes:
        name: The module's name in the network.
        module: The module.
        arguments: Copies of what it was called with, by position or keyword.
        given: The very tensors it was called with.
        output: What it returned, as it is: what comes after may have written into it.
        number: Which call of the module this is, from 1.
        count: How often the module is called.
        ended: Place among all calls in order of their ends, from 0.
    """

    name: str
    module: nn.Module
    arguments: dict[int | str, Any]
    given: list[Tensor]
    number: int = 1
    count: int = 1
    output: Any = None
    ended: int = 0

    @property
    def features(self) -> Tensor:
        """The first tensor that it returned; there has to be one."""
        return tensors(self.output)[0]


class Joints(TorchFunctionMode):
    """Notes where features are added to others, or put beside them.

    Attributes:
        sums: How many additions there were of two tensors of one shape.
        concatenations: How many concatenations.
        products: How many multiplications of features by others, as of gates.
        joined: Where what was joined in either way lay in memory, by address.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.sums = self.concatenations = self.products = 0
        self.joined: set[int] = set()

    def __torch_function__(self, function: Any, types: Any, values: Any = (), keywords: Any = None) -> Any:
        """Look at an operation, and carry it out."""
        name = getattr(function, "__name__", "")
        adds, beside = name.startswith("add") or name in ("sub", "sub_", "lerp"), name in ("cat", "concat", "stack")
        if adds or beside or name in ("mul", "mul_"):
            parts = [tensor for tensor in tensors(list(values)) if tensor.dim() > 1]
            alike = len(parts) > 1 and parts[0].shape == parts[1].shape
            self.sums += adds and alike
            self.products += alike and not (adds or beside)
            self.concatenations += beside
            if adds or beside:
                self.joined.update(addresses(parts))
        return function(*values, **(keywords or {}))


def addresses(parts: Iterable[Tensor]) -> frozenset[int]:
    """Return where tensors lie in memory; views of one tensor share it."""
    return frozenset(part.untyped_storage().data_ptr() for part in parts)


def trace(network: nn.Module, images: Tensor) -> list[Call]:
    """Run a network once, without gradients; return all calls of its submodules in order of their beginnings.

    Raises:
        PruningError: It does not run on such images.
    """
    calls: list[Call] = []
    running: list[Call] = []
    counts: Counter[str] = Counter()
    ends = count()

    def begin(name: str, module: nn.Module, inputs: Any, keywords: dict[str, Any]) -> None:
        counts[name] += 1
        # Copied, since a later in-place activation would change what was caught.
        arguments = mapped(_detached, dict(enumerate(inputs)) | keywords)
        running.append(Call(name, module, arguments, tensors([inputs, keywords]), number=counts[name]))
        calls.append(running[-1])

    def end(module: nn.Module, output: Any) -> None:
        while (call := running.pop()).module is not module:
            pass  # it raised what a module around it has caught
        call.output, call.ended = output, next(ends)

    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for name, module in network.named_modules():
            # Torch lets nobody look into scripted modules.
            if name and not isinstance(module, torch.jit.ScriptModule):
                before = module.register_forward_pre_hook(
                    lambda module, inputs, keywords, name=name: begin(name, module, inputs, keywords), with_kwargs=True
                )
                after = module.register_forward_hook(lambda module, _inputs, output: end(module, output))
                stack.callback(before.remove)
                stack.callback(after.remove)
        try:
            network(images)
        except Exception as error:
            raise PruningError(f"the network does not run on images of shape {tuple(images.shape)}: {error}") from error
    for call in calls:
        call.count = counts[call.name]
    return calls


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def parts(value: Any, path: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    """Yield nested tuples, lists and dicts, then what is in them, with the way there."""
    yield path, value
    if type(value) in (tuple, list, dict):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from parts(each, (*path, key))


def leaves(value: Any) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    """Yield what is in nested tuples, lists and dicts, with the way there."""
    return ((path, part) for path, part in parts(value) if type(part) not in (tuple, list, dict))


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dicts and what else torch knows to open."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return nested tuples, lists and dicts with a function's value for whatever is in them."""
    if type(value) in (tuple, list):
        return type(value)(mapped(function, each) for each in value)
    if type(value) is dict:
        return {key: mapped(function, each) for key, each in value.items()}
    return function(value)


def called(module: nn.Module, arguments: Mapping[int | str, Any]) -> Any:
    """Return what a module returns for copies of arguments, by position or keyword."""
    own = mapped(_detached, dict(arguments))
    return module(
        *(value for key, value in own.items() if isinstance(key, int)),
        **{key: value for key, value in own.items() if isinstance(key, str)},
    )


@contextmanager
def running_instead(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules run other functions for their forward passes, whichever way they are reached."""
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, before in own.items():
            del module.forward
            if before is not None:
                module.forward = before


def probe_images(network: nn.Module, example: Array | None = None) -> Tensor:
    """Return images to run a network on, in its type and on its device: noise, unless there is an example.

    Raises:
        ModelError: Neither the network nor an example says what images it takes.
        PruningError: The example is no array of numbers.
    """
    if example is None:
        architecture = architecture_of(network)
        shape = (2, architecture.channels, *architecture.image_size)
        example = torch.rand(shape, generator=seeded_generator("block probe"))
    example = to_tensor(example, "the example", PruningError)
    return example.to(next(network.parameters(), example)).clone()


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Run a network without gradients, without its warnings, uncompiled, and leave the random generators alone."""
    with torch.no_grad(), isolated_generators(), run_uncompiled(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def foreign_calls(network: nn.Module) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """Note the modules that are called and not registered in a network → what they hold that is not the network's.

    Those are parameters and running statistics: of a slice of a network, which shares them, there are none.
    """
    modules, own = set(network.modules()), {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    foreign: dict[nn.Module, list[Tensor]] = {}

    def note(module: nn.Module, _inputs: Any) -> None:
        if module not in modules and module not in foreign:
            means = [tensor for name, tensor in module.named_buffers() if name.rpartition(".")[2] == "running_mean"]
            foreign[module] = [tensor for tensor in (*module.parameters(), *means) if id(tensor) not in own]

    handle = register_module_forward_pre_hook(note)
    try:
        yield foreign
    finally:
        handle.remove()
