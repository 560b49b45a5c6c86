"""Out-of-distribution detection for any network from [0, 1] images to logits: every detector from one forward pass.

`evaluate_ood` runs the whole protocol: ``evaluate_ood(model, data, ["fashion-mnist", "noise"], ["energy", "knn"])``.

A detector of one's own is a dataclass whose fields are its options; larger scores mean more foreign::

    from robustprune.ood import Detector, register_detector

    @register_detector("feature_norm")
    class FeatureNorm(Detector):
        '''Length of the features.'''

        def __call__(self, outputs):
            return -outputs.need_features().norm(dim=1)

An installed package registers such a class under the entry-point group ``robustprune.detectors``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustprune.ood.detector import DETECTORS, Detector, detector_options, make_detector, register_detector
    from robustprune.ood.errors import DetectorError
    from robustprune.ood.evaluate import evaluate_ood
    from robustprune.ood.extraction import Extractor
    from robustprune.ood.groups import PRESETS
    from robustprune.ood.outputs import LinearHead, Outputs
    from robustprune.ood.result import OodResult
    from robustprune.ood.scoring import FittedDetector, fit_detectors, score_outputs

# Imported when first used: a record is read with `result` alone, without torch.
_HOMES = {
    "DETECTORS": "detector",
    "PRESETS": "groups",
    "Detector": "detector",
    "DetectorError": "errors",
    "Extractor": "extraction",
    "FittedDetector": "scoring",
    "LinearHead": "outputs",
    "OodResult": "result",
    "Outputs": "outputs",
    "detector_options": "detector",
    "evaluate_ood": "evaluate",
    "fit_detectors": "scoring",
    "make_detector": "detector",
    "register_detector": "detector",
    "score_outputs": "scoring",
}

__all__ = [
    "DETECTORS",
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
    "make_detector",
    "register_detector",
    "score_outputs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'robustprune.ood' has no attribute {name!r}")
    return getattr(import_module(f"robustprune.ood.{_HOMES[name]}"), name)
