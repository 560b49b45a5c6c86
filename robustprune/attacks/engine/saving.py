"""Adversarial images on disk."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from torch import nn

from robustprune.attacks.engine.result import AttackResult
from robustprune.errors import AttackError
from robustprune.models import predict_logits
from robustprune.runtime.files import write_atomically
from robustprune.runtime.kinds import ADVERSARIAL


def save_adversarial(result: AttackResult, model: nn.Module, path: str | Path) -> float:
    """Write the images of an attack to an npz file, and return the accuracy on them once rounded to bytes.

    ``images`` are uint8 (N, H, W[, C]), rounded to the nearest, which may leave the ε-ball by half a step and may
    undo what the attack did; ``adversarial`` are the float32 images (N, C, H, W) themselves. With them ``labels``,
    ``broken``, ``clean_predictions``, ``adversarial_predictions``, ``rounded_predictions``, ``perturbation_norms``,
    ``broken_at_step``, ``broken_by``, ``queries``, ``epsilon``, ``norm``, ``attack`` and ``accuracy_after_rounding``.

    Raises:
        AttackError: The file cannot be written, or a file of another kind is there.
    """
    rounded = (result.adversarial * 255).round().byte()
    predictions = predict_logits(model, rounded).argmax(dim=1)
    accuracy = float((predictions == result.labels).double().mean())
    as_maps = rounded.numpy()
    if as_maps.ndim == 4:
        as_maps = as_maps.transpose(0, 2, 3, 1)
        as_maps = as_maps[..., 0] if as_maps.shape[-1] == 1 else as_maps
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=as_maps,
        adversarial=result.adversarial.numpy(),
        labels=result.labels.numpy(),
        broken=result.broken.numpy(),
        clean_predictions=result.clean_predictions.numpy(),
        adversarial_predictions=result.adversarial_predictions.numpy(),
        rounded_predictions=predictions.numpy(),
        perturbation_norms=result.perturbation_norms.numpy(),
        broken_at_step=result.broken_at_step.numpy(),
        broken_by=np.array(result.broken_by),
        queries=result.queries.numpy(),
        epsilon=result.epsilon,
        norm=result.norm,
        attack=result.attack,
        accuracy_after_rounding=accuracy,
    )
    try:
        write_atomically(Path(path), buffer.getvalue(), ADVERSARIAL)
    except OSError as error:
        raise AttackError(f"the adversarial images cannot be written to {path}: {error.strerror}") from error
    return accuracy
