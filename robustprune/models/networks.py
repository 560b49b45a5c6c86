"""What is taken for a network: modules of every kind, and plain functions of images."""

from __future__ import annotations

import copy
import functools
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from types import ModuleType
from typing import Any, TypeVar

import torch
import torch.utils.checkpoint
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from robustprune.errors import ModelError
from robustprune.models.architecture import known_architecture, note_architecture

Network = TypeVar("Network", bound=nn.Module)


class FunctionNetwork(nn.Module):
    """A plain callable as a network. It cannot be copied: what a function holds on to is its own affair.

    The networks that it names are its children, so that their modes and types are those of the whole.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], place: torch.device | None = None) -> None:
        """Take a callable, and where it is to be given images, if that is not where its networks are."""
        super().__init__()
        self.place = place
        self.function = function
        self.name = str(getattr(function, "__name__", type(function).__name__))
        self.parts = nn.ModuleList(dict.fromkeys(_networks_within(function, set())))

    def forward(self, images: Tensor) -> Tensor:
        """Return what the function returns."""
        return self.function(images)

    def extra_repr(self) -> str:
        """Return where the function is written, which tells it from others of its name."""
        code = getattr(self.function, "__code__", None)
        place = "" if code is None else f", line {code.co_firstlineno} of {code.co_filename}"
        return self.name + place

    def __deepcopy__(self, memo: dict[int, Any]) -> FunctionNetwork:
        """Refuse."""
        raise ModelError(f"{self.name} is a plain callable, which cannot be copied; hand over an nn.Module")


def as_network(model: Any) -> nn.Module:
    """Return what was handed over as a network: a module as it is, any other callable as a `FunctionNetwork`.

    Raises:
        ModelError: It is neither, has lazy layers that were not run yet, or weights without values (on meta).
    """
    if isinstance(model, type) or not (isinstance(model, nn.Module) or callable(model)):
        what = f"the class {model.__name__} itself" if isinstance(model, type) else f"a {type(model).__name__}"
        hint = "; hand over its model()" if hasattr(model, "model") else ""
        raise ModelError(f"expected a network, an nn.Module or a function from images to logits, got {what}{hint}")
    network = model if isinstance(model, nn.Module) else FunctionNetwork(model)
    if lazy := lazy_layers(network):
        raise ModelError(
            f"layer {lazy[0]!r} of this {network_name(network)} is lazy and has no weights yet; run the network on "
            "some images first, model(images[:2])"
        )
    if any(tensor.is_meta for tensor in chain(network.parameters(), network.buffers())):
        raise ModelError(
            f"this {network_name(network)} is on torch's meta device, where weights have a shape and no values; build "
            "it on the CPU or a GPU, or load its weights with load_state_dict(…, assign=True)"
        )
    return network


def network_name(network: nn.Module) -> str:
    """Return what to call a network: its class, that of what a script was made of, or a function's name."""
    if isinstance(network, FunctionNetwork):
        return network.name
    original = getattr(network, "original_name", None) or getattr(network, "_orig_mod", None)
    return original if isinstance(original, str) else type(network if original is None else original).__name__


def hides_layers(network: nn.Module) -> bool:
    """Return whether there are layers in a network that hooks do not reach: those of TorchScript and torch.export."""
    return any(
        isinstance(module, torch.jit.ScriptModule)
        or (
            isinstance(module, fx.GraphModule)
            # Torch.export checks the images with a module of that name.
            and all(node.op != "call_module" or node.target == "_guards_fn" for node in module.graph.nodes)
        )
        for module in network.modules()
    )


def lazy_layers(network: nn.Module) -> list[str]:
    """Return the names of layers whose weights take their shape from the first images, which have not come yet."""
    return [
        name
        for name, module in network.named_modules()
        if any(map(is_lazy, (*module.parameters(recurse=False), *module.buffers(recurse=False))))
    ]


def reason_of(error: Exception) -> str:
    """Return what a network raised in words, with the type where these do not tell: a KeyError's are the key alone."""
    reason = str(error).strip()
    kind = "" if reason and type(error) in (RuntimeError, ValueError, TypeError) else type(error).__name__
    return ": ".join(filter(None, (kind, reason)))


