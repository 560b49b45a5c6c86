"""What goes into a block, and what comes out of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from robustprune.pruning.blocks import Block
from robustprune.pruning.calls import tensors
from robustprune.pruning.residue import RemovedBlock

See = Callable[[str, Tensor, Tensor], None]
"""Called with a block's name, what goes into it and what comes out, of equal shape (n, …)."""


@contextmanager
def watching(network: nn.Module, blocks: Sequence[Block], see: See) -> Iterator[None]:
    """Call ``see`` whenever a block of the network has run.

    What goes in is what the network would have in the place of the output without the block, before any activation
    that stays. Where the parent of a block adds its input, it is added to what comes out. Of a branch, both are the
    features that pass by, before it is added and after.
    """
    with ExitStack() as stack:
        for block in blocks:
            if block.stream is None:
                stack.enter_context(_watching(network.get_submodule(block.name), block, see))
            else:
                stack.enter_context(_watching_stream(network, block, block.stream, see))
        yield


@contextmanager
def _watching_stream(network: nn.Module, block: Block, stream: tuple[str, str], see: See) -> Iterator[None]:
    first, last = map(network.get_submodule, stream)
    before: list[Tensor] = []

    def note(_module: nn.Module, values: Any, keywords: dict[str, Any]) -> None:
        before[:] = [tensors([values, keywords])[0].clone()]

    def given(_module: nn.Module, values: Any, keywords: dict[str, Any]) -> None:
        see(block.name, before[0], tensors([values, keywords])[0])

    def returned(_module: nn.Module, _values: Any, output: Any) -> None:
        see(block.name, before[0], tensors(output)[0])

    with ExitStack() as stack:
        stack.callback(first.register_forward_pre_hook(note, with_kwargs=True).remove)
        if block.is_returned:
            stack.callback(last.register_forward_hook(returned).remove)
        else:
            stack.callback(last.register_forward_pre_hook(given, with_kwargs=True).remove)
        yield


@contextmanager
def _watching(module: nn.Module, block: Block, see: See) -> Iterator[None]:
    assert block.residue is not None, "only blocks that can go are scored"
    shortcut = RemovedBlock(re.sub(r"\b(relu|zero)\b", "identity", block.residue))
    is_added = re.search(r"\bzero\b", block.residue) is not None
    given: list[Tensor] = []

    def note(_module: nn.Module, values: Any, keywords: dict[str, Any]) -> None:
        # Copied, as the block may write into it.
        given[:] = [tensors(shortcut(*values, **keywords))[0].clone()]

    def compare(_module: nn.Module, _values: Any, output: Any) -> None:
        returned = tensors(output)[0]
        see(block.name, given[0], returned + given[0] if is_added else returned)

    before = module.register_forward_pre_hook(note, with_kwargs=True)
    after = module.register_forward_hook(compare)
    try:
        yield
    finally:
        before.remove()
        after.remove()
