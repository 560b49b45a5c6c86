"""Training: recipes, the loop, checkpoints, energy, speed."""

from robustprune.training.energy import Energy, EnergyMeter
from robustprune.training.epoch import StepProgress
from robustprune.training.recipes import RECIPES, Recipe, make_recipe
from robustprune.training.run import run_settings
from robustprune.training.speed import Speedup, measure_steps, measure_training_speedup
from robustprune.training.train import train, train_to_file

__all__ = [
    "RECIPES",
    "Energy",
    "EnergyMeter",
    "Recipe",
    "Speedup",
    "StepProgress",
    "make_recipe",
    "measure_steps",
    "measure_training_speedup",
    "run_settings",
    "train",
    "train_to_file",
]
