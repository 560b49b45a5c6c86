"""The paper's two algorithms, and the tables of what they find."""

from robustprune.lottery.algorithms import algorithm_1, algorithm_2, run_lottery
from robustprune.lottery.results import LotteryResults, LotteryRow

__all__ = ["LotteryResults", "LotteryRow", "algorithm_1", "algorithm_2", "run_lottery"]
