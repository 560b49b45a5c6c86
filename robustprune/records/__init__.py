"""The record of an evaluation: its schema, its file, and the outcomes per sample beside it."""

from robustprune.records.reading import load_record
from robustprune.records.schema import (
    AttackEntry,
    BlockSummary,
    CheckResult,
    CleanResult,
    CurveEntry,
    ModelSummary,
    Record,
    Samples,
)

__all__ = [
    "AttackEntry",
    "BlockSummary",
    "CheckResult",
    "CleanResult",
    "CurveEntry",
    "ModelSummary",
    "Record",
    "Samples",
    "load_record",
]
