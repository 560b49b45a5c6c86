"""Certified accuracy by randomized smoothing, and what is proven of every image."""

from __future__ import annotations

import time

import torch
from torch import nn

from robustprune.data import Sample, stratified_indices
from robustprune.data.image_data import images_at
from robustprune.evaluation.requests import Evaluation
from robustprune.inference.certified_result import CertifiedAt, CertifiedResult
from robustprune.inference.smoothing import Certificates, certify
from robustprune.metrics import proven, wilson_interval
from robustprune.records import Samples
from robustprune.runtime.work import Work


def run_certification(
    network: nn.Module, sample: Sample, evaluation: Evaluation, work: Work
) -> tuple[CertifiedResult | None, Samples]:
    """Return what is proven of the images of a sample, or of as many of them as asked for; None of no noise.

    Processes share the images; what an interrupted evaluation counted is gone on from.
    """
    asked, start = evaluation.certify, time.perf_counter()
    if asked.sigma is None:
        return None, {}
    places = torch.arange(len(sample.labels))
    if asked.limit is not None and asked.limit < len(places):
        places = stratified_indices(sample.labels, asked.limit, evaluation.seed)
    found = certify(
        network,
        images_at(sample.images, places),
        sample.labels[places],
        asked,
        seed=evaluation.seed,
        sample_ids=sample.indices[places],
        batch_size=evaluation.batch_size,
        work=work,
    )
    outcomes = {
        "certified_index": sample.indices[places].numpy(),
        "certified_label": found.labels,
        "certified_prediction": found.predictions,
        "certified_radius": found.radii,
    }
    return _result(found, time.perf_counter() - start), outcomes


def _result(found: Certificates, seconds: float) -> CertifiedResult:
    asked, n = found.request, len(found.labels)
    assert asked.sigma is not None
    counts = {radius: int(proven(found.radii, found.right, radius).sum()) for radius in sorted(set(asked.radii))}
    return CertifiedResult(
        sigma=asked.sigma,
        votes=asked.n,
        votes_to_choose=asked.n0,
        alpha=asked.alpha,
        n=n,
        at=[
            CertifiedAt(radius=radius, accuracy=count / n, interval=wilson_interval(count, n))
            for radius, count in counts.items()
        ],
        abstained=found.abstained,
        average_radius=found.average_radius,
        seconds=seconds,
    )
