"""The record of an evaluation: its schema, its file, and the outcomes per sample beside it."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustprune.corruptions.result import CorruptionResult, ShiftEntry
from robustprune.errors import EvaluationError
from robustprune.files import write_atomically
from robustprune.ood.result import OodEntry, OodSummary

Interval = tuple[float, float]
Samples = dict[str, NDArray[Any]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class BlockSummary(_Part):
    """One residual block of the dense network: its stage, whether it could have gone and whether it did.

    ``score`` is the importance that decided it, in the criterion's own unit; None where the last round of pruning
    did not score it.
    """

    name: str
    stage: int
    eligible: bool
    removed: bool
    score: float | None


class ModelSummary(_Part):
    """Which network was evaluated, how it was cut and how it was trained.

    ``macs`` are multiply-accumulates per image. ``masks`` are None where no single weights were pruned; else how many
    convolution and linear weights there are and how many of them masks keep, which changes no other figure.
    ``memory_bytes`` are those of :class:`robustprune.cost.Memory`, for a batch of 128 images; None where they are not
    known. The latencies, of one image and of a batch, are None unless they were asked for. ``path`` and
    ``initial_seed`` are None for a network that is no ticket. ``blocks`` are all blocks of the dense network in order
    of execution, of a ticket whose blocks were scored; ``history`` has an entry per trained epoch; records of earlier
    versions have neither.
    """

    path: str | None
    architecture: str
    sha256: str
    parameters: int
    macs: int
    filters: int
    removed: list[str]
    masks: dict[str, int] | None = None
    memory_bytes: dict[str, int] | None = None
    plan: dict[str, Any]
    initial_seed: int | None
    training: dict[str, Any]
    earlier_training: list[dict[str, Any]]
    latency_ms: dict[str, Any] | None = None
    batch_latency_ms: dict[str, Any] | None = None
    blocks: list[BlockSummary] = []
    history: list[dict[str, float | int | None]] = []


class CleanResult(_Part):
    """Unattacked images: accuracy with its 95 % Wilson interval, NLL in nats, ECE over 15 bins, Brier score."""

    accuracy: float
    interval: Interval
    nll: float
    ece: float
    brier: float


class CheckResult(_Part):
    """One reason to believe an attack's number, or not."""

    name: str
    verdict: Literal["PASS", "WARN", "FAIL", "INFO"]
    detail: str


class AttackEntry(_Part):
    """One attack at one budget. ``robust_accuracy`` means nothing where ``valid`` is false.

    ``parts`` are the names that ``attack{i}_part`` of the outcomes per sample points to: the attack, or part of an
    ensemble or a union, that broke a sample; ``clean`` where none was needed, empty where none succeeded. ``gallery``
    is how many of its images lie beside the record.
    """

    name: str
    norm: str
    epsilon: float
    steps: int | None
    restarts: int
    options: dict[str, Any]
    robust_accuracy: float
    interval: Interval
    valid: bool
    checks: list[CheckResult]
    gradient_evaluations: int
    forward_evaluations: int
    seconds: float
    parts: list[str] = []
    gallery: int = 0


class CurveEntry(_Part):
    """Robust accuracy of one attack against its budget; the median budget that breaks a sample, if half are broken."""

    name: str
    norm: str
    epsilons: list[float]
    robust_accuracy: list[float]
    valid: bool
    median_minimal_epsilon: float | None


