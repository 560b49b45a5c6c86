"""Seconds to a robust accuracy no higher than a peer's, and how near gradients come to the machine's peak.

On a ResNet20 of Fashion-MNIST trained as usual, and one trained adversarially (see `attack_networks.py`), alternating
(AutoAttack by turns of seconds, see `turns.py`):

- `pgd`: PGD with forty steps of torchattacks, of foolbox, and of ART where it is installed, against ours, at
  ε = 8/255 and .1 on 1,000 test images;
- `autoattack`: AutoAttack by its authors (pyautoattack) against ours on 200 images, whole runs, and when each of the
  four attacks in it was done;
- `agreement`: Auto-PGD and Square by their authors and by us on 100 images, whose robust accuracies must agree
  within the 95 % interval of the authors';
- `gradients`: the throughput of input gradients of a frozen ResNet56 at 32×32, batch 250, as a share of what matrix
  products of this machine reach.

Exits with 1 when a required ratio is missed.

    python benchmarks/attacks.py [--rounds 1] [--threads 2] [--images 1000] [--auto-images 200]
                                 [--agreement-images 100] [--only pgd] [--only autoattack] …
                                 [--network adversarial]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from attack_networks import RECIPES, fashion_mnist, trained, untrained
from attack_peers import STEPS, Attack, authors_apgd, authors_autoattack, authors_square, pgd_peers
from torch import Tensor, nn
from turns import Run, Tell, Work, by_turns

from robustprune.attacks import AttackProblem, get_attack, register_attack, run_attack
from robustprune.cost import measure_cost
from robustprune.data import ImageData, stratified_indices
from robustprune.inference import accelerate, predict_logits
from robustprune.metrics import wilson_interval

KINDS = tuple(RECIPES)
PARTS = ("gradients", "pgd", "agreement", "autoattack")
OURS = {"steps": 10, "loss": "ce-margin"}
"""Chosen on validation images, the same for both networks and both ε."""
EPSILONS = (8 / 255, 0.1)
QUERIES = 1000
COUNTED, SAMPLES = 2000, (400, 200, 100)
"""Images that the time of two phases is counted for, and samples of the survivors that the second sees."""
GRADIENT_ROUNDS = 7
TURNS = (2.0, 1.0)
"""Seconds of the authors' turns and of ours, as the ratio aimed at, so that both AutoAttacks end together."""

Networks = dict[str, nn.Module]
Data = tuple[Tensor, Tensor]


def ours(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, **settings: Any) -> Tensor:
    return run_attack(model, images, labels, epsilon=epsilon, batch_size=250, **settings).adversarial


def robust_accuracy(model: nn.Module, adversarial: Tensor, labels: Tensor) -> float:
    return float((predict_logits(model, adversarial).argmax(dim=1) == labels).double().mean())


@dataclass(frozen=True)
class Race:
    """Two attacks on the same images: first the peer's, then ours.

    Attributes:
        accuracies: What each leaves robust.
        seconds: Median time of each, by the clock.
        ratio: Median of the ratios of these times, the peer's over ours.
        processor_ratio: The same of the processor's time, which other work on the machine changes less.
    """

    accuracies: tuple[float, float]
    seconds: tuple[float, float]
    ratio: float
    processor_ratio: float

    @property
    def times(self) -> str:
        """Both ratios, for a line of the report."""
        return f"ratio {self.ratio:.2f}, by processor time {self.processor_ratio:.2f}"


def race(model: nn.Module, data: Data, epsilon: float, peer: Attack, mine: Attack, rounds: int = 1) -> Race:
    images, labels = data
    clocks: list[list[float]] = []
    processors: list[list[float]] = []
    for _ in range(rounds):
        clock, processor, accuracies = [], [], []
        for attack in (peer, mine):
            began, used = time.perf_counter(), time.process_time()
            adversarial = attack(model, images, labels, epsilon)
            processor.append(time.process_time() - used)
            clock.append(time.perf_counter() - began)
            accuracies.append(robust_accuracy(model, adversarial, labels))
        clocks.append(clock)
        processors.append(processor)
    theirs, ours = (statistics.median(column) for column in zip(*clocks, strict=True))
    ratios = [statistics.median(first / second for first, second in times) for times in (clocks, processors)]
    return Race((accuracies[0], accuracies[1]), (theirs, ours), *ratios)


