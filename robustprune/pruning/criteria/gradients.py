"""What the gradient criteria share: options, batches, losses and their gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from robustprune.data import ImageData
from robustprune.errors import PruningError
from robustprune.pruning.criteria.saliency import Saliency, WeightCriterion
from robustprune.pruning.criteria.sample import (
    Batches,
    BatchNormMode,
    as_batches,
    images_per_class,
    scoring_copy,
    trial_images,
)
from robustprune.pruning.criteria.used_weights import use_weights


def _fraction(value: Any) -> Any:
    """Return 8/255 as a number, as attacks take it; all else as it is, for the field to judge."""
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except (ValueError, ZeroDivisionError):
        return value


class GradientCriterion(WeightCriterion):
    """A criterion that scores weights by gradients of the loss on a stratified sample of training images."""

    bn_mode: BatchNormMode = Field(
        default="batch", description="batch normalization by the batch's statistics or the running ones"
    )
    samples_per_class: Annotated[int, Field(ge=1)] = Field(
        default=10, description="un-augmented training images of each class"
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(default=128, description="images per forward pass")
    on: Literal["clean", "adversarial"] = Field(
        default="clean", description="the images, or FGSM examples of them for the scored network (experimental)"
    )
    epsilon: Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=1)] = Field(
        default=8 / 255, description="L∞ size of the FGSM step with on=adversarial, in [0, 1] pixel units"
    )

    @model_validator(mode="after")
    def _epsilon_has_an_effect(self) -> Self:
        if self.on == "clean" and "epsilon" in self.model_fields_set and self.epsilon != 8 / 255:
            raise ValueError("epsilon has no effect on clean images; add on=adversarial or leave epsilon out")
        return self

    @abstractmethod
    def saliency_of(self, network: nn.Module, weights: Mapping[str, Tensor], batches: Batches) -> Saliency:
        """Return the importance of each of the network's weights that the loss on the batches depends on."""

    def saliency(self, model: nn.Module, data: ImageData, seed: int) -> Saliency:
        """Return the importance of every weight that the loss depends on; the model is left as it was."""
        network = scoring_copy(model, self.bn_mode)
        weights = use_weights(network, trial_images(data, network))
        return self.saliency_of(network, weights, self.batches(network, data, seed))

    def batches(self, network: nn.Module, data: ImageData, seed: int) -> Batches:
        """Return the images and labels to score ``network`` on."""
        indices = images_per_class(data, self.samples_per_class, seed)
        batches = as_batches(data, indices, self.batch_size, network)
        if self.on == "adversarial":
            return [(one_signed_step(network, *batch, self.epsilon), batch[1]) for batch in batches]
        return batches


def one_signed_step(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Return images moved by ``epsilon`` along the sign of the loss's gradient, within [0, 1].

    The fast gradient sign method of Goodfellow, Shlens and Szegedy 2015 (arXiv:1412.6572), for the network in
    the mode it is scored in.
    """
    moving = images.detach().clone().requires_grad_(True)
    slope = gradients(nn.functional.cross_entropy(network(moving), labels), {"the images": moving})
    if not slope:
        raise _without_gradient("the images")
    return (images + epsilon * slope["the images"].sign()).clamp(0, 1)


def loss_shares(
    network: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], temperature: float = 1.0
) -> Iterator[Tensor]:
    """Yield each batch's share of the mean cross-entropy over all batches, with its graph."""
    total = sum(len(labels) for _, labels in batches)
    for images, labels in batches:
        loss = nn.functional.cross_entropy(network(images) / temperature, labels, reduction="sum")
        yield loss / total


def gradients(loss: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False) -> Saliency:
    """Return ∂loss/∂weight by name, without the weights that have no part in the loss.

    Raises:
        PruningError: The loss has no gradient at all.
    """
    if not loss.requires_grad:
        raise _without_gradient("any weight")
    unique = {id(weight): weight for weight in weights.values()}
    slopes = torch.autograd.grad(loss, list(unique.values()), create_graph=create_graph, allow_unused=True)
    found = dict(zip(unique, slopes, strict=True))
    return {name: slope for name, weight in weights.items() if (slope := found[id(weight)]) is not None}


def _without_gradient(what: str) -> PruningError:
    return PruningError(
        f"no gradient of the network's output reaches {what}: its forward pass runs under torch.no_grad or "
        "inference_mode, or detaches; use kl, expected_abs or pls, which need none"
    )


def summed(parts: Iterator[Saliency]) -> Saliency:
    """Return the sum of saliencies over batches, weight by weight."""
    total: Saliency = {}
    for part in parts:
        total = {name: total[name] + value if name in total else value for name, value in part.items()}
    return total
