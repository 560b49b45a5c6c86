"""Passes and gradients of a frozen ResNet20 with packed convolutions over those of the frozen network itself.

Alternating within one process, on a network of random weights: at 1×28×28 and 3×32×32, in batches of 16, 64 and 129.

    python benchmarks/passes.py [--threads 1] [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from attack_networks import untrained
from torch import Tensor, nn

from robustprune.inference import accelerate

SHAPES = ((1, 28, 28), (3, 32, 32))
BATCHES = (16, 64, 129)


@torch.no_grad()
def run(network: nn.Module, images: Tensor) -> None:
    network(images)


def gradient(network: nn.Module, images: Tensor) -> None:
    asked = images.clone().requires_grad_()
    torch.autograd.grad(network(asked).sum(), asked)


def seconds(work: Callable[[nn.Module, Tensor], None], network: nn.Module, images: Tensor) -> float:
    start = time.process_time()
    work(network, images)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for shape in SHAPES:
        network = untrained("resnet20", shape)
        packed = accelerate(network, torch.rand(16, *shape))
        for batch in BATCHES:
            images = torch.rand(batch, *shape)
            for name, work in (("pass", run), ("gradient", gradient)):
                # The first round warms up.
                pairs = [
                    (seconds(work, network, images), seconds(work, packed, images)) for _ in range(arguments.rounds + 1)
                ][1:]
                before = statistics.median(first for first, _ in pairs) / batch
                ratio = statistics.median(second / first for first, second in pairs)
                print(f"{shape}, batch {batch}: {name} {before * 1e3:.2f} ms an image, packed {ratio:.2f} of that")


if __name__ == "__main__":
    main()