def to_evaluation(network: nn.Module) -> nn.Module:
    """Put a network in evaluation mode, and return it: its own ``eval()`` may return nothing."""
    try:
        network.eval()
    except NotImplementedError:  # exported networks have their mode built in
        for module in network.modules():
            module.training = False
    except Exception as error:
        raise ModelError(
            f"this {network_name(network)} cannot be put in evaluation mode: {reason_of(error)}"
        ) from error
    return network


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in evaluation mode for the block, then give every submodule the mode it had.

    The modes come back one by one, also after an exception, so that a network with some layers frozen in
    evaluation mode is not flattened into all-training or all-evaluation.
    """
    modes = [(module, getattr(module, "training", None)) for module in model.modules()]
    try:
        yield to_evaluation(model)
    finally:
        # Not through train(): a network may override it to hold some layers in one mode.
        for module, training in modes:
            if training is not None:
                module.training = training
            else:  # a frozen script has no mode
                with suppress(AttributeError):
                    del module.training


def copy_network(model: Network) -> Network:
    """Return a deep copy of a network, also of one that ``copy.deepcopy`` refuses.

    Layers that compute their weight before each call, as torch's older ``weight_norm`` and ``spectral_norm`` do, keep
    the last one together with the graph that made it. Tensors with a graph cannot be copied, so their values are.
    """
    kept = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    try:
        with torch.no_grad():  # copied weights of a script would otherwise have a history
            copied = copy.deepcopy(model, {id(value): value.clone() for value in kept if not value.is_leaf})
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"this {network_name(model)} cannot be copied: {type(error).__name__}: {error}; build it anew and "
            "load its weights, instead of handing over one that holds on to a graph, a file or a lock"
        ) from error
    known = known_architecture(model)
    # Torch copies of scripts and graphs its own parts alone.
    if known is not None and known_architecture(copied) is None:
        note_architecture(copied, known)
    return copied


def set_weights(network: nn.Module, weights: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Load weights by the names that the network's own ``state_dict`` gives them, in place.

    Torch keeps the versions of modules' formats beside the names, and a plain dictionary has none: some networks, such
    as torchvision's MNASNet, would take it for one of an older format.
    """
    state = OrderedDict(weights)
    state._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]
    network.load_state_dict(state, strict=strict)


def uncompiled(network: nn.Module) -> nn.Module:
    """Take off what ``torch.compile`` put around a network or its submodules, in place, and return what is left."""
    for parent in network.modules():
        for name, child in parent._modules.items():
            if child is not None and hasattr(child, "_orig_mod") and not hasattr(parent, "_orig_mod"):
                parent._modules[name] = child.get_submodule("_orig_mod")
    return network.get_submodule("_orig_mod") if hasattr(network, "_orig_mod") else network


@contextmanager
def run_uncompiled(network: nn.Module) -> Iterator[None]:
    """Run what is compiled of a network as it is written.

    Compiled code has no second derivative, passes by new hooks, and does products where no counter sees them.
    """
    is_compiled = any(
        hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
        for module in network.modules()
    )
    if not is_compiled:
        yield
        return
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using `torch.compile.module.` when there are global hooks")
        yield


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention by matrix products, one after the other: nothing sees into the fused operations."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


class _NoCheckpoint:
    @staticmethod
    def apply(function: Callable[..., Any], _preserve_rng_state: bool, *arguments: Any) -> Any:
        return function(*arguments)


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Run directly what reentrant checkpoints of ``torch.utils.checkpoint`` wrap, in the whole process.

    These have no gradient by ``torch.autograd.grad`` and no second derivative, and none at all where their input has
    none. What they wrap has all of them, with the same values. The other kind of checkpoint needs no help.
    """
    reentrant = torch.utils.checkpoint.CheckpointFunction
    torch.utils.checkpoint.CheckpointFunction = _NoCheckpoint  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.utils.checkpoint.CheckpointFunction = reentrant  # type: ignore[misc]


def _networks_within(part: Any, seen: set[int], home: str | None = None) -> Iterator[nn.Module]:
    """Yield the modules that a callable holds or names, and those of functions of the same file that it names."""
    if id(part) in seen or isinstance(part, type | ModuleType):
        return
    seen.add(id(part))
    named: Iterable[Any] = ()
    if isinstance(part, nn.Module):
        yield part
    elif isinstance(part, functools.partial):
        named = (part.func, *part.args, *part.keywords.values())
    elif inspect.ismethod(part):
        named = (part.__self__, part.__func__)
    elif inspect.isfunction(part):
        if home in (None, part.__module__):
            variables, home = inspect.getclosurevars(part), part.__module__
            named = (*variables.nonlocals.values(), *variables.globals.values())
    elif isinstance(part, torch.ScriptMethod):
        yield torch.jit._recursive.wrap_cpp_module(part.owner)  # type: ignore[no-untyped-call]
    else:
        named = (value for value in getattr(part, "__dict__", {}).values() if isinstance(value, nn.Module))
    for each in named:
        yield from _networks_within(each, seen, home)
