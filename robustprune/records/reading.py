"""Reading a record, and the outcomes per sample beside it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from robustprune.errors import EvaluationError
from robustprune.records.outcomes import contradiction
from robustprune.records.schema import Record, Samples
from robustprune.runtime.files import all_printable


def load_record(path: str | Path) -> Record:
    """Read a record and, if it is there, the file of per-sample outcomes beside it.

    Raises:
        EvaluationError: The record is missing, no JSON, or of another schema; or its outcomes are damaged or
            those of another record.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        if content.startswith(b"PK"):
            raise EvaluationError(
                f"{path} is no record but an archive of arrays, such as a ticket; `robustprune evaluate --model {path} "
                "--out FILE.json` writes the record of a ticket"
            )
        record = _parse(content)
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
        differing = contradiction(record, record.samples)
        if differing:
            raise EvaluationError(
                f"the outcomes per sample in {beside} are not those of the record {path}: {differing}; "
                "evaluate again, or delete them to read the record alone"
            )
    return record


def _parse(content: bytes) -> Record:
    """Return the record in a file's content."""
    if b"\\ud" not in content.lower():
        return Record.model_validate_json(content)
    # Earlier versions wrote bytes of names that are no UTF-8 as lone surrogates, which are no JSON.
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return Record.model_validate_json(content)  # which says what is wrong
    return Record.model_validate(all_printable(found))


def _load_samples(path: Path) -> Samples:
    try:
        # From memory: numpy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        # Damage shows as errors of zipfile, zlib, struct, numpy … depending on where it is.
        # numpy takes what it does not know for a pickle, and says how to open it unsafely.
        reason = "it is no file of arrays" if "pickle" in str(error) else error
        raise EvaluationError(f"the outcomes per sample in {path} cannot be read: {reason}") from error
