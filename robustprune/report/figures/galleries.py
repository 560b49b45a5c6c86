"""Pictures: adversarial images with what was added to them, and an image under every corruption."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from robustprune.comparison.metric import write_epsilon
from robustprune.records import AttackEntry, Record
from robustprune.report.drawing import Drawing, LeftOutError
from robustprune.report.figures.reading import Shown, name_attack
from robustprune.report.figures.style import MUTED, new_figure

_COLUMNS, _KINDS, _TILE = 8, 2, 64
_Pixels = NDArray[Any]


def draw_adversarial(shown: Shown) -> Drawing:
    """Return images that an attack broke: clean, what was added, and what came of it, with the predictions."""
    first = {name: records[0] for name, records in shown.groups.items() if _galleries(records[0])}
    if not first:
        raise LeftOutError("the records hold no adversarial images (no attack broke one, or the records are older)")
    attack = _strongest(next(iter(first.values())))
    chosen = [(name, record) for name, record in first.items() if attack in _galleries(record)][:_KINDS]
    figure, axes = new_figure(2.42 * len(chosen) + 0.1, 0.025, nrows=3 * len(chosen), ncols=_COLUMNS)
    said = [
        _draw_kind(axes[3 * row : 3 * row + 3], name, record, _galleries(record)[attack])
        for row, (name, record) in enumerate(chosen)
    ]
    caption = (
        f"The first images that {name_attack(*attack)} broke at the largest ε, of the first network of each kind: the "
        "image with its true class, what was added, enlarged by the factor beside it (grey is nothing), and the result "
        "with what the network takes it for. An image that a smaller ε broke already was not attacked further. "
        f"{shown.note}"
    ).strip()
    return Drawing("adversarial-images", "Adversarial images", caption, " ".join(said), figure)


_Attack = tuple[str, str]


def _galleries(record: Record) -> dict[_Attack, int]:
    """Return (attack, norm) → place of the entry that has images; attacks whose checks failed have nothing to show."""
    return {
        (entry.name, entry.norm): place
        for place, entry in enumerate(record.attacks)
        if entry.gallery and entry.valid and record.samples is not None
    }


def _strongest(record: Record) -> _Attack:
    found = _galleries(record)
    return min(found, key=lambda attack: record.attacks[found[attack]].robust_accuracy)


def _draw_kind(axes: NDArray[Any], name: str, record: Record, place: int) -> str:
    samples: dict[str, Any] = record.samples or {}
    entry: AttackEntry = record.attacks[place]
    clean = samples[f"gallery{place}_clean"][:_COLUMNS].astype(np.float64) / 255
    added = samples[f"gallery{place}_perturbation"][:_COLUMNS].astype(np.float64)
    positions = {int(index): at for at, index in enumerate(samples["index"])}
    at = [positions[int(index)] for index in samples[f"gallery{place}_index"][: len(clean)]]
    labels, found = samples["label"][at], samples[f"attack{place}_prediction"][at]
    factor = _round_factor(0.5 / max(float(np.abs(added).max()), 1e-6))
    for column in range(_COLUMNS):
        for row in range(3):
            _hide(axes[row, column])
        if column < len(clean):
            _show(axes[0, column], clean[column], _class(record, labels[column]))
            _show(axes[1, column], np.clip(0.5 + factor * added[column], 0, 1), "")
            _show(axes[2, column], np.clip(clean[column] + added[column], 0, 1), f"→ {_class(record, found[column])}")
    for row, text in enumerate((name, f"added × {factor:g}", f"{entry.name}, ε = {write_epsilon(entry.epsilon)}")):
        axes[row, 0].set_ylabel(_short(text, 20), fontsize=6.2, fontweight="bold" if row == 0 else "normal")
    pairs = ", ".join(f"{_class(record, a)} as {_class(record, b)}" for a, b in zip(labels, found, strict=True))
    return f"{name} under {entry.name} takes {pairs}."


def _round_factor(value: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, … that is no larger."""
    return float(
        max((step * 10.0**power for power in range(5) for step in (1, 2, 5) if step * 10.0**power <= value), default=1)
    )


