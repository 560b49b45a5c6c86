"""The criteria by name: where each is, what it ranks by, and its options."""

from typing import Any

from robustprune.registry import Entry

_GRADIENTS: dict[str, Any] = {
    "reduction": "sum",
    "bn_mode": "batch",
    "samples_per_class": 10,
    "batch_size": None,
    "scoring_images": "clean",
    "epsilon": 8 / 255,
}
_IMAGES: dict[str, Any] = {"bn_mode": "running", "samples": 640, "batch_size": None}

PLUGINS = {
    "snip": Entry(
        "robustprune.pruning.criteria.saliency:Snip",
        "Connection sensitivity |w · ∂L/∂w| on a stratified batch of training images.",
        **_GRADIENTS,
    ),
    "grasp": Entry(
        "robustprune.pruning.criteria.grasp:Grasp",
        "Gradient signal preservation θ ⊙ Hg on a stratified batch of training images.",
        **_GRADIENTS,
        temperature=200.0,
        variant="grasp",
    ),
    "synflow": Entry(
        "robustprune.pruning.criteria.synflow:SynFlow",
        "Synaptic flow |w · ∂R/∂w| through the network of absolute weights; needs no data.",
        reduction="sum",
    ),
    "hrank": Entry(
        "robustprune.pruning.criteria.hrank:HRank",
        "Mean rank of the feature maps at the block output, as a share of their side.",
        **_IMAGES,
        site="output",
        tolerance=1e-05,
    ),
    "expected_abs": Entry(
        "robustprune.pruning.criteria.activations:ExpectedAbs",
        "Mean absolute activation at the block output.",
        **_IMAGES,
        site="output",
    ),
    "pls": Entry(
        "robustprune.pruning.criteria.pls:Pls",
        "Importance of the block's pooled channels in one partial least squares fit to the labels.",
        **_IMAGES,
        site="output",
        components=2,
    ),
    "kl": Entry(
        "robustprune.pruning.criteria.kl:Kl",
        "KL divergence of the outputs without the block from the network's own.",
        **_IMAGES,
    ),
    **dict.fromkeys(
        ("l1", "magnitude"),
        Entry(
            "robustprune.pruning.criteria.l1:L1",
            "Mean weight magnitude of the block's filters; a ranking by stage more than by block.",
            reduction="mean",
        ),
    ),
    "random": Entry(
        "robustprune.pruning.criteria.random_order:RandomOrder", "Uniform scores in [0, 1), from the seed alone."
    ),
}
