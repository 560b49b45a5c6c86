"""AutoAttack in two phases against AutoAttack on all samples: does its interval hold what that finds?

Four networks are attacked by the whole ensemble once: a ResNet20 (width 4) of Fashion-MNIST at 14×14 trained as usual
and adversarially, and a layer and a filter ticket of it. What the second phase does to a sample depends on no other
sample (the first two draws are attacked in truth, and must come out as the whole ensemble says), so further draws need
no attack.

`weak` is an ensemble with one step and 300 queries, whose first phase leaves the second much to break: with the
standard one it breaks next to nothing, and any interval would hold that.

Exits with 1 when an interval misses in over 7 % of the draws, or an attacked draw comes out otherwise.

    python benchmarks/two_phases.py [--images 500] [--draws 20] [--sample 60] [--ensemble standard]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustprune.attacks import Attack, AttackResult, run_attack
from robustprune.attacks.engine.two_phases import draw_survivors
from robustprune.data import ImageData, load_data, stratified_indices
from robustprune.metrics import wilson_interval
from robustprune.metrics.sampling import count_interval
from robustprune.models import build_model
from robustprune.pruning import find_blocks, prunable_convolutions, score_blocks, score_filters
from robustprune.tickets import prune_filters, prune_layers
from robustprune.tickets.ticket import Ticket
from robustprune.training import train

ENSEMBLES: Mapping[str, Mapping[str, Any]] = {"standard": {}, "weak": {"steps": 1, "queries": 300}}
FIRST = "apgd-ce+apgd-t[:3]"
REQUIRED = 0.93
ATTACKED_DRAWS = 2


def networks(data: ImageData) -> dict[str, tuple[nn.Module, float]]:
    """Return name → network and the ε that leaves part of its images robust."""
    dense = Ticket.from_model(build_model("resnet20", data, seed=0, width=4), data)
    layers = prune_layers(dense, score_blocks(dense.network, data, "grasp"), blocks=3)
    convolutions = prunable_convolutions(dense.network, find_blocks(dense.network))
    scores = score_filters(dense.network, list(convolutions.values()), data, "l1")
    filters = prune_filters(dense, scores, match=layers, match_by="macs")
    robust = Ticket.from_model(build_model("resnet20", data, seed=0, width=4), data)
    train(robust, data, epochs=6, adversarial="pgd", epsilon=0.1, adversarial_steps=3, country=None)
    found = {"adversarially trained": (robust.model(), 0.1)}
    for name, ticket in (("as usual", dense), ("layer ticket", layers), ("filter ticket", filters)):
        found[name] = train(ticket, data, epochs=6, country=None).model(), 4 / 255
    return found


def hold(model: nn.Module, images: Tensor, labels: Tensor, draws: int, sample: int, **how: Any) -> tuple[int, str]:
    """Return in how many draws the interval holds what the whole ensemble finds, and what that is."""
    whole = run_attack(model, images, labels, "autoattack", **how)
    first = run_attack(model, images, labels, "autoattack", attacks=FIRST, **how)
    survivors = (~first.broken).nonzero()[:, 0]
    ids, held = list(range(len(labels))), 0
    for seed in range(draws):
        chosen = draw_survivors(survivors, ids, sample, Attack("autoattack", seed=seed, **how))
        broken = int(whole.broken[chosen].sum())
        if seed < ATTACKED_DRAWS:
            check(whole, model, images, labels, chosen, how)
        few, many = count_interval(broken, len(chosen), len(survivors))
        held += few <= int(whole.broken[survivors].sum()) <= many
    by_second = int(whole.broken[survivors].sum())
    return held, (
        f"robust accuracy {whole.robust_accuracy:.1%}, {len(survivors)} survivors of the first phase, of which the "
        f"second breaks {by_second}; {min(sample, len(survivors))} drawn"
    )


def check(
    whole: AttackResult, model: nn.Module, images: Tensor, labels: Tensor, chosen: Tensor, how: dict[str, Any]
) -> None:
    """Exit if the second phase on these samples alone does not break those that the whole ensemble breaks."""
    rest = "apgd-t[3:]+fab-t+square"
    found = run_attack(model, images[chosen], labels[chosen], "autoattack", attacks=rest, sample_ids=chosen, **how)
    if not torch.equal(found.broken, whole.broken[chosen]):
        differing = int((found.broken != whole.broken[chosen]).sum())
        sys.exit(f"{differing} of {len(chosen)} samples come out otherwise when they are attacked alone")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--sample", type=int, default=60)
    parser.add_argument("--ensemble", choices=ENSEMBLES, action="append")
    arguments = parser.parse_args()
    data = load_data("fashion-mnist", image_size=14, train_limit=4000)
    test = data.require("test")
    where = stratified_indices(test.labels, arguments.images, 0)
    images, labels = test.take(where).float() / 255, test.labels[where]
    met = True
    for name, (model, epsilon) in networks(data).items():
        for ensemble in arguments.ensemble or ENSEMBLES:
            how = {"epsilon": epsilon, **ENSEMBLES[ensemble]}
            held, found = hold(model, images, labels, arguments.draws, arguments.sample, **how)
            good = held / arguments.draws >= REQUIRED
            met &= good
            low, high = wilson_interval(held, arguments.draws)
            line = f"{name}, ε = {epsilon:.4f}, {ensemble}: {found}; the interval holds in {held} of {arguments.draws}"
            print(f"{line} draws ({low:.0%} – {high:.0%}){'' if good else ': MISSED'}", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
