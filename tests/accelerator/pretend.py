"""A pretend accelerator: device ``pretend``, in host memory, that refuses what a graphics card refuses.

`install` makes it usable in a process, and cannot be undone there: torch knows one device of this kind, and only by the
first name that it is given. `test_accelerator` therefore runs the suite in processes of its own.

What it does as a card does:

- tensors of the device are not mixed with the processor's (numbers and indices aside), in no operation and no module;
- ``numpy()`` and whatever asks for the values without a copy fail;
- generators of the processor do not draw on it;
- the host's waits are counted, see `Waits`.

What it does otherwise: its values lie in host memory and are the processor's to the bit. Everything runs at once. Draws
on the device come from the processor's generator. There are no inference tensors on it (``inference_mode`` is
``no_grad``). Modules are converted by swapping their parameters. It has one card, no half precision of its own, and
never runs out of memory.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration as registration
from torch.utils._python_dispatch import TorchDispatchMode

import robustprune

NAME = "pretend"
DEVICE = torch.device("cpu")  # until it is installed

_COPIES = {"aten::_to_copy", "aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize"}
_INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}
# The sizes of what they return depend on values, or they return a value of Python's.
_WAITING = {
    "aten::_local_scalar_dense": "item",
    "aten::nonzero": "nonzero",
    "aten::masked_select": "nonzero",
    "aten::_unique2": "nonzero",
    "aten::unique_dim": "nonzero",
    "aten::bincount": "nonzero",
    "aten::repeat_interleave": "nonzero",
    "aten::equal": "equal",
}
_PACKAGE = str(Path(robustprune.__file__).parent)


class Waits(Counter[tuple[str, str]]):
    """How often the host waited, by why and by the line of the package that asked.

    ``item``, ``tolist``, ``equal``: for a value; ``nonzero``: for the size of what a mask chooses; ``download``: for
    values on the processor; ``upload``: for a copy to the device that was not said to be ``non_blocking``.
    """

    def note(self, why: str) -> None:
        """Count a wait."""
        self[why, _line_of_package()] += 1

    def by_reason(self, *reasons: str) -> int:
        """Return how often the host waited for one of these reasons."""
        return sum(count for (why, _), count in self.items() if why in reasons)

    def in_files(self, *names: str) -> list[int]:
        """Return how often the host waited for each line in some files of the package."""
        return [count for (_, line), count in self.items() if line.partition(":")[0] in names]


WAITS = Waits()


def _line_of_package() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith(_PACKAGE):
            return f"{Path(frame.f_code.co_filename).relative_to(_PACKAGE)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


class _Module(registration._DummyBackendModule):  # type: ignore[name-defined,misc]
    """What torch asks of the module of a device."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(8, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None: ...
    def manual_seed(self, seed: int) -> None: ...
    def synchronize(self, device: Any = None) -> None: ...
    def empty_cache(self) -> None: ...
    def get_device_name(self, device: Any = None) -> str:
        return "pretend accelerator"


class DeviceTensor(Tensor):
    """A tensor that says it is on the device; ``raw`` holds its values."""

    raw: Tensor
    # By which some packages tell a tensor of torch.
    __module__ = "torch"
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, raw: Tensor) -> DeviceTensor:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
            cls, raw.shape, strides=raw.stride(), dtype=raw.dtype, layout=raw.layout, device=DEVICE, requires_grad=False
        )

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    def __repr__(self, *_: Any, **__: Any) -> str:
        return f"DeviceTensor({self.raw!r})"

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.raw.untyped_storage()

    def tolist(self) -> Any:
        WAITS.note("tolist")
        return self.raw.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __getitem__(self, index: Any) -> Tensor:
        # Of a list, torch would make a tensor on the device by a path that leads past the dispatcher.
        parts = index if isinstance(index, tuple) else (index,)
        return super().__getitem__(tuple(torch.tensor(each) if isinstance(each, list) else each for each in parts))

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = DeviceTensor(self.raw.clone())
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        else:
            copied.requires_grad_(self.requires_grad)
        memo[id(self)] = copied
        return copied

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        return _run(function, arguments, keywords or {})


