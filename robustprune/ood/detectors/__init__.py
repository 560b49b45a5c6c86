"""Detectors by class, for whoever has outputs of a network at hand; one a file, near relatives share one."""

from robustprune.ood.detectors.certainty import GEN, MSP, Energy, Entropy, MaxLogit, Temperature
from robustprune.ood.detectors.fdbd import FDBD
from robustprune.ood.detectors.gradnorm import GradNorm
from robustprune.ood.detectors.knn import KNN
from robustprune.ood.detectors.mahalanobis import Mahalanobis, RelativeMahalanobis
from robustprune.ood.detectors.odin import ODIN
from robustprune.ood.detectors.shaping import ASH, DICE, ReAct, Scale
from robustprune.ood.detectors.she import SHE
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
