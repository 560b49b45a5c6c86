r"""Block influence: how far a block turns what goes through it.

.. math:: s(b) = 1 - \frac{1}{N T} \sum_{n, t} \frac{x_{nt} \cdot y_{nt}}{\|x_{nt}\| \|y_{nt}\|}

with x and y the features (D,) of image n at position t before and after block b. Men et al., "ShortGPT: layers in large
language models are more redundant than you expect" (arXiv:2403.03853), eq. 1, where t counts the tokens of a text; here
it counts the tokens of a transformer, or the pixels of a feature map, whose features are its channels. Scores lie in
[0, 2]. A position where the features are all zero, as behind a ReLU, has no direction: before and after, it counts as
unchanged (0); before or after alone, as at a right angle (1).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria.activations import DataCriterion, block_sites, by_channel
from robustprune.pruning.criteria.block_ends import watching


class BlockInfluence(DataCriterion):
    """Block influence: 1 minus the mean cosine between what goes into the block and what comes out."""

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the influence of each block."""
        network, batches = self.prepare(model, data, seed)
        sites = block_sites(network, blocks, batches[0][0][:2], "output")
        found: dict[str, list[Tensor]] = {block.name: [] for block in blocks}

        def see(name: str, given: Tensor, returned: Tensor) -> None:
            channels = [by_channel(features, sites[name]) for features in (given, returned)]  # (n, D, positions)
            found[name].append(turned(*channels).mean(dim=1).cpu())

        step = self.steps(len(batches))
        with torch.no_grad(), watching(network, blocks, see):
            for images, _ in batches:
                network(images)
                step()
        return {name: float(torch.cat(parts).mean()) for name, parts in found.items()}


def turned(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 − cos of the features at each position, (n, positions) of (n, D, positions), in float64."""
    before, after = before.double(), after.double()
    both, first, second = ((one * other).sum(dim=1) for one, other in ((before, after), (before,) * 2, (after,) * 2))
    # Exactly 1 of equal features: a square root of a square is that number.
    cosine = both / (first * second).sqrt()
    unchanged = ((first == 0) & (second == 0)).double()
    return 1 - torch.where((first == 0) | (second == 0), unchanged, cosine)
