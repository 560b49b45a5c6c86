"""The record of an evaluation: what it says, writing it, and where the outcomes per sample lie."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from robustprune.attacks.attack_ranking import OptimalityEntry
from robustprune.corruptions.corruption_result import CorruptionResult, ShiftEntry
from robustprune.errors import EvaluationError
from robustprune.inference.certified_result import CertifiedResult
from robustprune.ood.ood_result import OodEntry, OodSummary
from robustprune.records.record_table import record_table
from robustprune.records.tidy import COLUMNS, OF_TRAINING, tidy_rows
from robustprune.registry import missing_package
from robustprune.runtime.file_kinds import OUTCOMES, RECORD, check_replaceable, may_overwrite
from robustprune.runtime.files import all_printable, printable, write_atomically

if TYPE_CHECKING:
    import pandas

Interval = tuple[float, float]
Samples = dict[str, NDArray[Any]]


class _RecordPart(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class BlockSummary(_RecordPart):
    """One residual block of the dense network: its stage, whether it could have gone and whether it did.

    ``score`` is the importance that decided it, in the criterion's own unit; None where the last round of pruning
    did not score it.
    """

    name: str
    stage: int
    eligible: bool
    removed: bool
    score: float | None


class ModelSummary(_RecordPart):
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

    @property
    def seed(self) -> int | None:
        """The seed it was trained with, else that of its initial weights; None for a network that knows neither."""
        seed = self.training.get("seed", self.initial_seed)
        return None if seed is None else int(seed)

    @property
    def training_memory(self) -> int | None:
        """Bytes of parameters, buffers and activations in training; None where they are not known."""
        found = self.memory_bytes
        return None if not found else sum(found[part] for part in ("parameters", "buffers", "activations"))

    @property
    def costs(self) -> dict[str, float | None]:
        """What the network costs, first what is counted, then what is measured; None where it is not known."""
        return {
            "macs": self.macs,
            "parameters": self.parameters,
            "memory": self.training_memory,
            "latency": (self.latency_ms or {}).get("median"),
            **{name: self.training.get(known_as) for name, known_as in OF_TRAINING.items()},
        }


class CleanResult(_RecordPart):
    """Unattacked images: accuracy with its 95 % Wilson interval, NLL in nats, ECE over 15 bins, Brier score."""

    accuracy: float
    interval: Interval
    nll: float
    ece: float
    brier: float


class CheckResult(_RecordPart):
    """One reason to believe an attack's number, or not."""

    name: str
    verdict: Literal["PASS", "WARN", "FAIL", "INFO"]
    detail: str


class SampledEntry(_RecordPart):
    """A second phase that attacked some survivors of the first: how many, and what it says of all of them.

    ``interval`` is that of the robust accuracy which both phases on all samples find, ``passes`` what that takes.
    """

    survivors: int
    sampled: int
    broken: int
    interval: Interval
    passes: int


class MedianDistance(_RecordPart):
    """The distance within which half of the samples break, and its 95 % interval between order statistics.

    None where it is not known: more samples were not broken, at any distance, or there are fewer than six.
    """

    median: float | None
    low: float | None
    high: float | None


