"""How often intervals hold the truth, and how often each verdict is given where it is wrong and where it is right.

Pairs of networks are drawn whose true difference is known (tests/comparison_simulation.py), and compared as records
are. Exits with 1 where intervals of the first table hold the truth in less than 93.5 % or more than 96.5 % of the
draws, where in more than 5 % of them a ticket is found to be equivalent, or no worse, that is worse by exactly the
tolerance, or one to be better that is as good (what chance does to so many draws is allowed for), also where seeds are
added until the verdict is decided; where one training in ten fails and the interval of a verdict holds the truth in
less than 90 %, or where that of a mean over settings holds it in less than 93 % or more than 97 %
(tests/pooling_simulation.py).

    python benchmarks/verdicts.py [--draws 2000] [--images 10000]
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from comparison_simulation import World, failing_shares, sequential_shares, shares
from pooling_simulation import Settings, pooled_shares

TOLERANCE = 1.0  # percentage points
SEEDS = (1, 3, 5, 10, 20)
# Deviation over seeds, and images on which all seeds agree.
WORLDS = ((0.0, 0.0), (0.0, 0.04), (0.003, 0.0), (0.003, 0.01), (0.01, 0.01))
_ERRORS = 2.6  # standard errors that chance may add in either direction: one in a hundred


def chance(percent: float, draws: int) -> float:
    """Return what chance adds to a share of draws, in percent."""
    return _ERRORS * math.sqrt(percent * (100 - percent) / draws)


def print_coverage(draws: int, images: int) -> bool:
    """Print coverage and wrong verdicts at a difference of −ξ, and `better` at 0; return whether all is as promised."""
    kept = True
    print("seeds  σ of seeds  agreed images   covered  equivalent at −ξ  wins at −ξ  worse at −ξ  better at 0")
    for seeds in SEEDS:
        for deviation, fixed in WORLDS:
            if seeds == 1 and deviation:
                continue  # nothing is said of other networks, so there is no truth to hold but their own
            worse = shares(World(seeds, images, -0.01, 0.08, deviation, fixed), draws, tolerance=TOLERANCE)
            equal = shares(World(seeds, images, 0.0, 0.08, deviation, fixed), draws, tolerance=TOLERANCE)
            kept &= abs(worse["covered"] - 95) <= 1.5 + chance(95, draws)
            kept &= max(worse["wins"], worse["worse"], equal["better"]) <= 5 + chance(5, draws)
            print(
                f"{seeds:5}  {100 * deviation:7.1f} pp  {100 * fixed:11.0f} %  {worse['covered']:6.1f} %"
                f"  {worse['equivalent']:14.1f} %  {worse['wins']:8.1f} %  {worse['worse']:9.1f} %"
                f"  {equal['better']:9.1f} %",
                flush=True,
            )
    return kept


def print_failures(draws: int, images: int) -> bool:
    """Print what is said of a candidate of which one training in ten fails; return whether all is as promised."""
    kept = True
    print("\nseeds  none failed  an interval is given  and holds the truth  without the rule")
    for seeds in SEEDS[1:]:
        found = failing_shares(seeds, images, draws)
        kept &= found["covered"] >= 90
        print(
            f"{seeds:5}  {found['none failed']:9.1f} %  {found['judged']:18.1f} %  {found['covered']:17.1f} %"
            f"  {found['mean covered']:14.1f} %",
            flush=True,
        )
    return kept


def print_sequential(draws: int, images: int) -> bool:
    """Print the verdicts of sweeps that go on until they are decided; return whether they err as seldom as promised."""
    kept = True
    print("\nuntil: decided, on", images, "images")
    print(
        "most  σ of seeds  agreed  equivalent at −ξ  wins at −ξ  worse at −ξ  better at 0  equivalent at 0  seeds at 0"
    )
    for seeds in SEEDS[2:]:
        for deviation, fixed in ((0.003, 0.0), (0.006, 0.0), (0.006, 0.01)):
            worse, equal = (
                sequential_shares(World(seeds, images, difference, 0.05, deviation, fixed), draws, tolerance=TOLERANCE)
                for difference in (-0.01, 0.0)
            )
            kept &= max(worse["wins"], worse["worse"], equal["better"]) <= 5 + chance(5, draws)
            print(
                f"{seeds:4}  {100 * deviation:7.1f} pp  {100 * fixed:4.0f} %  {worse['equivalent']:14.1f} %"
                f"  {worse['wins']:8.1f} %  {worse['worse']:9.1f} %  {equal['better']:9.1f} %"
                f"  {equal['equivalent']:13.1f} %  {equal['seeds']:10.1f}",
                flush=True,
            )
    return kept


def print_pooled(draws: int) -> bool:
    """Print what the mean over settings is found to be; return whether its intervals hold the truth as they should."""
    kept = True
    print("\nsettings  seeds  τ       σ of seeds   covered  with weights  wins at −ξ  better at 0  further setting")
    for settings, seeds in ((3, 3), (3, 10), (5, 5), (8, 3)):
        for deviation, deviations in ((0.0, (0.6, 0.6)), (0.3, (0.6, 0.6)), (0.0, (0.4, 0.8)), (0.6, (0.3, 1.2))):
            world = Settings(settings, seeds, deviation, deviations)
            equal, worse = (pooled_shares(replace(world, difference=each), draws) for each in (0.0, -TOLERANCE))
            kept &= abs(equal["covered"] - 95) <= 2 + chance(95, draws)
            kept &= max(worse["wins"], equal["better"]) <= 5 + chance(5, draws)
            print(
                f"{settings:8}  {seeds:5}  {deviation:.1f} pp  {deviations[0]:.1f} … {deviations[1]:.1f} pp"
                f"  {equal['covered']:6.1f} %  {equal['weighted']:10.1f} %  {worse['wins']:8.1f} %"
                f"  {equal['better']:9.1f} %  {equal['predicted']:13.1f} %",
                flush=True,
            )
    return kept


def print_power(draws: int, images: int) -> None:
    """Print how often a ticket whose true difference is 0 is found to be equivalent, and how often to win."""
    print(f"\nequivalent / wins in percent, ξ = {TOLERANCE:g} pp, n = {images}, true difference 0")
    print("images that tell apart  σ of seeds  " + "  ".join(f"{seeds:3} seeds" for seeds in SEEDS))
    for discordance in (0.02, 0.05, 0.1, 0.2):
        for deviation in (0.0, 0.003, 0.006):
            found = [shares(World(seeds, images, 0.0, discordance, deviation), draws) for seeds in SEEDS]
            cells = "  ".join(f"{each['equivalent']:3.0f} / {each['wins']:3.0f}" for each in found)
            print(f"{100 * discordance:20.0f} %  {100 * deviation:7.1f} pp  {cells}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    kept = print_coverage(options.draws, options.images)
    kept &= print_failures(options.draws, options.images)
    kept &= print_sequential(options.draws, min(options.images, 2000))
    kept &= print_pooled(options.draws)
    print_power(options.draws // 4, options.images)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
