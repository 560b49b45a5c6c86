"""Whether a parent adds its input to what a module returns: then the module is a branch, and nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.pruning.calls import Call, called, mapped, tensors
from robustprune.pruning.residue import RemovedBlock, Residue
from robustprune.runtime.randomness import seeded_generator


def is_summed(parent: nn.Module, arguments: Mapping[int | str, Any], call: Call, residue: Residue) -> bool:
    """Return whether a parent adds what a module returns to the module's input, and uses neither otherwise.

    Seen in one of two ways. What reads the sum first gets the input itself where the module returns nothing, through a
    ReLU at most. Or, where only a function reads it, the parent cannot tell a module that returns its input's negative
    from no input and no output: both sums are zero.

    Args:
        parent: A module that calls it, in evaluation mode.
        arguments: What to call the parent with, by position or keyword.
        call: What went through the module.
        residue: What it leaves when it is silent: ``zero``, of one of its arguments.
    """
    after = _Aftermath(parent, arguments, call.module, residue)
    nothing = after.run(torch.zeros_like)
    noise = after.run(_noise)
    if len(nothing) != len(noise):
        return False
    # Past what is handed the output alone, such as stochastic depth, or a module that adds its two inputs.
    start, alone = 0, _noise(after.features)
    while start < len(noise) and (_equal(nothing[start], noise[start]) or _equal(noise[start], alone)):
        start += 1
    if start == len(noise):
        return False
    changed = nothing[start]
    if _equal(changed, after.features) or _equal(changed, after.features.relu()):
        return True
    negative = after.run(torch.neg)[start:]
    neither = after.run(lambda features: torch.zeros_like(features.zero_()))[start:]
    nothing = nothing[start:]
    same = len(negative) == len(neither) and all(map(_equal, negative, neither))
    return same and not all(map(_equal, negative, nothing))


def _noise(features: Tensor) -> Tensor:
    return torch.randn(features.shape, generator=seeded_generator("branch"), dtype=features.dtype)


class _Aftermath:
    """What modules receive after one of them was called, when that one returns something else.

    Attributes:
        features: The argument whose sum with the output is looked for, as it was in the last run.
    """

    def __init__(
        self, parent: nn.Module, arguments: Mapping[int | str, Any], module: nn.Module, residue: Residue
    ) -> None:
        self.features = torch.empty(0)
        self._parent, self._arguments, self._module = parent, arguments, module
        self._zero, self._input = RemovedBlock(residue), RemovedBlock(residue.replace("zero", "identity"))
        self._received: list[Tensor] = []
        self._armed = False

    def run(self, instead: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Run the parent with ``instead`` of the features in place of what the module returns."""
        self._received, self._armed = [], False

        def forward(*values: Any, **keywords: Any) -> Any:
            (features,) = tensors(self._input(*values, **keywords))
            self.features = features.clone()
            returned = instead(features)
            self._armed = True
            return mapped(lambda leaf: returned if isinstance(leaf, Tensor) else leaf, self._zero(*values, **keywords))

        own = self._module.forward
        self._module.forward = forward
        try:
            with self._listening():
                self._note(None, (called(self._parent, self._arguments),), {})
        except Exception:
            return []
        finally:
            self._module.forward = own
        return self._received

    @contextmanager
    def _listening(self) -> Iterator[None]:
        inside = set(self._module.modules())
        with ExitStack() as stack:
            for module in self._parent.modules():
                if module not in inside and not isinstance(module, torch.jit.ScriptModule):
                    stack.callback(module.register_forward_pre_hook(self._note, with_kwargs=True).remove)
            yield

    def _note(self, _module: nn.Module | None, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if self._armed:
            self._received += [tensor.clone() for tensor in tensors([inputs, keywords])]


def _equal(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-5, atol=0)
