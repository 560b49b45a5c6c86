"""What a network costs: parameters, multiply-accumulates, filters, memory, latency."""

from robustprune.cost.cost_budget import Budget, read_budget
from robustprune.cost.counts import Cost, measure_block_macs, measure_cost, noise_images, percent_saved
from robustprune.cost.cut_costs import CUT_COSTS, CutCosts, measure_block_costs
from robustprune.cost.memory import Memory, measure_memory
from robustprune.cost.savings import saved_in_training, training_circumstances
from robustprune.cost.timing import Latency, Spread, measure_latencies, ratio_spread, time_in_turn

__all__ = [
    "CUT_COSTS",
    "Budget",
    "Cost",
    "CutCosts",
    "Latency",
    "Memory",
    "Spread",
    "measure_block_costs",
    "measure_block_macs",
    "measure_cost",
    "measure_latencies",
    "measure_memory",
    "noise_images",
    "percent_saved",
    "ratio_spread",
    "read_budget",
    "saved_in_training",
    "time_in_turn",
    "training_circumstances",
]