def race_pgd(networks: Networks, data: Data, rounds: int) -> bool:
    peers = pgd_peers()
    met = True
    for kind, model in networks.items():
        for epsilon in EPSILONS:
            for name, peer in peers.items():
                run = race(model, data, epsilon, peer, partial(ours, attack="pgd", **OURS), rounds)
                theirs, mine = run.accuracies
                required = 1.0
                if name == "torchattacks":
                    required = 10.0 if theirs < 0.05 else 6.0 if kind == "adversarial" else 1.0
                good = run.ratio >= required and mine <= theirs
                met &= good
                report(
                    good,
                    f"{kind}, ε = {epsilon:.4f}: {name} PGD-{STEPS} {theirs:.1%} in {run.seconds[0]:.1f} s, "
                    f"ours {mine:.1%} in {run.seconds[1]:.1f} s, {run.times} (required ≥ {required:.0f})",
                )
    return met


def race_autoattack(networks: Networks, data: Data) -> bool:
    met = True
    for kind, model in networks.items():
        works = [partial(prepare_autoattack, kind, len(data[1]), authors=authors) for authors in (True, False)]
        runs = by_turns(works, TURNS)
        theirs, mine = (robust_accuracy(model, torch.from_numpy(run.outcome), data[1]) for run in runs)
        peer, own = runs
        ratios = peer.seconds / own.seconds, peer.processor_seconds / own.processor_seconds
        raced = Race((theirs, mine), (peer.seconds, own.seconds), *ratios)
        good = raced.ratio >= 2 and abs(theirs - mine) <= 0.005 + 1e-9
        met &= good
        report(
            good,
            f"{kind}, ε = 0.1, {len(data[1])} images: pyautoattack {theirs:.1%} in {raced.seconds[0]:.0f} s, "
            f"ours {mine:.1%} in {raced.seconds[1]:.0f} s, {raced.times} (required ≥ 2)",
        )
        for whose, run in zip(("pyautoattack", "ours"), runs, strict=True):
            told = (f"{each.name} {each.figure:.1%} after {each.seconds:.0f} s" for each in run.stages)
            print(f"  {whose}: {', '.join(told)}", flush=True)
        print(f"  {count_two_phases(peer, own, len(data[1]))}", flush=True)
    return met


def count_two_phases(theirs: Run, mine: Run, n: int) -> str:
    """Return what two phases take of so many images as are counted, from the times of the parts on the n raced."""
    ends = {stage.name: stage.seconds for stage in mine.stages}
    ascent, towards = ends["apgd-ce"], ends["apgd-t"] - ends["apgd-ce"]
    rest = ends["square"] - ends["apgd-t"]
    survivors = next(stage.figure for stage in mine.stages if stage.name == "apgd-t") * COUNTED
    per_image = COUNTED / n
    peer, lines = theirs.seconds * per_image, []
    for sample in SAMPLES:
        share = min(1.0, sample / max(survivors, 1))
        # Three of nine classes in the first phase, and about as many survivors towards each.
        own = (ascent + towards / 3 + (towards * 2 / 3 + rest) * share) * per_image
        lines.append(f"sample={sample} {own:.0f} s, ratio {peer / own:.1f}")
    return f"counted for {COUNTED:,} images, pyautoattack {peer:.0f} s; in two phases {'; '.join(lines)}"


def prepare_autoattack(kind: str, count: int, authors: bool) -> Work:
    """Return AutoAttack at ε = .1, by its authors or ours, on a cached network and the images of the race."""
    warnings.simplefilter("ignore", DeprecationWarning)
    data = fashion_mnist()
    model = trained(kind, data).model()
    images, labels = test_images(data, count)

    def work(tell: Tell) -> np.ndarray:
        if authors:
            return authors_autoattack(model, images, labels, 0.1, tell).numpy()
        return ours(model, images, labels, 0.1, attack=telling_autoattack(tell)).numpy()

    return work


