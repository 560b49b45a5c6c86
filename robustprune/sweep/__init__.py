"""Sweeps: a YAML file of settings, the runs that it means, and the stages that they share.

Nothing here but what a worker needs imports torch: a sweep that is finished says so at once.
"""

from robustprune.sweep.run import plan_sweep, read_sweep, run_sweep, summarize
from robustprune.sweep.store import Store

__all__ = ["Store", "plan_sweep", "read_sweep", "run_sweep", "summarize"]
