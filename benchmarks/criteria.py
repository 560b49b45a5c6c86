"""What scoring costs: seconds per criterion against 20 training steps of the same network.

ResNet56 on 3×32×32 images of coloured noise, batches of 128. Every criterion with its default options, in turn
with the training steps within one process, so that a drift of the machine's speed hits both; medians. Exits with
1 when SNIP or GraSP takes longer than the steps, or HRank (640 images) longer than 10 seconds.

    python benchmarks/criteria.py [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings

import torch

from robustprune.data import ImageData, InMemorySplit
from robustprune.errors import PruningWarning
from robustprune.models import build_model
from robustprune.pruning import CRITERIA, score_blocks
from robustprune.training import Recipe
from robustprune.training.epoch import train_epoch

BATCH, STEPS = 128, 20
MOST_STEPS = {"snip": 1.0, "grasp": 1.0}  # of the time of STEPS steps
MOST_SECONDS = {"hrank": 10.0}


def coloured_noise(count: int) -> ImageData:
    """Smooth noise with a little grain: the spectrum of photographs, so that feature maps have their ranks."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic")
    grain = 0.02 * torch.randn(count, 3, 32, 32, generator=generator)
    images = ((smooth + grain).clamp(0, 1) * 255).byte()
    split = InMemorySplit(images, torch.arange(count) % 10)
    return ImageData("coloured noise", tuple("0123456789"), (0.5,) * 3, (0.25,) * 3, True, train=split)


def train_steps(data: ImageData) -> float:
    network = build_model("resnet56", data).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    start = time.perf_counter()
    train_epoch(network, optimizer, data, Recipe("quick", batch_size=BATCH, epochs=100), epoch=0, seed=0)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", PruningWarning)
    data = coloured_noise(BATCH * STEPS)
    model = build_model("resnet56", data)
    training: list[float] = []
    scoring: dict[str, list[float]] = {name: [] for name in CRITERIA.names()}
    for _ in range(arguments.rounds):
        training.append(train_steps(data))
        for name, times in scoring.items():
            times.append(score_blocks(model, data, name).seconds)
    steps = statistics.median(training)
    print(f"ResNet56, 32×32, {arguments.threads} threads: {STEPS} training steps of {BATCH} take {steps:.2f} s")
    missed = False
    for name, times in scoring.items():
        seconds = statistics.median(times)
        limit = MOST_SECONDS.get(name, MOST_STEPS.get(name, float("inf")) * steps)
        missed |= seconds > limit
        required = f" (required ≤ {limit:.2f} s)" if limit < float("inf") else ""
        print(f"{name:13} {seconds:8.3f} s, ratio {seconds / steps:.3f}{required}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
