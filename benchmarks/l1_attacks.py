"""AutoAttack in L1 by its authors (pyautoattack, norm="L1") and by us, image by image.

A ResNet20 of width 8, trained on the digits for four epochs, and some test images, both with the settings of version
"standard". Prints the robust accuracy that each leaves, what each stage left, the images that only one of them broke,
and how far the returned images lie outside ball and box. Exits with 1 when ours is outside the 95 % interval of the
authors', or an image more than 1e-5 outside.

    python benchmarks/l1_attacks.py [--images 100] [--epsilon 0.5]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import torch
from attack_peers import authors_autoattack
from torch import Tensor

from robustprune.attacks import run_attack
from robustprune.data import load_data
from robustprune.inference import predict_logits
from robustprune.metrics import wilson_interval
from robustprune.models import build_model
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

TOLERANCE = 1e-5


def tell(stage: str, accuracy: float) -> None:
    print(f"  the authors' {stage}: {accuracy:.1%} left", flush=True)


def excess(adversarial: Tensor, images: Tensor, epsilon: float) -> float:
    """Return by how much an image lies outside ball or box at most."""
    delta = adversarial.double() - images.double()
    return max(float(delta.abs().flatten(1).sum(1).max()) - epsilon, float((adversarial - 1).max()), -adversarial.min())


def main() -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--epsilon", type=float, default=0.5)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data = load_data("digits")
    network = train(Ticket.from_model(build_model("resnet20", data, width=8), data), data, epochs=4, country=None)
    model = network.network.eval().requires_grad_(False)
    test, epsilon = data.require("test"), arguments.epsilon
    images, labels = test.images[: arguments.images].float() / 255, test.labels[: arguments.images]
    begun = time.perf_counter()
    theirs = authors_autoattack(model, images, labels, epsilon, tell, norm="L1")
    middle = time.perf_counter()
    result = run_attack(model, images, labels, "autoattack", norm="l1", epsilon=epsilon)
    end = time.perf_counter()
    broken = [predict_logits(model, each).argmax(1) != labels for each in (theirs, result.adversarial)]
    n, robust = len(labels), int((~broken[0]).sum())
    low, high = wilson_interval(robust, n)
    outside = [excess(each, images, epsilon) for each in (theirs, result.adversarial)]
    is_within = low <= result.robust_accuracy <= high and outside[1] <= TOLERANCE
    print(f"  ours: broken by { ({name: result.broken_by.count(name) for name in sorted(set(result.broken_by))}) }")
    for whose, mine, other in (("the authors", *broken), ("we", *reversed(broken))):
        print(f"images that only {whose} broke: {(mine & ~other).nonzero().flatten().tolist()}")
    print(f"outside ball or box at most: theirs {outside[0]:.1e}, ours {outside[1]:.1e}")
    print(
        f"AutoAttack in L1, ε = {epsilon:g}, {n} digits: pyautoattack {robust / n:.1%} [{low:.1%}, {high:.1%}] in "
        f"{middle - begun:.0f} s, ours {result.robust_accuracy:.1%} in {end - middle:.0f} s"
        + ("" if is_within else ": MISSED")
    )
    return 0 if is_within else 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