class Record(_Part):
    """What an evaluation found.

    Attributes:
        schema_version: Written as ``schema``.
        model: The network.
        dataset: Name of the image set.
        split: Which split of it.
        n: How many of its images.
        data: Arguments that load the image set again.
        classes: Names of its classes; empty in records of earlier versions.
        samples_sha256: Hash over the images and labels that were used; equal in two records means that their
            outcomes can be compared sample by sample.
        samples_file: Name of the file of per-sample outcomes beside the record; None if it was not written.
        clean: Results without an attack.
        attacks: One entry per attack and ε.
        curves: One entry per attack at several ε.
        corruptions: Accuracy under corruptions; None where none were asked for.
        shift: Accuracy on images from elsewhere, one entry per set.
        ood: Out-of-distribution detection, one entry per foreign set.
        ood_summary: What holds for all of them; None where there are none.
        seed: Seed of the attacks and of the sample.
        environment: When, where, by what versions.
        seconds: Wall time of the whole evaluation.
        samples: Per-sample outcomes: ``index`` (place in the split), ``label``, ``clean_prediction``, ``confidence``
            (the largest softmax probability), ``nll``, ``brier``, and for entry i of ``attacks``
            ``attack{i}_prediction``, ``attack{i}_broken``, ``attack{i}_norm``, ``attack{i}_step`` (as
            ``broken_at_step`` of a result), ``attack{i}_queries``, ``attack{i}_part``; the scores of detectors on
            these images as ``ood_in_DETECTOR``, and on those of entry i of ``ood`` as ``ood{i}_DETECTOR``, beside
            their places ``ood{i}_index``; ``corruption_NAME_SEVERITY``, predictions, and ``corruption_label`` where
            they are not of these images; for entry i of ``shift`` ``shift{i}_prediction`` and ``shift{i}_label``. Of
            the ``gallery`` images of entry i of ``attacks``, ``gallery{i}_index`` (place in the split),
            ``gallery{i}_clean`` (m, C, H, W) uint8 and ``gallery{i}_perturbation`` (m, C, H, W) float16, what the
            attack added on the [0, 1] scale. Not part of the JSON.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, serialize_by_alias=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    model: ModelSummary
    dataset: str
    split: str
    n: int
    data: dict[str, Any]
    classes: list[str] = []
    samples_sha256: str
    samples_file: str | None = None
    clean: CleanResult
    attacks: list[AttackEntry]
    curves: list[CurveEntry] = []
    corruptions: CorruptionResult | None = None
    shift: list[ShiftEntry] = []
    ood: list[OodEntry] = []
    ood_summary: OodSummary | None = None
    seed: int
    environment: dict[str, Any]
    seconds: float
    samples: Samples | None = Field(default=None, exclude=True, repr=False)

    def to_json(self) -> str:
        """Return the record as indented JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)

    def save(self, path: str | Path) -> None:
        """Write the record to ``path`` and the outcomes per sample to ``<stem>.samples.npz`` beside it.

        The record is written last, so that one that is there is always complete.

        Raises:
            EvaluationError: A file cannot be written.
        """
        path = Path(path)
        try:
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            if self.samples is not None:
                self.samples_file = f"{path.stem}.samples.npz"
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **self.samples)  # type: ignore[arg-type]
                write_atomically(path.with_name(self.samples_file), buffer.getvalue())
            write_atomically(path, (self.to_json() + "\n").encode())
        except OSError as error:
            raise EvaluationError(f"the record cannot be written to {path}: {error.strerror}") from error


