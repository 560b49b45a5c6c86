"""The attacks by name, cheapest first: where each is, what it does, and its options."""

from robustprune.registry import Entry

PLUGINS = {
    "noise": Entry(
        "robustprune.attacks.fgsm:noise_attack", "Propose so many points drawn uniformly from the ball.", draws=1
    ),
    "fgsm": Entry("robustprune.attacks.fgsm:attack", "Propose one step of length ε from the image.", loss="ce"),
    "rfgsm": Entry(
        "robustprune.attacks.fgsm:random_attack",
        "Propose a step of what is left of ε after a random one (R-FGSM, Tramèr et al. 2018, arXiv:1705.07204).",
        share=0.5,
        loss="ce",
    ),
    "mifgsm": Entry(
        "robustprune.attacks.fgsm:momentum_attack",
        "Propose points along accumulated gradients, each divided by its L1 norm; the step is ε/steps by default.",
        steps=10,
        step_size=None,
        decay=1.0,
        loss="ce",
    ),
    "pgd": Entry(
        "robustprune.attacks.pgd:attack",
        "Propose points along the steepest ascent of the loss, from a random point of the ball or the image.",
        steps=20,
        step_size=None,
        random_start=True,
        loss="ce",
    ),
    "pgd-margin": Entry(
        "robustprune.attacks.pgd:margin_attack",
        "Propose points along the steepest ascent of the margin between logits (Carlini & Wagner 2017).",
        steps=20,
        step_size=None,
        random_start=True,
    ),
    "pgd-dlr": Entry(
        "robustprune.attacks.pgd:ratio_attack",
        "Propose points along the steepest ascent of the difference-of-logits ratio (Croce & Hein 2020).",
        steps=20,
        step_size=None,
        random_start=True,
    ),
    "quick": Entry(
        "robustprune.attacks.ensembles:quick",
        "Run ten steps of PGD on cross-entropy, then on the margin: an upper bound in seconds.",
    ),
    "apgd-ce": Entry(
        "robustprune.attacks.apgd:cross_entropy_attack", "Propose points of high cross-entropy.", steps=100
    ),
    "apgd-dlr": Entry(
        "robustprune.attacks.apgd:ratio_attack", "Propose points of high difference-of-logits ratio.", steps=100
    ),
    "apgd-t": Entry(
        "robustprune.attacks.apgd:targeted_attack",
        "Propose points towards each of the classes that come next to the label, one after the other.",
        steps=100,
        target_classes=9,
        first_class=0,
    ),
    "medium": Entry(
        "robustprune.attacks.ensembles:medium",
        "Run `quick`, then APGD-CE and APGD-T: AutoAttack without FAB-T and Square.",
    ),
    "fab-t": Entry(
        "robustprune.attacks.fab:attack",
        "Propose the points found on the way to each of the classes that come next to the label.",
        steps=100,
        target_classes=9,
    ),
    "ddn": Entry(
        "robustprune.attacks.ddn:attack",
        "Find the nearest misclassified points in L2, on spheres that shrink where they hold one and grow elsewhere.",
        steps=100,
        gamma=0.05,
        init_norm=1.0,
    ),
    "fmn": Entry(
        "robustprune.attacks.fmn:attack",
        "Find the nearest misclassified points by ascent of the margin in balls that close in on the boundary.",
        steps=100,
        gamma=0.05,
        max_stepsize=1.0,
        min_stepsize=None,
    ),
    "sigma-zero": Entry(
        "robustprune.attacks.sigma_zero:attack",
        "Find misclassified points in which the fewest entries are changed, undoing those below a moving threshold.",
        steps=1000,
        max_stepsize=1.0,
        sigma=0.001,
        threshold=0.3,
        threshold_step=0.01,
    ),
    "square": Entry(
        "robustprune.attacks.square:attack",
        "Propose stripes, then squares of falling size, keeping what raises the margin.",
        queries=5000,
        first_share=0.8,
        rescale=False,
    ),
    "autoattack": Entry(
        "robustprune.attacks.ensembles:autoattack",
        "Run the standard AutoAttack ensemble (Croce & Hein 2020, arXiv:2003.01690).",
        steps=100,
        queries=5000,
        target_classes=None,
        attacks="apgd-ce+apgd-t+fab-t+square",
        sample="all",
    ),
    "strong": Entry(
        "robustprune.attacks.ensembles:strong",
        "Run `quick`, then `autoattack`; FAB and Square on 400 survivors where there are more than 1,000 samples.",
        attacks="pgd-ce+pgd-margin+apgd-ce+apgd-t+fab-t+square",
        sample="auto",
    ),
    "torchattacks": Entry(
        "robustprune.attacks.engine.third_party:torchattacks_attack",
        "Any attack of torchattacks (Kim 2020, arXiv:2010.01950), by class; options are its constructor's.",
        "NAME",
    ),
    "foolbox": Entry(
        "robustprune.attacks.engine.third_party:foolbox_attack",
        "Any attack of foolbox (Rauber et al. 2020), by class; options are its constructor's.",
        "NAME",
    ),
}
