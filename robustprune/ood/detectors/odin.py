"""`msp` at T = 1000 after a step towards certainty: x − ε·sign ∇ₓ(−log softmax(f(x) / T)_ŷ).

Liang, Li & Srikant 2018, "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks",
arXiv:1706.02690. ε = 0.0014 on the [0, 1] scale of pixels: the authors' code takes the step on normalized
images, divided by the deviation that normalizes them. As there, the result is not clipped to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from robustprune.errors import DetectorError
from robustprune.models import (
    evaluation_mode,
    frozen_parameters,
    model_device,
    naming_failures,
    run_model,
    to_unit_range,
)
from robustprune.ood.detector import Detector, Options, Positive
from robustprune.ood.detectors.msp import MSP, log_odds_against
from robustprune.ood.formula import formula
from robustprune.ood.outputs import Outputs

_BATCH = 256


@dataclass
class ODIN(Detector):
    """Maximum softmax probability of an image after a step towards certainty; runs the network twice more."""

    temperature: Positive = 1000.0
    epsilon: Annotated[float, Field(ge=0)] = 0.0014
    tried: ClassVar[Options] = {"temperature": (1, 10, 100, 1000), "epsilon": (0.0014, 0.0028)}

    @formula
    def score(logits: Tensor, temperature: float = 1000.0) -> Tensor:
        """Return −max_k softmax(f / T)_k (N,) of the logits (N, K) after the step."""
        return MSP.score(logits / temperature)

    @staticmethod
    def step(network: nn.Module, images: Tensor, temperature: float = 1000.0, epsilon: float = 0.0014) -> Tensor:
        """Return the step (n, …) of ε towards more confidence in the class predicted for images (n, …)."""
        with torch.inference_mode(False), torch.enable_grad():
            images = images.detach().clone().requires_grad_()
            # It rises and falls as −log max p does, and does not round to nothing where the network is sure.
            loss = log_odds_against(run_model(network, images).double() / temperature).sum()
            gradient = None
            if loss.requires_grad:
                with naming_failures(f"has no gradient at images of shape {tuple(images.shape)}"):
                    (gradient,) = torch.autograd.grad(loss, images, allow_unused=True)
            if gradient is None:
                raise DetectorError("the logits are cut off from the image, so there is no gradient to step along")
        return -epsilon * gradient.sign()

    def __call__(self, outputs: Outputs) -> Tensor:
        """Return scores (N,)."""
        if outputs.network is None or outputs.images is None:
            raise DetectorError("the images themselves are not at hand, only what the network made of them")
        network, place = outputs.network, model_device(outputs.network)
        logits = []
        with evaluation_mode(network), frozen_parameters(network):
            for batch in torch.split(outputs.images, _BATCH):
                images = to_unit_range(batch.to(place))
                step = self.step(network, images, self.temperature, self.epsilon)
                logits.append(run_model(network, images + step).cpu().double())
        return type(self).score(torch.cat(logits), self.temperature)
