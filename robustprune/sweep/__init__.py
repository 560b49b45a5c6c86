"""Sweeps: a YAML file of settings, the runs that it means, and the stages that they share.

Nothing here but what a worker needs imports torch: a sweep that is finished says so at once.
"""

from robustprune.sweep.status import summarize
from robustprune.sweep.store import Store
from robustprune.sweep.sweeping import Sweep, plan_sweep, read_sweep, run_here, run_sweep

__all__ = ["Store", "Sweep", "plan_sweep", "read_sweep", "run_here", "run_sweep", "summarize"]
