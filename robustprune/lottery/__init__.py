"""Lottery tickets: rewinding, and the paper's two algorithms."""

from robustprune.lottery.draws import Draw, make_draws
from robustprune.lottery.results import LotteryResults, Row
from robustprune.lottery.rewinding import RewindPoint, parse_rewind_points, reinitialize, rewind
from robustprune.lottery.run import run_lottery

__all__ = [
    "Draw",
    "LotteryResults",
    "RewindPoint",
    "Row",
    "make_draws",
    "parse_rewind_points",
    "reinitialize",
    "rewind",
    "run_lottery",
]
