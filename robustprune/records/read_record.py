"""Reading a record, and the outcomes per sample beside it, which have to be those that it speaks of."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from robustprune.errors import EvaluationError
from robustprune.metrics import proven, shares_below
from robustprune.records.schema import Record, Samples


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
        record = Record.model_validate_json(content)
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


def contradiction(record: Record, samples: Samples) -> str | None:
    """Return how the outcomes differ from what the record says of them, or None."""
    return _shape_problem(record, samples) or next(
        (
            f"the {what} is {said:.4f} in the record and {found.mean():.4f} here"
            for what, said, found in _figures(record, samples)
            if abs(said - found.mean(dtype=np.float64)) > 1e-6 * max(1, said)
        ),
        None,
    )


def _shape_problem(record: Record, samples: Samples) -> str | None:
    """Return what is missing, too much, or of another shape than the record calls for."""
    of_attacks = ("prediction", "broken", "norm", "step", "queries", "part")
    attacked = [f"attack{i}_{what}" for i in range(len(record.attacks)) for what in of_attacks]
    attacked += [f"attack{i}_distance" for i, entry in enumerate(record.attacks) if entry.distance is not None]
    lengths = dict.fromkeys(["index", "label", "clean_prediction", "confidence", "nll", "brier", *attacked], record.n)
    lengths |= _score_lengths(record) | _corruption_lengths(record)
    if record.certified is not None:
        of_radii = ("index", "label", "prediction", "radius")
        lengths |= {f"certified_{what}": record.certified.n for what in of_radii}
    galleries = {i: entry.gallery for i, entry in enumerate(record.attacks) if entry.gallery}
    lengths |= {f"gallery{i}_index": count for i, count in galleries.items()}
    expected = {*lengths, *(f"gallery{i}_{what}" for i in galleries for what in ("clean", "perturbation"))}
    if samples.keys() != expected:
        return f"they hold {', '.join(sorted(samples))}, not {', '.join(sorted(expected))}"
    for name in lengths:
        if samples[name].shape != (lengths[name],) or samples[name].dtype.kind not in "biuf":
            return f"{name} is not one number for each of {lengths[name]} samples"
    problems = (_gallery_problem(samples, i, count) for i, count in galleries.items())
    return next(filter(None, problems), None)


def _figures(record: Record, samples: Samples) -> Iterator[tuple[str, float, NDArray[Any]]]:
    """Yield what a figure is called, what the record says it is, and the outcomes whose mean it has to be."""
    yield "clean accuracy", record.clean.accuracy, samples["clean_prediction"] == samples["label"]
    yield from ((name, getattr(record.clean, name), samples[name]) for name in ("nll", "brier"))
    for i, entry in enumerate(record.attacks):
        yield f"robust accuracy under {entry.name}", entry.robust_accuracy, samples[f"attack{i}_broken"] == 0
    for name, row in record.corruptions.table.items() if record.corruptions else ():
        truth = samples.get("corruption_label", samples["label"])
        for i, said in enumerate(row, start=1):
            yield f"accuracy under {name} {i}", said, samples[f"corruption_{name}_{i}"] == truth
    for i, shifted in enumerate(record.shift):
        right = samples[f"shift{i}_prediction"] == samples[f"shift{i}_label"]
        yield f"accuracy on {shifted.name}", shifted.accuracy, right
    if record.certified is not None:
        right = samples["certified_prediction"] == samples["certified_label"]
        for each in record.certified.at:
            found = proven(samples["certified_radius"], right, each.radius)
            yield f"certified accuracy at {each.radius:g}", each.accuracy, found
        yield "average certified radius", record.certified.average_radius, samples["certified_radius"] * right
    for i, others in enumerate(record.ood):
        for name, figures in others.detectors.items():
            if figures.auroc is not None:
                below = shares_below(samples[f"ood{i}_{name}"], samples[f"ood_in_{name}"])
                yield f"AUROC of {name} on {others.dataset}", figures.auroc, below


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
