"""What is always measured: the network itself, and its accuracy and calibration on images as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from robustprune.cost import measure_cost, measure_memory
from robustprune.data import Sample
from robustprune.data.image_data import images_at
from robustprune.errors import EvaluationError, ModelError
from robustprune.inference import predict_logits
from robustprune.metrics import (
    accuracy,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    sample_figures,
    wilson_interval,
)
from robustprune.models import build_network, network_name
from robustprune.pruning import Block, find_blocks
from robustprune.records import BlockSummary, CleanResult, ModelSummary, Samples
from robustprune.runtime.environment import hash_weights
from robustprune.runtime.work import Work, labelled
from robustprune.tickets.header import Plan
from robustprune.tickets.ticket import Ticket


def evaluate_clean(
    network: nn.Module, sample: Sample, dataset: str, batch_size: int, work: Work
) -> tuple[CleanResult, Samples]:
    """Return accuracy and calibration on a sample, and the outcomes per image.

    Raises:
        EvaluationError: The data set has labels that the network has no output for.
        ModelError: The network does not run on these images.
    """
    labels = sample.labels
    logits = spread_logits(network, sample.images, batch_size, work)
    if int(labels.max()) >= logits.shape[1]:
        raise EvaluationError(
            f"{dataset} has labels up to {int(labels.max())}, the network only {logits.shape[1]} outputs; "
            "evaluate it on the data set it was trained for"
        )
    predictions = logits.argmax(dim=1)
    result = CleanResult(
        accuracy=accuracy(logits, labels),
        interval=wilson_interval(int((predictions == labels).sum()), len(labels)),
        nll=negative_log_likelihood(logits, labels),
        ece=expected_calibration_error(logits, labels),
        brier=brier_score(logits, labels),
    )
    figures = {name: values.astype(np.float32) for name, values in sample_figures(logits, labels).items()}
    outcomes = {"index": sample.indices, "label": labels, "clean_prediction": predictions}
    return result, {name: values.numpy() for name, values in outcomes.items()} | figures


def spread_logits(network: nn.Module, images: Tensor, batch_size: int, work: Work, label: str = "accuracy") -> Tensor:
    """Return the logits (N, K) of images (N, C, H, W), which processes share."""
    told = labelled(work.progress, label)

    def run(places: Tensor) -> list[Tensor]:
        return [predict_logits(network, images_at(images, places), batch_size=batch_size, progress=told)]

    (logits,) = work.processes.spread(len(images), batch_size, run)
    return logits


def summarize_model(model: Ticket | nn.Module, network: nn.Module, images: Tensor) -> ModelSummary:
    """Return what a record says of a network; one image (1, C, H, W) uint8 tells the shape to count costs with."""
    ticket = model if isinstance(model, Ticket) else None
    example = images.cpu().float() / 255
    cost = measure_cost(network, example)
    return ModelSummary(
        path=ticket.path if ticket else None,
        architecture=ticket.architecture.called if ticket else network_name(network),
        sha256=hash_weights(network),
        parameters=cost.parameters,
        macs=cost.macs,
        filters=cost.filters,
        removed=list(ticket.plan.removed) if ticket else [],
        memory_bytes=_memory(network, example),
        masks=ticket.mask_summary if ticket else None,
        plan=(ticket.plan if ticket else Plan()).model_dump(mode="json"),
        initial_seed=ticket.seed if ticket else None,
        training=dict(ticket.training) if ticket else {},
        earlier_training=list(ticket.earlier_training) if ticket else [],
        blocks=_blocks(ticket) if ticket else [],
        history=list(ticket.history) if ticket else [],
    )


def _memory(network: nn.Module, example: Tensor) -> dict[str, int] | None:
    try:
        return measure_memory(network, example=example).to_dict()
    except ModelError:  # one that runs in evaluation mode alone is evaluated all the same
        return None


def _blocks(ticket: Ticket) -> list[BlockSummary]:
    """Return the blocks of the dense network, if it is they that went last and not filters."""
    if ticket.plan.method != "layer":
        return []
    scores: dict[str, Any] = ticket.scores
    return [
        BlockSummary(
            name=block.name,
            stage=block.stage,
            eligible=block.name in ticket.plan.eligible,
            removed=block.name in ticket.plan.removed,
            score=scores.get(block.name),
        )
        for block in _dense_blocks(ticket)
    ]


def _dense_blocks(ticket: Ticket) -> tuple[Block, ...]:
    known = tuple(block for block in ticket.dense_blocks if block.unit == ticket.plan.unit)
    if known or ticket.architecture.is_module:
        return known
    return find_blocks(build_network(ticket.architecture), unit=ticket.plan.unit)
