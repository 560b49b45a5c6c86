"""Criteria that score single weights, most of them by gradients of a loss, and the plainest of these, SNIP.

A filter or a block is worth what its weights are worth together.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from robustprune.data import ImageData, stratified_per_class
from robustprune.errors import PruningError
from robustprune.models import evaluation_mode, logits_of
from robustprune.pruning.blocks import Block, weight_layers
from robustprune.pruning.criteria import Batches, BatchNormMode, Criterion, scoring_copy
from robustprune.pruning.criteria.batched import BatchedCriterion, as_batches, image_count
from robustprune.pruning.criteria.used_weights import use_weights

Saliency = dict[str, Tensor]
"""Name of a weight → importance of each of its numbers, in its shape; one tensor for a weight of several names."""

Reduction = Literal["sum", "mean"]


class WeightCriterion(Criterion):
    """A criterion that is defined weight by weight."""

    reduction: Reduction = Field(
        default="sum",
        description="over the weights of a block or filter; mean makes the widest stage the victim whatever the data",
    )

    @abstractmethod
    def saliency(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the importance of every convolution and linear weight that takes part; the model is left as it was."""

    def weight_scores(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the importance of every convolution and linear weight, 0 where it takes no part in the output."""
        found = self.saliency(model, data, seed)
        return {
            name: found[name] if name in found else torch.zeros_like(weight, requires_grad=False)
            for name, weight in all_weights(model).items()
        }

    def score(self, model: nn.Module, blocks: Sequence[Block], data: ImageData, seed: int) -> dict[str, float]:
        """Return the sum, or mean, over the convolution and linear weights of each block."""
        saliency = self.saliency(model, data, seed)
        scores: dict[str, float] = {}
        for block in blocks:
            own = weights_within(saliency, block).values()
            total = sum(float(value.sum(dtype=torch.float64)) for value in own)
            scores[block.name] = total / sum(value.numel() for value in own) if self.reduction == "mean" else total
        return scores

    def ticket_scores(self, model: nn.Module, data: ImageData, seed: int) -> Callable[[nn.Module], float]:
        """Return a function from a ticket to the sum over all of its weights, of their scores in the ticket itself.

        Abdelfattah et al., "Zero-cost proxies for lightweight NAS", ICLR 2021 (arXiv:2101.08134), section 3.2.
        Their GraSP is −θ ⊙ Hg, and larger is better; here, as of blocks, θ ⊙ Hg.
        """

        def score(left: nn.Module) -> float:
            own = {id(value): value for value in self.saliency(left, data, seed).values()}.values()
            total = sum(float(value.sum(dtype=torch.float64)) for value in own)
            return total / sum(value.numel() for value in own) if self.reduction == "mean" else total

        return score

    def filter_scores(self, model: nn.Module, layers: Sequence[str], data: ImageData, seed: int) -> dict[str, Tensor]:
        """Return the sum, or mean, over the weights of each filter."""
        saliency = self.saliency(model, data, seed)
        for layer in layers:
            if f"{layer}.weight" not in saliency:
                raise _unreached(f"the filters of {layer}")
        return {layer: per_filter(saliency, f"{layer}.weight", model, self.reduction) for layer in layers}


def all_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the convolution and linear weights of a model by name, read in evaluation mode.

    To read a computed one can change the model otherwise: spectral normalization goes on with its power iteration.
    """
    with evaluation_mode(model):
        return dict(weight_layers(model))


def per_weight(slopes: Saliency, weights: Mapping[str, Tensor], score: Callable[[Tensor, Tensor], Tensor]) -> Saliency:
    """Return ``score(weight, slope)`` for every slope, computed once for a weight of several names."""
    found: dict[int, Tensor] = {}
    for name, slope in slopes.items():
        if id(weights[name]) not in found:
            found[id(weights[name])] = score(weights[name].detach(), slope)
    return {name: found[id(weights[name])] for name in slopes}


def weights_within(saliency: Mapping[str, Tensor], block: Block) -> Saliency:
    """Return the saliencies of a block's convolution and linear weights, each once."""
    within = tuple(f"{module}." for module in block.modules)
    own = {id(value): (name, value) for name, value in saliency.items() if name.startswith(within)}
    if not own:
        raise _unreached(f"block {block.name}")
    return dict(own.values())


def per_filter(saliency: Mapping[str, Tensor], name: str, network: nn.Module, reduction: Reduction) -> Tensor:
    """Return the sum, or mean, of a weight's saliency over each filter, (filters,) in float64."""
    layer, weights = network.get_submodule(name.rpartition(".")[0]), saliency[name]
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):  # of shape (inputs, filters, …)
        weights = weights.view(layer.groups, -1, *weights.shape[1:]).transpose(1, 2).flatten(0, 1)
    flat = weights.double().flatten(1)
    return flat.mean(dim=1) if reduction == "mean" else flat.sum(dim=1)


