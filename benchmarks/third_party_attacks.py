"""Every attack of the installed torchattacks and foolbox, one by one, in L∞, L2 and L1: what its figure is worth.

A ResNet20 of width 8, trained on the digits for four epochs, and some test images, with the attacks' own options but
for the longest searches, which are cut short. Of each attack and norm the table shows the robust accuracy; "refused"
where it works in another norm; "error" where the package raised one, which is listed below; "weak" where a check says
that FGSM breaks more, and "other" where it says that the attack works in none of these norms. Exits with 1 where a
figure is above FGSM's by more than chance and nothing says so, or an error comes out that is not of this package.

    python benchmarks/third_party_attacks.py [--images 40] [--only torchattacks:PGD …]
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import torch
from torch import nn

from robustprune.attacks import AttackResult, attack_options, run_attack
from robustprune.attacks.engine.third_party import known_attacks
from robustprune.data import load_data
from robustprune.errors import RobustPruneError
from robustprune.models import build_model
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

# Budgets at which FGSM breaks about half of what the network has right.
BUDGETS = {"linf": 0.1, "l2": 0.8, "l1": 5.0}
# Searches that take minutes, by the names of their lengths.
LONGEST = {"steps": 50, "n_queries": 200, "max_iterations": 10, "binary_search_steps": 5, "nb_sample": 32}
LONGEST |= {"directions": 20, "max_gradient_eval_steps": 100, "initial_gradient_eval_steps": 20}


@dataclass(frozen=True)
class Cell:
    """What came of one attack in one norm.

    Attributes:
        kind: "figure", "weak", "other", "refused", "error" or "failure".
        text: What the table shows.
        detail: What was said, where something was.
    """

    kind: str
    text: str
    detail: str = ""


def options_of(attack: str) -> dict[str, Any]:
    """Return the options with which an attack takes seconds."""
    found: dict[str, Any] = {}
    for name, default in attack_options(attack).items():
        if default is Parameter.empty and name in LONGEST:
            found[name] = 10
        elif name in LONGEST and isinstance(default, int) and default > LONGEST[name]:
            found[name] = LONGEST[name]
    return found


def try_attack(attack: str, norm: str, network: nn.Module, images: Any, labels: Any, step: AttackResult) -> Cell:
    """Return what comes of an attack, given FGSM's result in the same norm."""
    try:
        result = run_attack(network, images, labels, attack, norm=norm, epsilon=BUDGETS[norm], **options_of(attack))
    except RobustPruneError as error:
        is_other_norm = " is for " in str(error) or " is made of " in str(error)
        return Cell("refused", "refused") if is_other_norm else Cell("error", "error", str(error))
    except Exception as error:
        return Cell("failure", type(error).__name__, str(error))
    figure = f"{result.robust_accuracy:.1%}"
    verdicts = {check.name: check.verdict for check in result.checks}
    if verdicts["norm"] == "WARN":
        return Cell("other", f"{figure} other")
    if verdicts["single step"] == "WARN":
        return Cell("weak", f"{figure} weak")
    if not result.valid:
        failed = [f"{check.name}: {check.detail}" for check in result.checks if check.verdict == "FAIL"]
        return Cell("failure", f"{figure} invalid", "; ".join(failed))
    if result.robust_accuracy > high_of(step):
        return Cell("failure", f"{figure} above", f"FGSM leaves {step.robust_accuracy:.1%}, and no check says so")
    return Cell("figure", figure)


def high_of(step: AttackResult) -> float:
    """Return FGSM's robust accuracy and 1.96 standard errors."""
    share = step.robust_accuracy
    return share + 1.96 * (max(share * (1 - share), 1 / step.n) / step.n) ** 0.5


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--only", nargs="+", help="Attacks to run instead of all.")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    data = load_data("digits")
    network = build_model("resnet20", data, width=8)
    network = train(Ticket.from_model(network, data), data, epochs=4, country=None).network
    images, labels = data.test.images[: arguments.images], data.test.labels[: arguments.images]
    begun = time.perf_counter()
    steps = {
        norm: run_attack(network, images, labels, "fgsm", norm=norm, epsilon=epsilon)
        for norm, epsilon in BUDGETS.items()
    }
    print(f"{'attack':60}" + "".join(f"{norm + f' {epsilon:g}':>16}" for norm, epsilon in BUDGETS.items()))
    print(f"{'fgsm':60}" + "".join(f"{step.robust_accuracy:>16.1%}" for step in steps.values()))
    counts: Counter[str] = Counter()
    said: list[str] = []
    for attack in arguments.only or known_attacks():
        row = {norm: try_attack(attack, norm, network, images, labels, step) for norm, step in steps.items()}
        print(f"{attack:60}" + "".join(f"{cell.text:>16}" for cell in row.values()), flush=True)
        counts.update(cell.kind for cell in row.values())
        said += [f"{attack} in {norm}: {cell.detail}" for norm, cell in row.items() if cell.detail]
    print(*said, sep="\n")
    print(f"{sum(counts.values())} figures asked for in {time.perf_counter() - begun:.0f} s: {dict(counts)}")
    return int(counts["failure"] > 0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
