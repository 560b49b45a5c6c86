"""Which image sets are near to and far from an in-distribution one, by OpenOOD's choice.

OpenOOD v1.5 (Zhang et al. 2023, arXiv:2306.09301) fixes the groups of CIFAR-10 and CIFAR-100. It has none for
Fashion-MNIST and digits: theirs follow its groups for MNIST, with what would show the same classes left out and
sets added that every machine has. OpenOOD also drops single images of Tiny ImageNet and Places365 that show a
class of CIFAR's; a user who wants its figures to the digit takes its image lists, as an image folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from robustprune.errors import EvaluationError
from robustprune.ood.shifted import is_corrupted

NEAR, FAR, SANITY, SHIFTED, OTHER = "near", "far", "sanity", "shifted", "other"

_PLACES_FAR_FROM_GREY = ("textures", "cifar10", "tiny-imagenet", "places365", "photo-patches")

PRESETS: dict[str, dict[str, tuple[str, ...]]] = {
    "cifar10": {NEAR: ("cifar100", "tiny-imagenet"), FAR: ("mnist", "svhn", "textures", "places365")},
    "cifar100": {NEAR: ("cifar10", "tiny-imagenet"), FAR: ("mnist", "svhn", "textures", "places365")},
    "fashion-mnist": {NEAR: ("mnist", "notmnist", "digits"), FAR: _PLACES_FAR_FROM_GREY},
    "digits": {NEAR: ("notmnist", "fashion-mnist"), FAR: _PLACES_FAR_FROM_GREY},
}
SANITY_SETS = ("noise", "uniform", "constant")


def group_of(dataset: str, foreign: str) -> str:
    """Return ``near``, ``far``, ``sanity``, ``shifted`` or ``other``: what ``foreign`` is to ``dataset``."""
    if foreign in SANITY_SETS:
        return SANITY
    if is_corrupted(foreign):
        return SHIFTED
    groups = PRESETS.get(dataset, {})
    return next((group for group, sets in groups.items() if foreign in sets), OTHER)


def expand(
    dataset: str, asked: str | Iterable[str] | Mapping[str, Sequence[str]], detectors: Sequence[str]
) -> tuple[dict[str, list[str]], set[str]]:
    """Return the detectors of each set asked for, and the sets that were named one by one.

    Args:
        dataset: The in-distribution set.
        asked: Names of sets, or of groups (``near``, ``far``, ``sanity``) that stand for theirs; a mapping gives
            each its own detectors.
        detectors: Those of sets that have none of their own.

    Raises:
        EvaluationError: A group that is not known for the set, nothing asked for, or no detectors.
    """
    names = [asked] if isinstance(asked, str) else list(asked)
    own = dict(asked) if isinstance(asked, Mapping) else {}
    requests: dict[str, dict[str, None]] = {}
    for name in names:
        chosen = own.get(name) or detectors
        chosen = [chosen] if isinstance(chosen, str) else chosen
        for each in _sets(dataset, name):
            # Named twice, with detectors of its own and in a group: it gets both.
            requests.setdefault(each, {}).update(dict.fromkeys(chosen))
    if not requests or not all(requests.values()):
        raise EvaluationError("name at least one foreign image set, and at least one detector")
    return {name: list(chosen) for name, chosen in requests.items()}, set(names)


def _sets(dataset: str, name: str) -> tuple[str, ...]:
    if name == SANITY:
        return SANITY_SETS
    if name not in (NEAR, FAR):
        return (name,)
    if dataset not in PRESETS:
        raise EvaluationError(
            f"no {name} sets are known for {dataset!r}, only for {', '.join(PRESETS)}; name the foreign sets, or sanity"
        )
    return PRESETS[dataset][name]
