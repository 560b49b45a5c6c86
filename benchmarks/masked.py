"""How many masked networks the default checks of an attack flag, and how many sound ones they doubt.

The zoo of tests/masked_zoo.py, trained on the digits: eleven kinds of networks whose gradients are masked or to which
something is wrong, two of each, and ten sound ones, all anew for each seed. The bounds of the checks were set on the
seeds 0 to 3, therefore the first one here is 10. PGD with its defaults attacks test images; a network is flagged where
a check says WARN or FAIL. Intervals are exact ones of binomial shares at 95 % (Clopper & Pearson 1934), as if networks
were independent draws. Exits with 1 where under 95 % of the masked ones are flagged, over 5 % of the sound ones get a
WARN, or one of them a FAIL.

    python benchmarks/masked.py [--seeds 5] [--first-seed 10] [--images 100] [--epsilon 0.1] [--mitigate] [--quick]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from masked_zoo import Exhibit, Zoo

from robustprune.attacks import AttackResult, run_attack
from robustprune.data import load_data

FEWEST_FLAGGED, MOST_DOUBTED = 0.95, 0.05


@dataclass
class Tally:
    """What became of the networks of one kind."""

    results: list[AttackResult] = field(default_factory=list)

    def count(self, *verdicts: str) -> int:
        """Return how many networks have a check of one of these verdicts."""
        return sum(any(check.verdict in verdicts for check in each.checks) for each in self.results)

    def names(self) -> str:
        """Return the checks in doubt, each with the number of networks."""
        found = Counter(c.name for each in self.results for c in each.checks if c.verdict in ("WARN", "FAIL"))
        return ", ".join(f"{name} {n}" for name, n in found.most_common())

    def left(self) -> str:
        """Return the mean robust accuracy, and that after mitigation where there was any."""
        before = sum(each.robust_accuracy for each in self.results) / len(self.results)
        mitigated = [(each.mitigated or each).robust_accuracy for each in self.results]
        changed = any(each.mitigated for each in self.results)
        return f"{before:.1%}" + (f" → {sum(mitigated) / len(mitigated):.1%}" if changed else "")


def exhibits(seed: int, *, is_quick: bool) -> Iterator[Exhibit]:
    zoo = Zoo(load_data("digits"), seed, epochs=2 if is_quick else 6)
    yield from zoo.wrapped() if is_quick else zoo.masked()
    if is_quick:
        yield Exhibit("healthy", "convolutions", zoo.plain)
    else:
        yield from zoo.healthy()


def attack(exhibit: Exhibit, images: Tensor, labels: Tensor, *, epsilon: float, mitigate: bool) -> AttackResult:
    return run_attack(exhibit.network, images, labels, "pgd", epsilon=epsilon, mitigate=mitigate)


def share(hits: int, n: int) -> str:
    interval = binomtest(hits, n).proportion_ci(method="exact")
    return f"{hits} of {n}, {hits / n:.1%} (95 % interval {interval.low:.1%} to {interval.high:.1%})"


def main(arguments: list[str] | None = None) -> int:
    """Print what was flagged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--mitigate", action="store_true", help="also carry out what the checks suggest")
    parser.add_argument("--quick", action="store_true", help="one seed, only what takes one training")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    test = load_data("digits").test
    images, labels = test.images[: asked.images], test.labels[: asked.images]
    found: dict[str, Tally] = defaultdict(Tally)
    begun = time.process_time()
    for seed in range(asked.first_seed, asked.first_seed + (1 if asked.quick else asked.seeds)):
        for each in exhibits(seed, is_quick=asked.quick):
            result = attack(each, images, labels, epsilon=asked.epsilon, mitigate=asked.mitigate)
            found[each.kind].results.append(result)
            doubts = [f"{check.name} {check.verdict}" for check in result.checks if check.verdict in ("WARN", "FAIL")]
            print(
                f"seed {seed} {each.kind:22} {each.variant:24} clean {result.clean_accuracy:6.1%} "
                f"robust {result.robust_accuracy:6.1%}  {', '.join(doubts)}",
                file=sys.stderr,
                flush=True,
            )
    healthy = found.pop("healthy")
    print(f"{'kind':22} {'flagged':>9}  {'robust accuracy':18} by")
    for kind, tally in found.items():
        print(f"{kind:22} {tally.count('WARN', 'FAIL'):4} of {len(tally.results):2}  {tally.left():18} {tally.names()}")
    n = sum(len(tally.results) for tally in found.values())
    flagged = sum(tally.count("WARN", "FAIL") for tally in found.values())
    doubted, failed = healthy.count("WARN", "FAIL"), healthy.count("FAIL")
    print(f"masked networks flagged: {share(flagged, n)}")
    print(f"sound networks in doubt: {share(doubted, len(healthy.results))}; failed: {failed}; {healthy.names()}")
    print(f"{time.process_time() - begun:.0f} CPU seconds")
    kept = flagged >= FEWEST_FLAGGED * n and doubted <= MOST_DOUBTED * len(healthy.results) and not failed
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
