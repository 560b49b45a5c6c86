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
_FEW_IMAGES: dict[str, Any] = {**_IMAGES, "samples": 128}

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
    "cka": Entry(
        "robustprune.pruning.criteria.feature_alignment:Cka",
        "Misalignment, 1 − CKA, of the penultimate features with and without the block.",
        **_IMAGES,
        between="networks",
    ),
    "consensus": Entry(
        "robustprune.pruning.criteria.consensus:Consensus",
        "Sum of the ranks by CKA, Procrustes, Wasserstein and regression distance of the features without the block.",
        **_IMAGES,
    ),
    "bi": Entry(
        "robustprune.pruning.criteria.block_influence:BlockInfluence",
        "Block influence: 1 minus the mean cosine between what goes into the block and what comes out.",
        **_IMAGES,
    ),
    "true_drop": Entry(
        "robustprune.pruning.criteria.true_drop:TrueDrop",
        "Rise of the loss where the block goes and nothing is trained.",
        **_IMAGES,
    ),
    "sr": Entry(
        "robustprune.pruning.criteria.reinitialization:Reinitialization",
        "Accuracy lost where the block's weights are drawn anew; meant for trained networks.",
        **_IMAGES,
        draws=3,
    ),
    "jacobian": Entry(
        "robustprune.pruning.criteria.input_jacobian:InputJacobian",
        "Growth of the norm of the logits' Jacobian with respect to the image where the block goes; for robustness.",
        **_FEW_IMAGES,
        projections=10,
    ),
    "naswot": Entry(
        "robustprune.pruning.criteria.naswot:Naswot",
        "Fall of log |K|, K the agreement of the ReLU codes of images, where the block goes.",
        **{**_FEW_IMAGES, "bn_mode": "batch"},
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
