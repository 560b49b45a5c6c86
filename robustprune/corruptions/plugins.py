"""The corruptions by name: where each is, what it does, and its options."""

from robustprune.registry import Entry

HEADLINE = {
    "gaussian_noise": Entry(
        "robustprune.corruptions.noise:gaussian_noise", "Gaussian noise of equal strength everywhere, as in low light."
    ),
    "shot_noise": Entry("robustprune.corruptions.noise:shot_noise", "Poisson noise of counted photons."),
    "impulse_noise": Entry(
        "robustprune.corruptions.noise:impulse_noise", "Salt and pepper: elements that turn white or black."
    ),
    "defocus_blur": Entry(
        "robustprune.corruptions.blur:defocus_blur", "A disk in place of every point, as through a lens out of focus."
    ),
    "glass_blur": Entry(
        "robustprune.corruptions.blur:glass_blur", "Blurred, shuffled within small neighbourhoods, and blurred again."
    ),
    "motion_blur": Entry(
        "robustprune.corruptions.blur:motion_blur", "Smeared in one direction, within 45 degrees of the horizontal."
    ),
    "zoom_blur": Entry(
        "robustprune.corruptions.blur:zoom_blur",
        "The mean of the image and of enlargements of its middle, as while zooming in.",
    ),
    "snow": Entry("robustprune.corruptions.weather:snow", "Falling flakes over a whitened image."),
    "frost": Entry(
        "robustprune.corruptions.weather:frost",
        "Ice crystals on the window: grown by a formula, or cut from pictures in a folder of yours.",
        folder=None,
    ),
    "fog": Entry("robustprune.corruptions.weather:fog", "A cloudy veil, brighter than what it hides."),
    "brightness": Entry(
        "robustprune.corruptions.digital:brightness",
        "A higher value in HSV: the largest channel rises, the others keep their ratio to it.",
    ),
    "contrast": Entry("robustprune.corruptions.digital:contrast", "Pixels moved towards the mean of their channel."),
    "elastic_transform": Entry("robustprune.corruptions.digital:elastic_transform", "Stretched and wobbled."),
    "pixelate": Entry("robustprune.corruptions.digital:pixelate", "Reduced by averaging and enlarged by repetition."),
    "jpeg_compression": Entry(
        "robustprune.corruptions.digital:jpeg_compression", "Saved as JPEG (4:2:0, as by default) and read again."
    ),
}
"""Those of the headline figure, in the order of the paper (Hendrycks and Dietterich 2019, arXiv:1903.12261)."""

EXTRAS = {
    "speckle_noise": Entry(
        "robustprune.corruptions.noise:speckle_noise", "Gaussian noise in proportion to brightness."
    ),
    "gaussian_blur": Entry("robustprune.corruptions.blur:gaussian_blur", "A Gaussian blur."),
    "spatter": Entry("robustprune.corruptions.spatter:spatter", "Drops of water (severity 1 to 3) or mud on the lens."),
    "saturate": Entry(
        "robustprune.corruptions.digital:saturate",
        "Another saturation in HSV; an image without colour has none to change and stays as it is.",
    ),
}
"""Published beside them to tune methods on; never part of a headline figure."""

PLUGINS = HEADLINE | EXTRAS
