"""The corruptions by name: where each is, what it does, and its options."""

from robustprune.registry import Entry

_OPTIONS = {"frost": {"folder": None}}


def _entries(families: dict[str, dict[str, str]]) -> dict[str, Entry]:
    return {
        name: Entry(f"robustprune.corruptions.{family}:{name}", description, **_OPTIONS.get(name, {}))
        for family, descriptions in families.items()
        for name, description in descriptions.items()
    }


HEADLINE = _entries(
    {
        "noise": {
            "gaussian_noise": "Gaussian noise of equal strength everywhere, as in low light.",
            "shot_noise": "Poisson noise of counted photons.",
            "impulse_noise": "Salt and pepper: elements that turn white or black.",
        },
        "blur": {
            "defocus_blur": "A disk in place of every point, as through a lens out of focus.",
            "glass_blur": "Blurred, shuffled within small neighbourhoods, and blurred again.",
            "motion_blur": "Smeared in one direction, within 45 degrees of the horizontal.",
            "zoom_blur": "The mean of the image and of enlargements of its middle, as while zooming in.",
        },
        "weather": {
            "snow": "Falling flakes over a whitened image.",
            "frost": "Ice crystals on the window: grown by a formula, or cut from pictures in a folder of yours.",
            "fog": "A cloudy veil, brighter than what it hides.",
        },
        "digital": {
            "brightness": "A higher value in HSV: the largest channel rises, the others keep their ratio to it.",
            "contrast": "Pixels moved towards the mean of their channel.",
            "elastic_transform": "Stretched and wobbled.",
            "pixelate": "Reduced by averaging and enlarged by repetition.",
            "jpeg_compression": "Saved as JPEG (4:2:0, as by default) and read again.",
        },
    }
)
"""Those of the headline figure, in the order of the paper (Hendrycks and Dietterich 2019, arXiv:1903.12261)."""

EXTRAS = _entries(
    {
        "noise": {"speckle_noise": "Gaussian noise in proportion to brightness."},
        "blur": {"gaussian_blur": "A Gaussian blur."},
        "spatter": {"spatter": "Drops of water (severity 1 to 3) or mud on the lens."},
        "digital": {
            "saturate": "Another saturation in HSV; an image without colour has none to change and stays as it is."
        },
    }
)
"""Published beside them to tune methods on; never part of a headline figure."""

PLUGINS = HEADLINE | EXTRAS