def load_record(path: str | Path) -> Record:
    """Read a record and, if it is there, the file of per-sample outcomes beside it.

    Raises:
        EvaluationError: The record is missing, no JSON, or of another schema; or its outcomes are damaged or
            those of another record.
    """
    path = Path(path)
    try:
        record = Record.model_validate_json(path.read_bytes())
    except OSError as error:
        raise EvaluationError(f"the record {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise EvaluationError(f"{path} is no record of this version: {where}: {problem['msg']}") from error
    if record.samples_file is None:
        return record
    # Only the name counts: a record does not get to point at files elsewhere.
    beside = path.parent / Path(record.samples_file).name
    if beside.is_file():
        record.samples = _load_samples(beside)
        contradiction = _contradiction(record, record.samples)
        if contradiction:
            raise EvaluationError(
                f"the outcomes per sample in {beside} are not those of the record {path}: {contradiction}; "
                "evaluate again, or delete them to read the record alone"
            )
    return record


def _load_samples(path: Path) -> Samples:
    try:
        # From memory: numpy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        # Damage shows as errors of zipfile, zlib, struct, numpy … depending on where it is.
        raise EvaluationError(f"the outcomes per sample in {path} cannot be read: {error}") from error


def _contradiction(record: Record, samples: Samples) -> str | None:
    """Return how the outcomes differ from what the record says of them, or None."""
    attacked = [f"attack{i}_{what}" for i in range(len(record.attacks)) for what in ("prediction", "broken", "norm")]
    lengths = dict.fromkeys(["index", "label", "clean_prediction", *attacked], record.n)
    # Records of earlier versions lack all of one of these groups; one that lacks a part of it is damaged.
    later = [
        ["confidence", "nll", "brier"],
        [f"attack{i}_{what}" for i in range(len(record.attacks)) for what in ("step", "queries", "part")],
    ]
    lengths |= {name: record.n for group in later if samples.keys() & set(group) for name in group}
    lengths |= _score_lengths(record) | _corruption_lengths(record)
    galleries = {i: entry.gallery for i, entry in enumerate(record.attacks) if entry.gallery}
    lengths |= {f"gallery{i}_index": count for i, count in galleries.items()}
    expected = {*lengths, *(f"gallery{i}_{what}" for i in galleries for what in ("clean", "perturbation"))}
    if samples.keys() != expected:
        return f"they hold {', '.join(sorted(samples))}, not {', '.join(sorted(expected))}"
    for name in lengths:
        if samples[name].shape != (lengths[name],) or samples[name].dtype.kind not in "biuf":
            return f"{name} is not one number for each of {lengths[name]} samples"
    for i, count in galleries.items():
        problem = _gallery_problem(samples, i, count)
        if problem:
            return problem
    shares: dict[str, tuple[float, NDArray[Any]]]
    shares = {"clean accuracy": (record.clean.accuracy, samples["clean_prediction"] == samples["label"])}
    if "nll" in samples:
        shares |= {name: (getattr(record.clean, name), samples[name]) for name in ("nll", "brier")}
    for i, entry in enumerate(record.attacks):
        shares[f"robust accuracy under {entry.name}"] = entry.robust_accuracy, samples[f"attack{i}_broken"] == 0
    for name, row in record.corruptions.table.items() if record.corruptions else ():
        truth = samples.get("corruption_label", samples["label"])
        for i, said in enumerate(row, start=1):
            shares[f"accuracy under {name} {i}"] = said, samples[f"corruption_{name}_{i}"] == truth
    for i, shifted in enumerate(record.shift):
        right = samples[f"shift{i}_prediction"] == samples[f"shift{i}_label"]
        shares[f"accuracy on {shifted.name}"] = shifted.accuracy, right
    for i, foreign in enumerate(record.ood):
        for name, figures in foreign.detectors.items():
            if figures.auroc is not None:
                below = _share_below(samples[f"ood{i}_{name}"], samples[f"ood_in_{name}"])
                shares[f"AUROC of {name} on {foreign.dataset}"] = figures.auroc, below
    for what, (said, survived) in shares.items():
        if abs(said - survived.mean(dtype=np.float64)) > 1e-6 * max(1, said):
            return f"the {what} is {said:.4f} in the record and {survived.mean():.4f} here"
    return None


def _gallery_problem(samples: Samples, entry: int, count: int) -> str | None:
    """Return what is wrong with the images of an attack, or None."""
    clean, added = samples[f"gallery{entry}_clean"], samples[f"gallery{entry}_perturbation"]
    if clean.dtype != np.uint8 or clean.ndim != 4 or len(clean) != count or clean.shape[1] not in (1, 3):
        return f"gallery{entry}_clean is not {count} images"
    if added.dtype != np.float16 or added.shape != clean.shape or not np.isfinite(added).all():
        return f"gallery{entry}_perturbation is not one finite number for each pixel of {count} images"
    if not np.isin(samples[f"gallery{entry}_index"], samples["index"]).all():
        return f"gallery{entry}_index names images that were not evaluated"
    return None


def _share_below(scores: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Return the shares of others below each score, ties half; their mean is the area under the ROC curve."""
    # Sorted, as looking up neighbours one after the other is several times as fast.
    scores, others = np.sort(scores), np.sort(others)
    return (np.searchsorted(others, scores, "left") + np.searchsorted(others, scores, "right")) / (2 * len(others))


def _corruption_lengths(record: Record) -> dict[str, int]:
    """Return how many predictions under corruptions and on shifted sets lie beside the record."""
    lengths: dict[str, int] = {}
    if record.corruptions is not None:
        found = record.corruptions
        cells = [f"corruption_{name}_{i}" for name, row in found.table.items() for i in range(1, len(row) + 1)]
        lengths |= dict.fromkeys([*cells, *(["corruption_label"] if found.consistency is None else [])], found.n)
    for i, entry in enumerate(record.shift):
        lengths |= {f"shift{i}_prediction": entry.n, f"shift{i}_label": entry.n}
    return lengths


def _score_lengths(record: Record) -> dict[str, int]:
    """Return how many scores of each detector lie beside the record."""
    if record.ood_summary is None:
        return {}
    selective = record.ood_summary.selective.items()
    scored = {"ood_in": (record.n, [name for name, found in selective if found.reason is None])}
    scored["ood_shifted"] = record.n, record.ood_summary.shifted
    for place, entry in enumerate(record.ood):
        told_apart = [name for name, found in entry.detectors.items() if found.auroc is not None]
        scored[f"ood{place}"] = entry.n_out, told_apart
    return {f"{prefix}_{each}": n for prefix, (n, names) in scored.items() if names for each in ("index", *names)}
