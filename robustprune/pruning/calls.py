"""What a network calls in one forward pass, with what, and what comes back."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves, tree_map_only

from robustprune.errors import PruningError
from robustprune.models import architecture_of, model_device, run_uncompiled
from robustprune.runtime.arrays import Array, to_tensor
from robustprune.runtime.randomness import isolated_generators, seeded_generator


@dataclass(eq=False)
class Call:
    """What went through a module in one call.

    Attributes:
        name: The module's name in the network.
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


def trace(network: nn.Module, images: Tensor) -> list[Call]:
    """Run a network once, without gradients; return all calls of its submodules in order of their beginnings."""
    calls: list[Call] = []
    running: list[Call] = []
    counts: Counter[str] = Counter()
    ends = count()

    def begin(name: str, module: nn.Module, inputs: Any, keywords: dict[str, Any]) -> None:
        counts[name] += 1
        # Copied, since a later in-place activation would change what was caught.
        arguments = copied(dict(enumerate(inputs)) | keywords)
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


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dicts and what else torch knows to open."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def address(tensor: Tensor) -> int:
    """Return where a tensor lies in memory; views of one tensor share it."""
    return tensor.untyped_storage().data_ptr()


def copied(value: Any) -> Any:
    """Return tuples, lists, dicts and the like with copies of the tensors in them, without their graphs."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), value)


def called(module: nn.Module, arguments: Mapping[int | str, Any]) -> Any:
    """Return what a module returns for copies of arguments, by position or keyword."""
    own = copied(dict(arguments))
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
    """Return images to run a network on, in its type and on its device: noise, unless there is an example."""
    if example is None:
        architecture = architecture_of(network)
        shape = (2, architecture.channels, *architecture.image_size)
        example = torch.rand(shape, generator=seeded_generator("block probe"))
    example = to_tensor(example, "the example", PruningError)
    return example.to(next(network.parameters(), example)).clone()


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """Run a network without gradients, without its warnings, uncompiled, and leave the random generators alone."""
    generators = isolated_generators(device=model_device(network))
    with torch.no_grad(), generators, run_uncompiled(network), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run_registered(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Run a network and return what it returns; see that it calls no weights that are not registered in it.

    Nor running statistics. A slice of a network, which shares its weights, is none of its parts and may be called.

    Raises:
        PruningError: It does; else whatever the network raises.
    """
    modules, own = set(network.modules()), {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    unregistered: list[nn.Module] = []

    def note(module: nn.Module, _inputs: Any) -> None:
        means = [tensor for name, tensor in module.named_buffers() if name.rpartition(".")[2] == "running_mean"]
        if module not in modules and any(id(tensor) not in own for tensor in (*module.parameters(), *means)):
            unregistered.append(module)

    handle = register_module_forward_pre_hook(note)
    try:
        output = network(images)
    finally:
        handle.remove()
    if unregistered:
        kind, count = type(unregistered[0]).__name__, sum(weight.numel() for weight in unregistered[0].parameters())
        raise PruningError(
            f"the network calls a {kind} with {count:,} parameters that is not registered as a part of it (is it in a "
            "plain list, or held by a function or a bound method, whose copies call the original?), so that it can "
            "neither be taken out, nor counted, nor saved; register it, in an nn.ModuleList for example, and call it "
            "by that name"
        )
    return tensors(output)
