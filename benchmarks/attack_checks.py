"""What the default checks of an attack cost, as a share of the attack they belong to.

A ResNet20 trained on the digits for four epochs, all test images, attacks with their defaults: the seconds spent in
checks and those of the whole of `run_attack`, taken in the same runs. Exits with 1 when a median share exceeds 15 %.

    python benchmarks/attack_checks.py [--rounds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import torch

from robustprune.attacks import run_attack
from robustprune.attacks.engine import checks, runner
from robustprune.data import load_data
from robustprune.models import build_model
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

MOST = 0.15
CHECKS = (
    (runner, "training_submodules"),
    *((checks, f"check_{name}") for name in ("zero_gradient", "containment", "sample_size", "clean_agreement")),
    (checks, "probe_model"),
    (runner, "_indicators"),
    (runner, "run_further_checks"),
)
ATTACKS = ("fgsm", "pgd", "quick")


class Watch:
    """Seconds spent in some functions."""

    def __init__(self) -> None:
        """Start at none."""
        self.seconds = 0.0

    def over(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its time taken."""

        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


def share(attack: str, network: torch.nn.Module, images: Any, labels: Any) -> float:
    """Return the share of one attack's seconds that its checks took."""
    watch = Watch()
    begun = time.perf_counter()
    with ExitStack() as stack:
        for module, name in CHECKS:
            stack.enter_context(mock.patch.object(module, name, watch.over(getattr(module, name))))
        run_attack(network, images, labels, attack, expected_clean_accuracy=1.0)
    return watch.seconds / (time.perf_counter() - begun)


def main() -> int:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = load_data("digits")
    ticket = train(Ticket.from_model(build_model("resnet20", data), data), data, epochs=4, country=None)
    images, labels = data.test.images, data.test.labels
    worst = 0.0
    for attack in ATTACKS:
        shares = [share(attack, ticket.network, images, labels) for _ in range(arguments.rounds)]
        median = statistics.median(shares)
        print(f"{attack:10} checks take {median:6.2%} of the time ({min(shares):.2%} to {max(shares):.2%})")
        worst = max(worst, median)
    print(f"at most {worst:.2%}, allowed {MOST:.0%}")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
