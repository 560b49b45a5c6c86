"""Detectors by class, for whoever has outputs of a network at hand, one a file with its nearest relative."""

from robustprune.ood.detectors.ash import ASH, Scale
from robustprune.ood.detectors.dice import DICE
from robustprune.ood.detectors.energy import Energy
from robustprune.ood.detectors.entropy import GEN, Entropy
from robustprune.ood.detectors.fdbd import FDBD
from robustprune.ood.detectors.gradnorm import GradNorm
from robustprune.ood.detectors.knn import KNN
from robustprune.ood.detectors.mahalanobis import Mahalanobis, RelativeMahalanobis
from robustprune.ood.detectors.msp import MSP, MaxLogit
from robustprune.ood.detectors.odin import ODIN
from robustprune.ood.detectors.react import ReAct
from robustprune.ood.detectors.she import SHE
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
