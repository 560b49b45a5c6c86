"""Training throughput against a bare hand-written loop, and what a ticket saves per step.

Prints two ratios: images per second of our training over those of the shortest PyTorch loop that trains the
same network on the same images in channels-last, and the step time of a ResNet56 ticket with 12 blocks
removed over the dense network's. The two sides of a ratio alternate within one process, so that a drift of the
machine's speed hits both.

    python benchmarks/training.py [--pairs 7] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from robustprune.data import ImageData, InMemorySplit
from robustprune.models import build_model
from robustprune.pruning import score_blocks
from robustprune.tickets import prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import Recipe
from robustprune.training.epoch import train_epoch

BATCH = 128
STEPS = 3


def images_of_noise(count: int) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % 10
    return ImageData(
        name="noise",
        classes=tuple("0123456789"),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        flips=True,
        train=InMemorySplit(images, labels),
    )


def our_epoch(network: nn.Module, data: ImageData) -> Callable[[], None]:
    network = network.to(memory_format=torch.channels_last)
    recipe = Recipe("quick", batch_size=BATCH, epochs=1000)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return lambda: _discard(train_epoch(network, optimizer, data, recipe, epoch=0, seed=0))


def bare_epoch(network: nn.Module, data: ImageData) -> Callable[[], None]:
    """No augmentation, no checks, no history: what anyone would write to time a network."""
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    part = data.require("train")
    images = (part.images.float() / 255).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        for rows in torch.arange(len(part)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(images[rows]), part.labels[rows], label_smoothing=0.1).backward()
            optimizer.step()

    return run


def _discard(_value: object) -> None:
    return None


def seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def paired(first: Callable[[], None], second: Callable[[], None], pairs: int) -> tuple[float, float, float]:
    """Return the median of the ratios first/second, and the median seconds of each."""
    seconds(first), seconds(second)  # the first run of each warms up
    timings = [(seconds(first), seconds(second)) for _ in range(pairs)]
    ratio = statistics.median(a / b for a, b in timings)
    return ratio, statistics.median(a for a, _ in timings), statistics.median(b for _, b in timings)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = images_of_noise(BATCH * STEPS)

    dense = build_model("resnet32", data)
    slower, ours, bare = paired(
        our_epoch(build_model("resnet32", data), data), bare_epoch(dense, data), arguments.pairs
    )
    images = BATCH * STEPS
    print(
        f"ResNet32, 32×32, batch {BATCH}, {arguments.threads} threads: ours {images / ours:.1f} images/s, "
        f"bare loop {images / bare:.1f} images/s, throughput ratio {1 / slower:.3f} (required ≥ 0.95)"
    )

    network = build_model("resnet56", data)
    ticket = prune_layers(Ticket.from_model(network, data), score_blocks(network, data, "random"), blocks=12)
    share, pruned, full = paired(our_epoch(ticket.network, data), our_epoch(network, data), arguments.pairs)
    print(
        f"ResNet56 without 12 blocks: {1000 * pruned / STEPS:.0f} ms a step, dense {1000 * full / STEPS:.0f} ms, "
        f"ratio {share:.3f} (required ≤ 0.58)"
    )
    return 0 if 1 / slower >= 0.95 and share <= 0.58 else 1


if __name__ == "__main__":
    sys.exit(main())
