"""The record of an evaluation: its schema, its file, and the outcomes per sample beside it."""

from robustprune.records.read_record import load_record
from robustprune.records.schema import (
    AttackEntry,
    BlockSummary,
    CheckResult,
    CleanResult,
    CurveEntry,
    MedianDistance,
    ModelSummary,
    Record,
    SampledEntry,
    Samples,
    check_samples_are_free,
    recorded_samples,
    samples_path,
)

__all__ = [
    "AttackEntry",
    "BlockSummary",
    "CheckResult",
    "CleanResult",
    "CurveEntry",
    "MedianDistance",
    "ModelSummary",
    "Record",
    "SampledEntry",
    "Samples",
    "check_samples_are_free",
    "load_record",
    "recorded_samples",
    "samples_path",
]