class _Factories(TorchDispatchMode):
    """Brings what makes tensors on the device, or moves them there, to it."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Sequence[Any] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        leaves = pytree.tree_leaves((arguments, keywords))
        if any(isinstance(each, DeviceTensor) or _is_here(each) for each in leaves):
            return _run(function, arguments, keywords)
        return function(*arguments, **keywords)


def _is_here(device: Any) -> bool:
    return isinstance(device, torch.device) and device.type == NAME


def _run(function: Any, arguments: Sequence[Any], keywords: dict[str, Any]) -> Any:
    """Carry an operation out in host memory, once it is one that a card would previous out."""
    name = function._schema.name
    leaves = pytree.tree_leaves((arguments, keywords))
    here = [each for each in leaves if isinstance(each, DeviceTensor)]
    others = [each for each in leaves if isinstance(each, Tensor) and not isinstance(each, DeviceTensor)]
    asked = keywords.get("device")
    if asked is not None:
        stays = torch.device(asked).type == NAME
    else:
        stays = isinstance(arguments[0], DeviceTensor) if name in _COPIES else bool(here)
    _refuse(name, arguments, here, others)
    if stays and name not in _COPIES and any(isinstance(each, torch.Generator) for each in leaves):
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu' (in {name})")
    _count(name, arguments, keywords, here, stays)
    result = function(*pytree.tree_map(_bare, arguments), **_bare_keywords(keywords))
    if not stays:
        return result
    known = {id(each.raw): each for each in here}
    return pytree.tree_map(
        lambda value: known.get(id(value), DeviceTensor(value)) if isinstance(value, Tensor) else value, result
    )


def _refuse(name: str, arguments: Sequence[Any], here: list[DeviceTensor], others: list[Tensor]) -> None:
    """Refuse operations over tensors of the device and of the processor."""
    if not here or name in _COPIES:
        return
    for each in others:
        # A card takes numbers from the processor, and indices.
        is_index = name in _INDEXING and each is not arguments[0] and not each.is_floating_point()
        if each.dim() > 0 and not is_index:
            raise RuntimeError(f"Expected all tensors to be on the same device, found {DEVICE} and cpu (in {name})")
    if name in _INDEXING and not isinstance(arguments[0], DeviceTensor):
        raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor (in {name})")


def _count(
    name: str, arguments: Sequence[Any], keywords: dict[str, Any], here: list[DeviceTensor], stays: bool
) -> None:
    """Count it if the host waits for it."""
    if name in _COPIES:
        target = arguments[0] if name != "aten::_to_copy" else None
        comes_from_here = isinstance(arguments[1] if target is not None else arguments[0], DeviceTensor)
        non_blocking = keywords.get("non_blocking") or (target is not None and len(arguments) > 2 and arguments[2])
        if comes_from_here != stays and not (stays and non_blocking):
            WAITS.note("upload" if stays else "download")
    elif here and name in _WAITING:
        WAITS.note(_WAITING[name])
    elif here and name in _INDEXING:
        masks = [each for each in pytree.tree_leaves(arguments[1]) if isinstance(each, Tensor)]
        if any(mask.dtype in (torch.bool, torch.uint8) for mask in masks):
            WAITS.note("nonzero")
        elif any(not isinstance(mask, DeviceTensor) for mask in masks):
            WAITS.note("upload")


def _bare(value: Any) -> Any:
    if isinstance(value, DeviceTensor):
        return value.raw
    return torch.device("cpu") if _is_here(value) else value


def _bare_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pytree.tree_map(_bare, keywords).items() if name != "pin_memory"}


class _NoInference(contextlib.ContextDecorator):
    """Stands for ``torch.inference_mode``: wrapped tensors cannot be made in it."""

    def __init__(self, mode: bool | Callable[..., Any] = True) -> None:
        self.mode = mode

    def __enter__(self) -> Any:
        self.inner: Any = torch.no_grad() if self.mode else contextlib.nullcontext()
        return self.inner.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self.inner.__exit__(*error)


def install() -> None:
    """Make the device usable in this process, from now on; several times is once."""
    global DEVICE
    if DEVICE.type == NAME:
        return
    registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())  # type: ignore[no-untyped-call]
    DEVICE = torch.device(f"{NAME}:0")
    torch.__future__.set_swap_module_params_on_conversion(True)
    torch.inference_mode = _NoInference  # type: ignore[assignment,misc]
    torch.accelerator.synchronize = lambda *_, **__: None  # a backend of Python's has no streams
    _Factories().__enter__()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def counting() -> Iterator[Waits]:
    """Yield the waits of the block alone."""
    WAITS.clear()
    yield WAITS
