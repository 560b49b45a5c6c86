"""Lottery tickets: rewinding, and the paper's two algorithms."""

from robustprune.lottery.draws import Draw, make_draws
from robustprune.lottery.finding import cut, score, set_back
from robustprune.lottery.results import LotteryResults, Row
from robustprune.lottery.rewinding import RewindPoint, parse_rewind_points, reinitialize, rewind
from robustprune.lottery.run import check_network, run_lottery

__all__ = [
    "Draw",
    "LotteryResults",
    "RewindPoint",
    "Row",
    "check_network",
    "cut",
    "make_draws",
    "parse_rewind_points",
    "reinitialize",
    "rewind",
    "run_lottery",
    "score",
    "set_back",
]
