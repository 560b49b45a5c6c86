"""What the activation criteria share: options, images, and a measure of every channel on every image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.pruning.blocks import Block
from robustprune.pruning.criteria.criterion import Criterion
from robustprune.pruning.criteria.sample import (
    Batches,
    BatchNormMode,
    as_batches,
    images_in_proportion,
    scoring_copy,
)
from robustprune.pruning.criteria.sites import Place, Site, block_sites, filter_sites, watching


class DataCriterion(Criterion):
    """A criterion that runs a stratified sample of training images through the network."""

    bn_mode: BatchNormMode = Field(
        default="running", description="batch normalization by the running statistics or the batch's"
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        default=640, description="un-augmented training images, classes in proportion"
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(default=128, description="images per forward pass")

    def prepare(self, model: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, Batches]:
        """Return the copy to score and the images to score it on."""
        network = scoring_copy(model, self.bn_mode)
        return network, as_batches(data, images_in_proportion(data, self.samples, seed), self.batch_size, network)


class ActivationCriterion(DataCriterion):
    """A criterion that measures every channel on every image; a block is worth the mean over its channels.

    Filters are judged by their convolution's maps behind the normalization and activation that follow it.
    """

    site: Place = Field(
        default="output", description="of a block: what it returns, or its branch before the shortcut is added"
    )

    @abstractmethod
    def measure(self, features: Tensor, site: Site) -> Tensor:
        """Return the measure of every channel on every image, (n, C), of features in the site's layout."""

    def importance(self, measures: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Return the importance of every channel (C,) from the measures (N, C) at all sites: their mean."""
        return {name: values.mean(dim=0) for name, values in measures.items()}

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the mean importance over the channels of each block."""
        network, batches = self.prepare(model, data, seed)
        sites = block_sites(network, blocks, batches[0][0][:2], self.site)
        return {name: float(value.mean()) for name, value in self._importance_at(sites, network, batches).items()}

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return the importance of each filter."""
        network, batches = self.prepare(model, data, seed)
        return self._importance_at(filter_sites(network, layers, batches[0][0][:2]), network, batches)

    def _importance_at(self, sites: Mapping[str, Site], network: nn.Module, batches: Batches) -> dict[str, Tensor]:
        measures: dict[str, list[Tensor]] = {name: [] for name in sites}

        def look(name: str, features: Tensor) -> None:
            activation = sites[name].activation
            if activation is not None:
                features = activation(features.clone())  # which may work in place
            measures[name].append(self.measure(features, sites[name]).double().cpu())

        with torch.no_grad(), watching(network, {site.module: partial(look, name) for name, site in sites.items()}):
            for images, _ in batches:
                network(images)
        labels = torch.cat([labels for _, labels in batches]).cpu()
        return self.importance({name: torch.cat(parts) for name, parts in measures.items()}, labels)


def by_channel(features: Tensor, site: Site) -> Tensor:
    """Return features of any layout as (n, C, positions)."""
    return features.movedim(site.channel_dim, 1).flatten(2) if features.ndim > 2 else features.unsqueeze(2)
