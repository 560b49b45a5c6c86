"""Training: recipes, the loop, checkpoints, energy, speed."""

from robustprune.training.course import Course
from robustprune.training.meter import EnergyMeter, EnergyReading, measure_steps, measure_training_speedup
from robustprune.training.recipes import RECIPES, Recipe
from robustprune.training.train import CHECKPOINT_NAME, train, train_to_file

__all__ = [
    "CHECKPOINT_NAME",
    "RECIPES",
    "Course",
    "EnergyMeter",
    "EnergyReading",
    "Recipe",
    "measure_steps",
    "measure_training_speedup",
    "train",
    "train_to_file",
]
