"""Networks whose gradients are masked on purpose, or to which something is wrong, and sound ones beside them.

All tell the digits of scikit-learn, 8×8 pixels, and are made by code: trained in seconds, from a seed. Every masked
network is one that a plain attack leaves more of than an honest one would, or whose figure means nothing.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import robustprune as rp
from robustprune.data import ImageData
from robustprune.pruning import prunable_convolutions, score_filters

SIDE, CLASSES = 8, 10
LUMINANCE = [
    *([16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56]),
    *([14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92]),
    *([49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99]),
]
"""Steps of the coefficients of a block at quality 50 (ITU-T T.81, table K.1)."""


@dataclass(frozen=True)
class Exhibit:
    """A network of the zoo: what it is an example of, which one, and the network as it is to be attacked."""

    kind: str
    variant: str
    network: nn.Module


class Before(nn.Module):
    """Puts a function between the images and a network."""

    def __init__(self, function: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.function, self.network = function, network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.function(images))


class Times(nn.Module):
    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * self.network(images)


class WinnersTakeAll(nn.Module):
    """Keeps the largest share of all activations of an image (k-WTA, Xiao et al. 2020, arXiv:1905.10510)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, activations: Tensor) -> Tensor:
        flat = activations.flatten(1)
        least = flat.topk(max(1, int(self.share * flat.shape[1])), dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(activations)


class DropsByChance(nn.Module):
    """Keeps activations drawn by their size (stochastic activation pruning, Dhillon et al. 2018, arXiv:1803.01442)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, activations: Tensor) -> Tensor:
        flat = activations.flatten(1)
        sizes = flat.detach().abs() + 1e-12
        odds = sizes / sizes.sum(dim=1, keepdim=True)
        draws = max(1, int(self.share * flat.shape[1]))
        kept = torch.zeros_like(flat).scatter(1, torch.multinomial(odds, draws, replacement=True), 1.0)
        return (flat * kept / (1 - (1 - odds) ** draws).clamp(min=1e-9)).view_as(activations)


class AddsNoise(nn.Module):
    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, values: Tensor) -> Tensor:
        return values + self.deviation * torch.randn_like(values)


class StaysInTraining(nn.Dropout):
    def train(self, mode: bool = True) -> StaysInTraining:
        return super().train(True)


class BatchStatistics(nn.BatchNorm2d):
    def train(self, mode: bool = True) -> BatchStatistics:
        return super().train(True)


def thermometer(levels: int) -> Callable[[Tensor], Tensor]:
    """Return images as one channel for each level, which says whether they reach it (Buckman et al. 2018)."""
    bounds = (torch.arange(levels) + 0.5) / levels
    return lambda images: (images >= bounds[:, None, None]).float()


def rounded(levels: int) -> Callable[[Tensor], Tensor]:
    return lambda images: (images * levels).round() / levels


def waves(frequency: float) -> Callable[[Tensor], Tensor]:
    """Return images with waves too short to change them much, along which gradients alternate."""
    return lambda images: images + 0.02 * torch.sin(frequency * images)


def resized(least: int) -> Callable[[Tensor], Tensor]:
    """Return images shrunk by chance and padded where chance wants it (Xie et al. 2018, arXiv:1711.01991)."""

    def function(images: Tensor) -> Tensor:
        side = int(torch.randint(least, SIDE + 1, ()))
        small = F.interpolate(images, size=(side, side), mode="bilinear")
        left, top = (int(torch.randint(0, SIDE + 1 - side, ())) for _ in range(2))
        return F.pad(small, (left, SIDE - side - left, top, SIDE - side - top))

    return function


def cosines(images: Tensor) -> Tensor:
    """Return images (n, 1, 8, 8) with the coefficients of their block rounded as JPEG does at quality 50."""
    places = torch.arange(SIDE, dtype=torch.float32)
    basis = torch.cos((2 * places[None] + 1) * places[:, None] * math.pi / (2 * SIDE)) * math.sqrt(2 / SIDE)
    basis[0] /= math.sqrt(2)
    steps = torch.tensor(LUMINANCE, dtype=torch.float32)
    coefficients = basis @ (255 * images - 128) @ basis.T
    kept = (coefficients / steps).round() * steps
    return ((basis.T @ kept @ basis + 128) / 255).clamp(0, 1)


def codec(images: Tensor) -> Tensor:
    """Return images (n, 1, 8, 8) written as JPEG and read again, which autograd cannot follow."""
    found = []
    for image in (255 * images[:, 0]).round().byte().detach().numpy():
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=50)
        found.append(np.asarray(Image.open(buffer)))
    return torch.tensor(np.stack(found), dtype=torch.float32)[:, None] / 255


def coupled(share: float) -> Callable[[Tensor], Tensor]:
    """Return images shifted by what the others of the batch look like."""
    return lambda images: images - share * (images.mean(dim=0, keepdim=True) - 0.3)


class Zoo:
    """Trains what its exhibits have in common, once for a seed."""

    def __init__(self, data: ImageData, seed: int = 0, *, epochs: int = 6) -> None:
        """Take training images (N, 1, 8, 8) of the digits."""
        self.data, self.seed, self.epochs = data, seed, epochs
        self._images, self._labels = data.train.images.float() / 255, data.train.labels

    def convolutions(self, act: Callable[[], nn.Module] = nn.ReLU, channels: int = 1) -> nn.Sequential:
        """Return an untrained network of two convolutions, its weights drawn by the seed."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            first = nn.Conv2d(channels, 12, 3, padding=1)
            second = nn.Conv2d(12, 16, 3, stride=2)
            return nn.Sequential(first, nn.BatchNorm2d(12), act(), second, act(), nn.Flatten(), nn.Linear(144, CLASSES))

    def fit(
        self, network: nn.Module, *, times: float = 1, temperature: float = 1.0, teacher: nn.Module | None = None,
        epsilon: float = 0.0, smoothing: float = 0.0,
    ) -> nn.Module:  # fmt: skip
        """Train a network in place, and return it in evaluation mode.

        Args:
            network: From images in [0, 1] to logits.
            times: Epochs, relative to those of the zoo.
            temperature: Logits are divided by it in the loss.
            teacher: A network whose answers are learned in place of the labels.
            epsilon: L∞ budget of an attack of three steps on each batch.
            smoothing: Mass of the labels spread over all classes.
        """
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            optimizer = torch.optim.Adam(network.parameters(), 5e-3)
            network.train()
            for _ in range(max(1, round(times * self.epochs))):
                for rows in torch.randperm(len(self._images)).split(64):
                    images, wanted = self._images[rows], F.one_hot(self._labels[rows], CLASSES).float()
                    if teacher is not None:
                        wanted = (teacher(images) / temperature).softmax(dim=1).detach()
                    if epsilon:
                        images = _attacked(network, images, self._labels[rows], epsilon)
                    optimizer.zero_grad()
                    logits = network(images) / temperature
                    F.cross_entropy(logits, wanted, label_smoothing=smoothing).backward()
                    optimizer.step()
        return network.eval()

    @cached_property
    def plain(self) -> nn.Module:
        return self.fit(self.convolutions())

    def masked(self) -> Iterator[Exhibit]:
        """Yield two of each kind that a plain network becomes, then of each that takes training of its own."""
        yield from self.wrapped()
        for share in (0.1, 0.2):
            network = self.convolutions(partial(WinnersTakeAll, share))
            yield Exhibit("k-WTA", f"{share:.0%}", self.fit(network, times=2))
        for heat in (50.0, 100.0):
            teacher = self.fit(self.convolutions(), times=2, temperature=heat)
            student = self.fit(self.convolutions(), times=2, temperature=heat, teacher=teacher)
            yield Exhibit("defensive distillation", f"T = {heat:g}", student)
        for levels in (8, 16):
            network = self.fit(Before(thermometer(levels), self.convolutions(channels=levels)))
            yield Exhibit("thermometer inputs", f"{levels} levels", network)
        for least in (6, 7):
            network = self.fit(Before(resized(least), self.convolutions()), times=2)
            yield Exhibit("random resize", f"from {least}", network)
        network = nn.Sequential(BatchStatistics(1), self.convolutions())
        yield Exhibit("train mode", "batch statistics", self.fit(network))

    def wrapped(self) -> Iterator[Exhibit]:
        """Yield those that a trained plain network becomes by what is put around it."""
        made: dict[str, dict[str, nn.Module]] = {
            "JPEG inputs": {"rounded cosines": Before(cosines, self.plain), "codec": Before(codec, self.plain)},
            "gradient shattering": {f"{each:g}·x": Before(waves(each), self.plain) for each in (1000.0, 3000.0)},
            "stochastic activation": {
                "pruned": nn.Sequential(*self.plain[:5], DropsByChance(0.5), *self.plain[5:]),
                "noise": nn.Sequential(*self.plain[:3], AddsNoise(0.3), *self.plain[3:]),
            },
            "temperature": {f"{factor:g}": Times(self.plain, factor) for factor in (1e4, 1e6)},
            "quantized inputs": {f"{levels} levels": Before(rounded(levels), self.plain) for levels in (8, 32)},
            "batch-coupled": {f"{share:g}": Before(coupled(share), self.plain) for share in (0.1, 0.5)},
            "train mode": {"dropout": Before(StaysInTraining(0.2), self.plain)},
        }
        for kind, variants in made.items():
            for variant, network in variants.items():
                yield Exhibit(kind, variant, network.eval())

    def healthy(self) -> Iterator[Exhibit]:
        """Yield ten sound networks, two of them trained on attacked images, and a ticket of each kind."""
        yield Exhibit("healthy", "convolutions", self.plain)
        yield Exhibit("healthy", "convolutions, adversarial", self.fit(self.convolutions(), epsilon=0.1))
        yield Exhibit("healthy", "GELU", self.fit(self.convolutions(nn.GELU)))
        yield Exhibit("healthy", "label smoothing", self.fit(self.convolutions(), smoothing=0.1))
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        yield Exhibit("healthy", "perceptron", self.fit(layers))
        yield from self.tickets()

    def tickets(self) -> Iterator[Exhibit]:
        """Yield the dense ResNet20, one trained on attacked images, and tickets without layers, filters and weights."""
        data, seed = self.data, self.seed
        dense = rp.build_model("resnet20", data, seed=seed)
        blocks = rp.prune_layers(dense, rp.score_blocks(dense, data, criterion="snip", seed=seed), blocks=2, data=data)
        filters = score_filters(dense, list(prunable_convolutions(dense).values()), data, "l1", seed=seed)
        made = {
            "dense": rp.Ticket.from_model(dense, data),
            "layers": blocks,
            "filters": rp.prune_filters(dense, filters, match=blocks, data=data),
            "weights": rp.prune_weights(dense, data, "magnitude", sparsity=0.8, seed=seed),
        }
        how = {"epochs": max(1, self.epochs), "seed": seed, "country": None}
        for name, ticket in made.items():
            yield Exhibit("healthy", f"ResNet20, {name}", rp.train(ticket, data, **how).network.eval())
        hardened = rp.Ticket.from_model(rp.build_model("resnet20", data, seed=seed), data)
        rp.train(hardened, data, adversarial="pgd", epsilon=0.1, adversarial_steps=2, **how)
        yield Exhibit("healthy", "ResNet20, adversarial", hardened.network.eval())


def _attacked(network: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    change = torch.empty_like(images).uniform_(-epsilon, epsilon)
    for _ in range(3):
        change.requires_grad_()
        (slopes,) = torch.autograd.grad(F.cross_entropy(network(images + change), labels), change)
        change = (change + epsilon / 2 * slopes.sign()).clamp(-epsilon, epsilon).detach()
    return (images + change).clamp(0, 1)
