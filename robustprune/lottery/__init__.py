"""The paper's two algorithms."""

from robustprune.lottery.results import LotteryResults, Row
from robustprune.lottery.run import run_lottery

__all__ = ["LotteryResults", "Row", "run_lottery"]
