"""What the activation criteria share: where in a network they look, at which images, and a measure of every channel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.data import ImageData, stratified_indices
from robustprune.errors import PruningError
from robustprune.pruning.blocks import Block
from robustprune.pruning.calls import Call, tensors, trace
from robustprune.pruning.criteria import Batches, BatchNormMode, scoring_copy
from robustprune.pruning.criteria.batched import BatchedCriterion, as_batches
from robustprune.pruning.criteria.channels import channel_dim, known_channel_dim, normalizes

Place = Literal["output", "branch"]


@dataclass(frozen=True)
class Site:
    """A module whose output is looked at, by name; which of its dimensions counts channels; what it goes through.

    ``is_given``: what is looked at is what the module is given.
    """

    module: str
    shape: tuple[int, ...]
    channel_dim: int
    activation: nn.Module | None = None
    is_given: bool = False


class DataCriterion(BatchedCriterion):
    """A criterion that runs a stratified sample of training images through the network."""

    bn_mode: BatchNormMode = Field(
        default="running", description="batch normalization by the running statistics or the batch's"
    )
    samples: Annotated[int, Field(ge=2)] = Field(
        default=640, description="un-augmented training images, classes in proportion"
    )

    def sample(self, data: ImageData, seed: int) -> Tensor:
        """Return which of the training images are taken: classes in proportion, and all images if there are fewer."""
        labels = data.require("train").labels
        count = min(len(labels), max(self.samples, len(torch.unique(labels))))
        return stratified_indices(labels, count, seed)

    def prepare(self, model: nn.Module, data: ImageData, seed: int) -> tuple[nn.Module, Batches]:
        """Return the copy to score and the images to score it on."""
        network = scoring_copy(model, self.bn_mode)
        return network, as_batches(data, self.sample(data, seed), self.batch_size, network)


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

        def look(name: str, _module: nn.Module, inputs: Any, output: Any) -> None:
            # At once, as later layers may write into it.
            features, activation = (
                tensors([inputs, output] if sites[name].is_given else output)[0],
                sites[name].activation,
            )
            if activation is not None:
                features = activation(features.clone())  # which may work in place
            measures[name].append(self.measure(features, sites[name]).double().cpu())

        with torch.no_grad(), ExitStack() as stack:
            for name, site in sites.items():
                module = network.get_submodule(site.module)
                # Before it runs, with keywords in place of the output.
                hook = (
                    partial(module.register_forward_pre_hook, with_kwargs=True)
                    if site.is_given
                    else (module.register_forward_hook)
                )
                stack.callback(hook(partial(look, name)).remove)
            step, labels = self.steps(len(batches)), []
            for images, own in batches:
                network(images)
                labels.append(own.cpu())
                step()
        return self.importance({name: torch.cat(parts) for name, parts in measures.items()}, torch.cat(labels))


class ExpectedAbs(ActivationCriterion):
    """Mean absolute activation at the block output.

    Over images, positions and channels. Tan and Motani, "DropNet: reducing neural network complexity via iterative
    pruning", ICML 2020: what is hardly active adds little. Tokens and channels-last features are averaged over all
    positions alike.
    """

    no_weight_scores: ClassVar[str] = "an activation belongs to a whole filter"

    def measure(self, features: Tensor, site: Site) -> Tensor:
        """Return the mean absolute value of every channel on every image."""
        return by_channel(features, site).abs().mean(dim=2)


def by_channel(features: Tensor, site: Site) -> Tensor:
    """Return features of any layout as (n, C, positions)."""
    return features.movedim(site.channel_dim, 1).flatten(2) if features.ndim > 2 else features.unsqueeze(2)


def block_sites(network: nn.Module, blocks: Sequence[Block], images: Tensor, place: Place) -> dict[str, Site]:
    """Return where each block is looked at, by block name.

    ``output`` is what the block returns; ``branch`` the output of its last convolution, linear or normalization
    layer that has as many channels and positions, which is what the (last) shortcut adds it to. Of an attention or MLP
    branch, ``output`` is what passes by after it is added, and ``branch`` what its last module returns.
    """
    calls = _completed(network, images)
    by_name = {call.name: call for call in calls}
    return {
        block.name: _block_site(by_name[block.name], calls, place)
        if block.stream is None
        else _branch_site(block, calls, place)
        for block in blocks
    }


def _branch_site(block: Block, calls: Sequence[Call], place: Place) -> Site:
    own = [call for call in calls if call.name in block.modules]
    main = next(call for call in own if call.name == block.name)
    dim, shape = channel_dim(main, _within(main, calls)), tuple(own[-1].features.shape)
    if place == "branch" or block.stream is None:
        return Site(own[-1].name, shape, dim)
    return Site(block.stream[1], shape, dim, is_given=not block.is_returned)


def _block_site(block: Call, calls: Sequence[Call], place: Place) -> Site:
    inside = _within(block, calls)
    shape, dim = tuple(block.features.shape), channel_dim(block, inside)
    if place == "output":
        return Site(block.name, shape, dim)
    for call in reversed(inside):
        own = _transformed_dim(call, inside)
        if own is not None and _channels_first(tuple(call.features.shape), own) == _channels_first(shape, dim):
            return Site(call.name, tuple(call.features.shape), own)
    raise PruningError(
        f"block {block.name} has no layer that returns {shape[1:]} as the block does, so its "
        "branch cannot be told from its output; use site=output"
    )


def _within(call: Call, calls: Sequence[Call]) -> list[Call]:
    members = set(call.module.modules()) - {call.module}
    return [other for other in calls if other.module in members]


def _transformed_dim(call: Call, calls: Sequence[Call]) -> int | None:
    """Return which dimension counts channels in the output of a convolution, linear or normalization layer."""
    if isinstance(call.module, nn.MultiheadAttention):
        return None
    if not normalizes(call.module):
        return known_channel_dim(call)
    with suppress(PruningError):  # nothing in it tells
        return channel_dim(call, _within(call, calls))
    return None


def _channels_first(shape: tuple[int, ...], dim: int) -> tuple[int, ...]:
    return (shape[dim], *shape[:dim], *shape[dim + 1 :])


def filter_sites(network: nn.Module, layers: Sequence[str], images: Tensor) -> dict[str, Site]:
    """Return where each convolution's maps are looked at: behind the normalization and activation that follow it.

    What follows is the module that is given the very tensor the one before returned. An activation called as a
    function is left out.
    """
    calls = _completed(network, images)
    places = {call.name: place for place, call in reversed(list(enumerate(calls)))}
    sites = {}
    for layer in layers:
        if layer not in places:
            raise PruningError(
                f"the network never calls {layer} as a module, so its feature maps cannot be seen; use a criterion of "
                "weights, such as snip or l1, for its filters"
            )
        maps = calls[places[layer]]
        module, activation, features = layer, None, maps.features
        for call in calls[places[layer] + 1 :]:
            same = bool(call.given) and call.given[0] is features
            activates = "activation" in type(call.module).__module__
            if not same or call.features.shape != features.shape or isinstance(call.module, nn.MultiheadAttention):
                continue
            if normalizes(call.module):
                module, activation = call.name, None
            elif activates and activation is None:
                activation = call.module
            elif not isinstance(call.module, (nn.Identity, nn.Dropout)):
                continue
            features = call.features
        sites[layer] = Site(module, tuple(maps.features.shape), 1, activation)
    return sites


def _completed(network: nn.Module, images: Tensor) -> list[Call]:
    """Return the calls of modules that return a tensor, in order of completion."""
    return sorted((call for call in trace(network, images) if tensors(call.output)), key=lambda call: call.ended)
