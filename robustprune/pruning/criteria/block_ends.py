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
    that stays. Where the parent of a block adds its input, it is added to what comes out.
    """
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(_watching(network.get_submodule(block.name), block, see))
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