def _unreached(what: str) -> PruningError:
    return PruningError(
        f"no gradient reaches {what}: the forward pass detaches what it returns, or runs under torch.no_grad or within "
        "a scripted or exported module; use kl, expected_abs or pls, which need no gradient"
    )


def _fraction(value: Any) -> Any:
    """Return 8/255 as a number, as attacks take it; all else as it is, for the field to judge."""
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError):
        return value


class GradientCriterion(WeightCriterion, BatchedCriterion):
    """A criterion that scores weights by gradients of the loss on a stratified sample of training images."""

    bn_mode: BatchNormMode = Field(
        default="batch", description="batch normalization by the batch's statistics or the running ones"
    )
    samples_per_class: Annotated[int, Field(ge=1)] = Field(
        default=10, description="un-augmented training images of each class"
    )
    scoring_images: Literal["clean", "adversarial"] = Field(
        default="clean", description="the images, or FGSM examples of them for the scored network (experimental)"
    )
    epsilon: Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=1)] = Field(
        default=8 / 255, description="L∞ size of the FGSM step with scoring_images=adversarial, in [0, 1] pixel units"
    )

    @model_validator(mode="after")
    def _epsilon_has_an_effect(self) -> Self:
        if self.scoring_images == "clean" and "epsilon" in self.model_fields_set and self.epsilon != 8 / 255:
            raise ValueError(
                "epsilon has no effect on clean images; add scoring_images=adversarial or leave epsilon out"
            )
        return self

    @abstractmethod
    def saliency_of(self, network: nn.Module, weights: Mapping[str, Tensor], batches: Batches) -> Saliency:
        """Return the importance of each of the network's weights that the loss on the batches depends on."""

    def sample(self, data: ImageData, seed: int) -> Tensor:
        """Return which of the training images are taken: as many of each class."""
        return stratified_per_class(data.require("train").labels, self.samples_per_class, seed)

    def saliency(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the importance of every weight that the loss depends on; the model is left as it was."""
        network = scoring_copy(model, self.bn_mode)
        return self.saliency_of(network, use_weights(network), self.batches(network, data, seed))

    def batches(self, network: nn.Module, data: ImageData, seed: int) -> Batches:
        """Return the images and labels to score ``network`` on."""
        batches = as_batches(data, self.sample(data, seed), self.batch_size, network)
        if self.scoring_images == "clean":
            return batches
        # One step of the fast gradient sign method (Goodfellow, Shlens and Szegedy 2015, arXiv:1412.6572).
        moved = []
        for images, labels in batches:
            leaf = images.clone().requires_grad_(True)
            slope = gradients(nn.functional.cross_entropy(network(leaf), labels), {"images": leaf})["images"]
            moved.append(((images + self.epsilon * slope.sign()).clamp(0, 1), labels))
        return moved


class Snip(GradientCriterion):
    """Connection sensitivity |w · ∂L/∂w| on a stratified batch of training images.

    Lee, Ajanthan and Torr, "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019
    (arXiv:1810.02340). The absolute value is taken after the gradients of all batches are summed.
    """

    copies_of_activations: ClassVar[float] = 1.25  # what is saved, and the gradients that pass through one layer

    def saliency_of(self, network: nn.Module, weights: Mapping[str, Tensor], batches: Batches) -> Saliency:
        """Return the sensitivity of every weight."""
        step = self.steps(len(batches))
        gradient = summed(gradients(loss, weights) for loss in loss_shares(network, batches, step))
        return per_weight(gradient, weights, lambda weight, slope: (weight * slope).abs())


def loss_shares(
    network: nn.Module, batches: Batches, step: Callable[[], None], temperature: float = 1.0
) -> Iterator[Tensor]:
    """Yield each batch's share of the mean cross-entropy over all images, with its graph; tell when it is used."""
    total = image_count(batches)
    for images, labels in batches:
        yield nn.functional.cross_entropy(logits_of(network, images) / temperature, labels, reduction="sum") / total
        step()


def gradients(loss: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False) -> Saliency:
    """Return ∂loss/∂weight by name, without the weights that have no part in the loss."""
    unique = {id(weight): weight for weight in weights.values()}
    slopes: Sequence[Tensor | None] = ()
    if loss.requires_grad:
        slopes = torch.autograd.grad(loss, list(unique.values()), create_graph=create_graph, allow_unused=True)
    found = {key: slope for key, slope in zip(unique, slopes, strict=False) if slope is not None}
    if not found:
        raise _unreached("any weight, or the images")
    return {name: found[id(weight)] for name, weight in weights.items() if id(weight) in found}


def summed(parts: Iterator[Saliency]) -> Saliency:
    """Return the sum of saliencies over batches, weight by weight."""
    total: Saliency = {}
    for part in parts:
        total = {name: total[name] + value if name in total else value for name, value in part.items()}
    return total
