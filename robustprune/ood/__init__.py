"""Out-of-distribution detection for any network from [0, 1] images to logits: every detector from one forward pass.

`evaluate_ood` runs the whole protocol: ``evaluate_ood(model, data, OOD(["fashion-mnist", "noise"], detectors="knn"))``.

A detector of :mod:`robustprune.ood.detectors` scores images by a network, ``KNN(model).fit(loader).score(images)``.
One of one's own is a dataclass whose fields are its options, with a formula of logits or features; larger scores mean
more out-of-distribution::

    from dataclasses import dataclass
    from robustprune.ood import Detector, formula, register_detector

    @register_detector("feature_norm")
    @dataclass
    class FeatureNorm(Detector):
        '''Length of the features.'''

        order: float = 2.0

        @formula
        def score(features, order=2.0):
            return -features.norm(order, dim=1)

An installed package registers such a class under the entry-point group ``robustprune.detectors``.
"""

from robustprune.errors import DetectorError
from robustprune.inference import LinearHead
from robustprune.ood.detector import DETECTORS, Detector, detector_options, make_detector, register_detector
from robustprune.ood.detector_scores import FittedDetector, fit_detectors, score_outputs
from robustprune.ood.extraction import Extractor
from robustprune.ood.formula import formula
from robustprune.ood.image_sets import PRESETS
from robustprune.ood.ood_result import OodResult
from robustprune.ood.outputs import Outputs
from robustprune.ood.protocol import evaluate_ood
from robustprune.ood.requests import OOD

__all__ = [
    "DETECTORS",
    "OOD",
    "PRESETS",
    "Detector",
    "DetectorError",
    "Extractor",
    "FittedDetector",
    "LinearHead",
    "OodResult",
    "Outputs",
    "detector_options",
    "evaluate_ood",
    "fit_detectors",
    "formula",
    "make_detector",
    "register_detector",
    "score_outputs",
]
