"""Training: recipes, the loop, checkpoints, energy."""

from robustprune.training.energy import Energy, EnergyMeter
from robustprune.training.epoch import StepProgress
from robustprune.training.recipes import RECIPES, Recipe, make_recipe
from robustprune.training.train import train, train_to_file

__all__ = [
    "RECIPES",
    "Energy",
    "EnergyMeter",
    "Recipe",
    "StepProgress",
    "make_recipe",
    "train",
    "train_to_file",
]
