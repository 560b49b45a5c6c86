"""Detectors by class, for whoever has outputs of a network at hand; one a file, near relatives share one."""

from robustprune.ood.detectors.certainty import GEN, MSP, Energy, Entropy, MaxLogit
from robustprune.ood.detectors.knn import KNN
from robustprune.ood.detectors.last_layer import FDBD, SHE, GradNorm
from robustprune.ood.detectors.mahalanobis import Mahalanobis, RelativeMahalanobis
from robustprune.ood.detectors.odin import ODIN
from robustprune.ood.detectors.shaping import ASH, DICE, ReAct, Scale
from robustprune.ood.detectors.temperature import Temperature
from robustprune.ood.detectors.vim import ViM

__all__ = [
    "ASH",
    "DICE",
    "FDBD",
    "GEN",
    "KNN",
    "MSP",
    "ODIN",
    "SHE",
    "Energy",
    "Entropy",
    "GradNorm",
    "Mahalanobis",
    "MaxLogit",
    "ReAct",
    "RelativeMahalanobis",
    "Scale",
    "Temperature",
    "ViM",
]
