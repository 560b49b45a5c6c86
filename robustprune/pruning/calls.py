"""What a network calls in one forward pass, with what, and what comes back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Call:
    """What went through a module in one forward pass; of several calls, what went through in the first.

    Attributes:
        name: The module's name in the network.
        module: The module.
        order: Place among all called modules, from 1.
        arguments: What it was called with, by position or keyword.
        output: What it returned.
        count: How often it was called.
        memory: Where the arguments were, by address.
    """

    name: str
    module: nn.Module
    order: int = 0
    arguments: dict[int | str, Any] = field(default_factory=dict)
    output: Any = None
    count: int = 0
    memory: frozenset[int] = frozenset()


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
    """Run a network once; return the call of every submodule, in order of first execution.

    Raises:
        PruningError: It does not run on such images.
    """
    calls: list[Call] = []
    handles = []
    for name, module in network.named_modules():
        # Torch lets nobody look into scripted modules.
        if not name or isinstance(module, torch.jit.ScriptModule):
            continue
        call = Call(name, module)

        def before(_module: nn.Module, inputs: Any, keywords: dict[str, Any], call: Call = call) -> None:
            if not call.count:
                calls.append(call)
                call.order = len(calls)
                # Cloned, since a later in-place activation would change what was caught.
                call.memory = addresses(tensors([inputs, keywords]))
                call.arguments = mapped(_detached, dict(enumerate(inputs)) | keywords)
            call.count += 1

        def after(_module: nn.Module, _inputs: Any, _keywords: Any, output: Any, call: Call = call) -> None:
            call.output = output

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after, with_kwargs=True))
    try:
        network(images)
    except Exception as error:
        raise PruningError(f"the network does not run on images of shape {tuple(images.shape)}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
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
def foreign_calls(network: nn.Module) -> Iterator[list[nn.Module]]:
    """Note the modules that are called and are not registered as parts of a network."""
    own = {id(module) for module in network.modules()}
    foreign: dict[int, nn.Module] = {}
    found: list[nn.Module] = []

    def note(module: nn.Module, _inputs: Any) -> None:
        if id(module) not in own and id(module) not in foreign:
            foreign[id(module)] = module
            found.append(module)

    handle = register_module_forward_pre_hook(note)
    try:
        yield found
    finally:
        handle.remove()