def telling_autoattack(tell: Tell) -> str:
    """Return the name of an attack that is `autoattack` and tells the accuracy left after each of its stages."""
    name = "telling-autoattack"

    def attack(problem: AttackProblem) -> None:
        run_stage = problem.run_stage

        def run_and_tell(name: str, stage: Callable[..., None], **options: Any) -> None:
            run_stage(name, stage, **options)
            tell(name, 1 - float(problem.best.is_broken.double().mean()))

        problem.run_stage = run_and_tell  # type: ignore[method-assign]
        get_attack("autoattack")(problem)

    register_attack(name)(attack)
    return name


def compare_parts(networks: Networks, data: Data) -> bool:
    """Compare single attacks with their authors', where the network is neither all robust nor all broken."""
    pairs: dict[str, tuple[Attack, dict[str, Any]]] = {
        "apgd-ce": (authors_apgd("ce"), {}),
        "apgd-dlr": (authors_apgd("dlr"), {}),
        "square": (authors_square(QUERIES), {"queries": QUERIES}),
    }
    met = True
    for kind, epsilon in (("normal", 4 / 255), ("adversarial", 0.1)):
        for name, (peer, options) in pairs.items():
            mine = partial(ours, attack=name, **options)
            run = race(networks[kind], data, epsilon, peer, mine)
            (theirs, found), (slow, fast), n = run.accuracies, run.seconds, len(data[1])
            low, high = wilson_interval(round(theirs * n), n)
            good = low <= found <= high
            met &= good
            report(
                good,
                f"{kind}, ε = {epsilon:.4f}, {n} images: {name} by its authors {theirs:.1%} [{low:.1%}, {high:.1%}] in "
                f"{slow:.1f} s, ours {found:.1%} in {fast:.1f} s (required within the interval)",
            )
    return met


def gradient_share() -> float:
    """Return the rate of input gradients of a frozen ResNet56 over the rate of matrix products, both in FLOP/s."""
    network = untrained("resnet56", (3, 32, 32))
    images = torch.rand(250, 3, 32, 32)
    attacked = accelerate(network, images)
    # Two operations per multiply-accumulate, forward and once more backward; weights get no gradients.
    operations = 2 * 2 * measure_cost(network, images[:1]).macs * len(images)
    size = 2048
    left, right = torch.rand(size, size), torch.rand(size, size)
    shares: list[float] = []
    # Products before and after each gradient, as the speed of a machine in use wanders; the first round warms up.
    for _ in range(GRADIENT_ROUNDS + 1):
        start = time.perf_counter()
        for _ in range(4):
            torch.mm(left, right)
        before = time.perf_counter()
        batch = images.clone().requires_grad_()
        torch.autograd.grad(attacked(batch).sum(), batch)
        after = time.perf_counter()
        for _ in range(4):
            torch.mm(left, right)
        peak = 8 * 2 * size**3 / (before - start + time.perf_counter() - after)
        shares.append(operations / (after - before) / peak)
    return statistics.median(shares[1:])


def test_images(data: ImageData, count: int) -> Data:
    test = data.require("test")
    where = stratified_indices(test.labels, count, 0)
    return test.take(where).float() / 255, test.labels[where]


def report(good: bool, line: str) -> None:
    print(line if good else f"{line}: MISSED", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="of the races of PGD; the median of the ratios counts")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--auto-images", type=int, default=200)
    parser.add_argument("--agreement-images", type=int, default=100)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--network", choices=KINDS, action="append", help="for pgd and autoattack; both by default")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore", DeprecationWarning)
    parts = arguments.only or PARTS
    met = True
    if "gradients" in parts:
        share = gradient_share()
        met &= share >= 0.6
        report(
            share >= 0.6,
            f"input gradients of a frozen ResNet56: {share:.2f} of the matrix-multiply peak (required ≥ 0.60)",
        )
    if set(parts) == {"gradients"}:
        return 0 if met else 1
    data = fashion_mnist()
    networks = {kind: trained(kind, data).model() for kind in KINDS}
    chosen = {kind: model for kind, model in networks.items() if kind in (arguments.network or KINDS)}
    take = partial(test_images, data)
    if "pgd" in parts:
        met &= race_pgd(chosen, take(arguments.images), arguments.rounds)
    if "agreement" in parts:
        met &= compare_parts(networks, take(arguments.agreement_images))
    if "autoattack" in parts:
        met &= race_autoattack(chosen, take(arguments.auto_images))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
