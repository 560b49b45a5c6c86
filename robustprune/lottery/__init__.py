"""The paper's two algorithms, what their tickets owe to what, and the tables of what they find."""

from robustprune.lottery.ablation import ablate
from robustprune.lottery.ablation_results import AblationResults, AblationVerdicts
from robustprune.lottery.algorithms import algorithm_1, algorithm_2, run_lottery
from robustprune.lottery.results import LotteryResults, LotteryRow
from robustprune.lottery.variance import VarianceSources, find_variance

__all__ = [
    "AblationResults",
    "AblationVerdicts",
    "LotteryResults",
    "LotteryRow",
    "VarianceSources",
    "ablate",
    "algorithm_1",
    "algorithm_2",
    "find_variance",
    "run_lottery",
]
