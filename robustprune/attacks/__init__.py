"""Adversarial attacks on any network from [0, 1] images to logits, and whether their numbers can be believed.

`run_attack` runs an attack by name and returns an `AttackResult`. Each attack is a function as well, which returns the
images only, ``pgd(model, images, labels, epsilon="8/255", steps=40)``: its name with ``_`` for ``-``. ``apgd`` and
``fab`` are short for ``apgd_ce`` and ``fab_t``; ``image_attack("torchattacks:CW")`` makes one of any other name.

An attack proposes, the engine does the rest: modes, seeds, the ε-ball and the box, counting, leaving samples
out once they are broken, batches, and the verdict on the points it ends with. One of your own is a function
of an `AttackProblem` and keyword options with defaults::

    from robustprune.attacks import register_attack, run_attack

    @register_attack("momentum")
    def momentum(problem, *, steps=10, decay=0.9):
        points, velocity = problem.random_start(), 0
        for _ in range(steps):
            velocity = decay * velocity + problem.steepest(problem.gradient(points, "margin"))
            points = problem.project(points + problem.epsilon / 4 * problem.steepest(velocity))
        problem.evaluate(points, "margin")

    result = run_attack(model, images, labels, "momentum", epsilon="8/255", steps=20)

An installed package registers such a function under the entry-point group ``robustprune.attacks``.
"""

from importlib import import_module

from robustprune.attacks.attack_ranking import OptimalityEntry, compare_attacks, describe_optimality
from robustprune.attacks.engine.attack_result import AttackResult, Check, save_adversarial
from robustprune.attacks.engine.joint_results import any_of
from robustprune.attacks.engine.problem import AttackProblem
from robustprune.attacks.engine.resume import clear_states
from robustprune.attacks.engine.runner import image_attack, run_attack
from robustprune.attacks.registry import (
    ATTACKS,
    attack_options,
    check_norm,
    for_norms,
    get_attack,
    minimum_norm,
    named,
    register_attack,
)
from robustprune.attacks.requests import Attack, Attacks, parse_epsilon
from robustprune.attacks.successive import SecurityCurve, security_curve, union_attack
from robustprune.attacks.transfer import check_transfer, transfer_attack

__all__ = [
    "ATTACKS",
    "Attack",
    "AttackProblem",
    "AttackResult",
    "Attacks",
    "Check",
    "OptimalityEntry",
    "SecurityCurve",
    "any_of",
    "apgd",
    "apgd_ce",
    "apgd_dlr",
    "apgd_t",
    "attack_options",
    "autoattack",
    "check_norm",
    "check_transfer",
    "clear_states",
    "compare_attacks",
    "ddn",
    "describe_optimality",
    "fab",
    "fab_t",
    "fgsm",
    "fmn",
    "for_norms",
    "get_attack",
    "image_attack",
    "medium",
    "mifgsm",
    "minimum_norm",
    "named",
    "noise",
    "parse_epsilon",
    "pgd",
    "pgd_dlr",
    "pgd_margin",
    "quick",
    "register_attack",
    "rfgsm",
    "run_attack",
    "save_adversarial",
    "security_curve",
    "sigma_zero",
    "square",
    "strong",
    "transfer_attack",
    "union_attack",
]

# Behind the modules of these names, which would take their places if they were imported later.
for _module in ("ddn", "ensembles", "fgsm", "fmn", "sigma_zero"):
    import_module(f"{__name__}.{_module}")
noise, fgsm, rfgsm, mifgsm = map(image_attack, ("noise", "fgsm", "rfgsm", "mifgsm"))
pgd, pgd_margin, pgd_dlr = map(image_attack, ("pgd", "pgd-margin", "pgd-dlr"))
apgd_ce, apgd_dlr, apgd_t = map(image_attack, ("apgd-ce", "apgd-dlr", "apgd-t"))
fab_t, square = map(image_attack, ("fab-t", "square"))
ddn, fmn, sigma_zero = map(image_attack, ("ddn", "fmn", "sigma-zero"))
quick, medium, strong, autoattack = map(image_attack, ("quick", "medium", "strong", "autoattack"))
apgd, fab = apgd_ce, fab_t
