"""The detectors by name: where each is, what it scores by, and its options."""

from robustprune.registry import Entry

PLUGINS = {
    "ash": Entry(
        "robustprune.ood.detectors.ash:ASH",
        "Energy after features are cut and scaled.",
        percentile=0.9,
        variant="s",
    ),
    "dice": Entry("robustprune.ood.detectors.dice:DICE", "Energy by the weights that matter most.", sparsity=0.9),
    "energy": Entry("robustprune.ood.detectors.energy:Energy", "Free energy of the logits.", temperature=1.0),
    "entropy": Entry("robustprune.ood.detectors.entropy:Entropy", "Entropy of the softmax."),
    "fdbd": Entry(
        "robustprune.ood.detectors.fdbd:FDBD",
        "Mean distance to the decision boundaries, relative to the distance from the mean feature.",
    ),
    "gen": Entry("robustprune.ood.detectors.entropy:GEN", "Generalized entropy.", gamma=0.1, classes=100),
    "gradnorm": Entry(
        "robustprune.ood.detectors.gradnorm:GradNorm", "L1 norm of the last layer's gradient towards an even answer."
    ),
    "knn": Entry(
        "robustprune.ood.detectors.knn:KNN",
        "Distance to the k-th nearest training image; a bank larger than bank_size is thinned at random.",
        k=50,
        bank_size=50000,
    ),
    "mahalanobis": Entry(
        "robustprune.ood.detectors.mahalanobis:Mahalanobis", "Squared Mahalanobis distance to the nearest class mean."
    ),
    "max_logit": Entry("robustprune.ood.detectors.msp:MaxLogit", "Largest logit."),
    "msp": Entry("robustprune.ood.detectors.msp:MSP", "Maximum softmax probability."),
    "odin": Entry(
        "robustprune.ood.detectors.odin:ODIN",
        "Maximum softmax probability of an image after a step towards certainty; runs the network twice more.",
        temperature=1000.0,
        epsilon=0.0014,
    ),
    "react": Entry(
        "robustprune.ood.detectors.react:ReAct", "Energy after features are clipped at what is usual.", percentile=0.9
    ),
    "rmd": Entry(
        "robustprune.ood.detectors.mahalanobis:RelativeMahalanobis",
        "Mahalanobis distance to the nearest class, less that to all images.",
    ),
    "scale": Entry(
        "robustprune.ood.detectors.ash:Scale",
        "Energy after each image's features are scaled by how concentrated they are.",
        percentile=0.85,
    ),
    "she": Entry("robustprune.ood.detectors.she:SHE", "Likeness to the stored pattern of the predicted class."),
    "temperature": Entry(
        "robustprune.ood.detectors.temperature:Temperature",
        "Maximum softmax probability at the temperature that calibrates the network best.",
    ),
    "vim": Entry(
        "robustprune.ood.detectors.vim:ViM",
        "Virtual logit of what lies outside the features' main directions.",
        dimensions=0,
    ),
}
