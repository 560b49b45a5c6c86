"""How long exported networks take to answer, beside the frozen copy that torch runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from robustprune.cost import Latency
from robustprune.cost.images import noise_images
from robustprune.cost.latency import frozen_run, time_runs
from robustprune.tickets.export.forms import FORMS, Runner, encode_network


def measure_form_latencies(
    models: Sequence[nn.Module], *, batch_size: int = 1, seconds: float = 2.0
) -> list[dict[str, Latency]]:
    """Time networks in every form, in turn, on the CPU: ``torch`` (the frozen copy), ``onnx`` and ``torch-export``.

    Args:
        models: Networks from :func:`robustprune.build_model` that take like images.
        batch_size: Images per pass.
        seconds: For how long to measure; at least five passes of each are made.

    Returns:
        For each network, its latency by form.

    Raises:
        ExportError: A network cannot be exported.
        MissingDependencyError: ONNX's packages, the extra ``export``, are not installed.
    """
    runs: list[Callable[[], object]] = []
    for model in models:
        runs.append(frozen_run(model, batch_size))
        runs += [_run(encode_network(model, form, {})[1], model, batch_size) for form in FORMS]
    latencies = iter(time_runs(runs, batch_size=batch_size, seconds=seconds))
    return [{form: next(latencies) for form in ("torch", *FORMS)} for _ in models]


def _run(runner: Runner, model: nn.Module, batch_size: int) -> Callable[[], object]:
    images = noise_images(model, batch_size).float()
    return lambda: runner(images)