def _class(record: Record, label: int) -> str:
    return _short(record.classes[label], 14) if label < len(record.classes) else str(label)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _hide(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _show(axes: Axes, image: _Pixels, label: str) -> None:
    axes.imshow(_enlarge(image), interpolation="none", vmin=0, vmax=1, cmap="gray")
    axes.set_xlabel(label, fontsize=6.2, labelpad=1.5)


def _enlarge(image: _Pixels) -> NDArray[np.uint8]:
    """Return an image (C, H, W) in [0, 1] as (h, w, 3) uint8, small ones with each pixel a square of several."""
    factor = max(1, -(-_TILE // min(image.shape[1:])))
    pixels = np.round(255 * image).astype(np.uint8).transpose(1, 2, 0)
    large = pixels.repeat(factor, 0).repeat(factor, 1)
    return np.broadcast_to(large, (*large.shape[:2], 3))


def draw_corrupted(shown: Shown) -> Drawing:
    """Return the first evaluated image under every corruption at every severity, made anew from the image set."""
    from robustprune.corruptions import SEVERITIES, corrupt

    record = shown.groups[shown.reference][0]
    image, index = _first_image(record)
    assert record.corruptions is not None
    names = list(record.corruptions.table)
    lines = -(-len(names) // 2)
    figure, axes = new_figure(0.485 * lines + 0.25, 0.025, nrows=lines, ncols=2 * (len(SEVERITIES) + 1))
    for panel in axes.flat:
        _hide(panel)
    for number, name in enumerate(names):
        left, line = (number // lines) * (len(SEVERITIES) + 1), number % lines
        made = [image, *(corrupt(image, name, each, seed=record.seed, sample_ids=[index]) for each in SEVERITIES)]
        for column, tile in enumerate(made):
            axes[line, left + column].imshow(_enlarge(tile[0].numpy() / 255), interpolation="none")
            if line == 0:
                axes[0, left + column].set_title(
                    str(column) if column else "0", fontsize=6, loc="center", color=MUTED, fontweight="normal"
                )
        label = axes[line, left].set_ylabel(name.replace("_", "\n", 1).replace("_", " "), fontsize=6)
        label.set(rotation=0, ha="right", va="center")
    caption = (
        f"The first evaluated image of {record.dataset} ({record.split}, number {index}) as it is (0) and under the "
        "corruptions the networks were shown, at severities 1 to 5."
    )
    alt = f"One image under {len(names)} corruptions at severities 1 to 5: {', '.join(names).replace('_', ' ')}."
    return Drawing("corrupted-images", "What the corruptions look like", caption, alt, figure)


def _first_image(record: Record) -> tuple[Any, int]:
    """Return the first evaluated image (1, C, H, W) and its place in the split.

    Raises:
        LeftOutError: It cannot be had again: the set is not on this machine, or the corruptions were not made here.
    """
    import torch
    from pydantic import ValidationError

    from robustprune.data import load_data
    from robustprune.errors import RobustPruneError
    from robustprune.tickets.header import DataDescription

    samples, found = record.samples, record.corruptions
    if found is None or samples is None:
        raise LeftOutError("the dense networks were not evaluated under corruptions, or their samples.npz are missing")
    if found.scale is None:
        raise LeftOutError("the corrupted images were read from a folder, which the record does not hold")
    try:
        # Held to the schema: a record must not decide what is downloaded or run on its reader's machine.
        data = load_data(**DataDescription.model_validate(record.data).model_dump(exclude_unset=True))
        split = data.require(record.split)
        index = int(samples["index"][0])
        image = split.take(torch.tensor([index]))
        is_same = int(split.labels[index]) == int(samples["label"][0])
    except (RobustPruneError, ValidationError, IndexError) as error:
        raise LeftOutError(f"the image set {record.dataset} cannot be loaded here: {error}") from error
    if not is_same:
        raise LeftOutError(f"the image set {record.dataset} on this machine is not the one that was evaluated")
    return image, index
