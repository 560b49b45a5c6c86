"""The corruptions of CIFAR-10-C for any set of images, seeded image by image, and the published files.

`corrupt` makes images; what they are for is measured elsewhere. The constants are those of Hendrycks and Dietterich
2019 (arXiv:1903.12261) for images of 32 pixels; lengths follow the image size (`geometry_scale`). A corruption of
your own is a function of uint8 images (n, C, H, W), a severity and their `ImageRandomness`::

    from robustprune.corruptions import corrupt, register_corruption

    @register_corruption("darkness")
    def darkness(images, severity, draws):
        return images // (1 + severity)

    darker = corrupt(images, "darkness", 3)

An installed package registers such a function under the entry-point group ``robustprune.corruptions``.
"""

from robustprune.corruptions.apply import corrupt, share_corruption_options
from robustprune.corruptions.image_randomness import ImageRandomness
from robustprune.corruptions.raster import geometry_scale
from robustprune.corruptions.registry import (
    CORRUPTIONS,
    EXTRAS,
    HEADLINE,
    SEVERITIES,
    corruption_options,
    expand_names,
    register_corruption,
)
from robustprune.corruptions.requests import Corruptions

__all__ = [
    "CORRUPTIONS",
    "EXTRAS",
    "HEADLINE",
    "SEVERITIES",
    "Corruptions",
    "ImageRandomness",
    "corrupt",
    "corruption_options",
    "expand_names",
    "geometry_scale",
    "register_corruption",
    "share_corruption_options",
]