class AttackEntry(_RecordPart):
    """One attack at one budget. ``robust_accuracy`` means nothing where ``valid`` is false.

    ``parts`` are the names that ``attack{i}_part`` of the outcomes per sample points to: the attack, or part of an
    ensemble or a union, that broke a sample; ``clean`` where none was needed, empty where none succeeded. ``gallery``
    is how many of its images lie beside the record. ``distance`` is that of a minimum-norm attack, whatever the budget.
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
    sampled: SampledEntry | None = None
    distance: MedianDistance | None = None


class CurveEntry(_RecordPart):
    """Robust accuracy of one attack against its budget; the median budget that breaks a sample, if half are broken."""

    name: str
    norm: str
    epsilons: list[float]
    robust_accuracy: list[float]
    valid: bool
    median_minimal_epsilon: float | None


class Record(_RecordPart):
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
        asked: The :class:`robustprune.Evaluation` as plain values, from which it can be run again; without what no
            file can hold, such as a network to transfer from. Empty in records of earlier versions.
        clean: Results without an attack.
        attacks: One entry per attack and ε.
        curves: One entry per attack at several ε.
        optimality: How close each attack comes to the best of its norm; empty where this cannot be told.
        corruptions: Accuracy under corruptions; None where none were asked for.
        shift: Accuracy on images from elsewhere, one entry per set.
        certified: Certified accuracy by randomized smoothing; None where none was asked for.
        ood: Out-of-distribution detection, one entry per set.
        ood_summary: What holds for all of them; None where there are none.
        seed: Seed of the attacks, of noise and of the sample.
        environment: When, where, by what versions.
        seconds: Wall time of the whole evaluation.
        samples: Per-sample outcomes: ``index`` (place in the split), ``label``, ``clean_prediction``, ``confidence``
            (the largest softmax probability), ``nll``, ``brier``, and for entry i of ``attacks``
            ``attack{i}_prediction``, ``attack{i}_broken``, ``attack{i}_norm``, ``attack{i}_step`` (as
            ``broken_at_step`` of a result), ``attack{i}_queries``, ``attack{i}_part``, of a minimum-norm attack
            ``attack{i}_distance`` (as ``distances`` of a result); the scores of detectors on
            these images as ``ood_in_DETECTOR``, and on those of entry i of ``ood`` as ``ood{i}_DETECTOR``, beside
            their places ``ood{i}_index``; ``corruption_NAME_SEVERITY``, predictions, and ``corruption_label`` where
            they are not of these images; for entry i of ``shift`` ``shift{i}_prediction`` and ``shift{i}_label``; for
            ``certified`` ``certified_index`` (place in the split), ``certified_label``, ``certified_prediction`` (−1
            where it abstains) and ``certified_radius`` (L2; 0 where it abstains). Of
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
    asked: dict[str, Any] = {}
    clean: CleanResult
    attacks: list[AttackEntry]
    curves: list[CurveEntry] = []
    optimality: list[OptimalityEntry] = []
    corruptions: CorruptionResult | None = None
    shift: list[ShiftEntry] = []
    certified: CertifiedResult | None = None
    ood: list[OodEntry] = []
    ood_summary: OodSummary | None = None
    seed: int
    environment: dict[str, Any]
    seconds: float
    samples: Samples | None = Field(default=None, exclude=True, repr=False)

    def to_json(self) -> str:
        r"""Return the record as indented JSON; bytes of names that are no UTF-8 are written as ``\xe9``."""
        return json.dumps(all_printable(self.model_dump(mode="json")), indent=2, allow_nan=False)

    def to_frame(self) -> pandas.DataFrame:
        """Return a tidy table: one row for each number that was measured, with what it was measured under.

        Columns: ``group`` (accuracy, robustness, distance, certification, corruptions, shift, ood, calibration, cost),
        ``metric``, ``name`` (of the attack, corruption or detector), ``dataset`` (whose images were seen: for ood and
        shift the other set), ``norm`` and ``epsilon`` ([0, 1] pixel units; of certified accuracy the radius),
        ``severity`` (1 to 5; none of means over corruptions), ``value`` as it stands in the record (shares in [0, 1],
        NLL in nats, costs in the units of the record: bytes, milliseconds, seconds, kWh, kg), ``low`` and ``high`` of
        its 95 % interval, ``n`` images, and ``valid``. The value is not there where ``valid`` is false: a check of the
        attack failed, or the corruption changed no image.

        Frames of several records are put together with ``pandas.concat({name: record.to_frame(), …})``.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise missing_package("to_frame", "pandas") from error
        rows = tidy_rows(self.model_dump(), self.model.costs)
        # Kinds are the same in every record, whatever it lacks.
        kinds = {**dict.fromkeys(("epsilon", "value", "low", "high"), "float64"), "valid": "bool"}
        kinds |= dict.fromkeys(("severity", "n"), "Int64")
        return pandas.DataFrame(rows, columns=list(COLUMNS), dtype="object").astype(kinds)

    def _repr_html_(self) -> str:
        return record_table(self.model_dump(), self.model.costs)

    def save(self, path: str | Path) -> None:
        """Write the record to ``path`` and the outcomes per sample to ``<name>.samples.npz`` beside it.

        The record is written last, so that one that is there is always complete. A record that is there is replaced.

        Raises:
            EvaluationError: A file cannot be written, files of other kinds are there, or outcomes that another record
                in the folder speaks of.
        """
        path = Path(path)
        try:
            check_replaceable(path, RECORD)
            if self.samples is not None:
                check_samples_are_free(path)
                beside = samples_path(path)
                self.samples_file = beside.name
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **self.samples)  # type: ignore[arg-type]
                write_atomically(beside, buffer.getvalue(), OUTCOMES)
            write_atomically(path, (self.to_json() + "\n").encode(), RECORD)
        except OSError as error:
            raise EvaluationError(f"the record cannot be written to {path}: {error.strerror}") from error


def samples_path(record: Path) -> Path:
    """Return the file of outcomes beside a record, named after all of its name, so that no two records share one."""
    return record.with_name(f"{printable(record.name)}.samples.npz")


def recorded_samples(record: Path) -> list[Path]:
    """Return the file of outcomes that a record names, whatever the record is called by now."""
    try:
        name = json.loads(record.read_bytes())["samples_file"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return []
    return [record.with_name(Path(name).name)] if isinstance(name, str) and Path(name).name else []


def check_samples_are_free(record: Path) -> None:
    """Check that no other record of the folder has its outcomes where those of this one go, as a renamed one has."""
    beside = samples_path(record)
    if may_overwrite() or not os.path.exists(beside):
        return
    for other in sorted(record.parent.iterdir()):
        if other.is_symlink() and os.path.realpath(other) == os.path.realpath(record):
            continue  # a link to the record, such as latest.json, is no other one
        if other.name not in (record.name, beside.name) and _names(other, beside.name):
            owned = f"{other} has its outcomes per sample in {beside.name}, which would be lost"
            reason = f"{owned}; choose another name, or add --overwrite"
            raise FileExistsError(errno.EEXIST, reason, str(beside))


def _names(path: Path, samples: str) -> bool:
    """Return whether a file is a record with outcomes in a file of this name."""
    try:
        with path.open("rb") as stream:
            return stream.read(1) == b"{" and f'"samples_file": {json.dumps(samples)}'.encode() in stream.read()
    except OSError:
        return False
