"""The attacks of other packages, and Auto-PGD and Square by their authors, as `attacks.py` runs them: in one shape."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from turns import Tell

STEPS = 40
Attack = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""Network, images in [0, 1], labels, ε → adversarial images."""


def torchattacks_pgd(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    import torchattacks

    attack = torchattacks.PGD(model, eps=epsilon, alpha=2.5 * epsilon / STEPS, steps=STEPS)
    return in_batches(attack, images, labels)


def foolbox_pgd(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    import foolbox

    network = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=STEPS, rel_stepsize=2.5 / STEPS)
    return in_batches(lambda x, y: attack(network, x, y, epsilons=epsilon)[1], images, labels)


def art_pgd(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    network = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(images.shape[1:]), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        network, eps=epsilon, eps_step=2.5 * epsilon / STEPS, max_iter=STEPS, batch_size=250, verbose=False
    )
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


def authors_autoattack(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, tell: Tell, norm: str = "Linf"
) -> Tensor:
    """Run AutoAttack of its authors, and tell the accuracy left after each of its attacks."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(model, eps=epsilon, norm=norm, seed=0)
    with _listening(attack.logger, tell):
        adversarial, _ = attack.run_standard_evaluation(images, labels, batch_size=250)
    found: Tensor = adversarial
    return found


@contextmanager
def _listening(logger: logging.Logger, tell: Tell) -> Iterator[None]:
    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said = re.match(r"robust accuracy after (\S+): ([\d.]+)%", record.getMessage())
            if said:
                tell(said[1].lower(), float(said[2]) / 100)

    listener, level = Listener(), logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


def authors_apgd(loss: str) -> Attack:
    """Return Auto-PGD of AutoAttack's authors with its standard 100 steps."""

    def attack(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        from pyautoattack.autopgd_base import APGDAttack

        found: Tensor = APGDAttack(model, eps=epsilon, loss=loss, seed=0, device="cpu").perturb(images, labels)
        return found

    return attack


def authors_square(queries: int) -> Attack:
    """Return Square of AutoAttack's authors."""

    def attack(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
        from pyautoattack.square import SquareAttack

        peer = SquareAttack(model, eps=epsilon, n_queries=queries, resc_schedule=False, seed=0, device="cpu")
        found: Tensor = peer.perturb(images, labels)
        return found

    return attack


def in_batches(attack: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([attack(x, y).detach() for x, y in zip(images.split(250), labels.split(250), strict=True)])


def pgd_peers() -> dict[str, Attack]:
    """Return PGD with forty steps of every package that is installed."""
    peers: dict[str, Attack] = {"torchattacks": torchattacks_pgd, "foolbox": foolbox_pgd}
    if find_spec("art") is None:
        print("ART (adversarial-robustness-toolbox) is not installed and left out")
    else:
        peers["ART"] = art_pgd
    return peers
