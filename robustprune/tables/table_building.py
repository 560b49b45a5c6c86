"""Building a table: its sweep, and the rows that come of the records."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustprune._version import __version__
from robustprune.errors import TableError
from robustprune.pruning import Block, kept_profile, write_profile
from robustprune.runtime.progress import counted, shown_progress
from robustprune.sweep import Store, run_here, run_sweep
from robustprune.sweep.graph import SweepPlan
from robustprune.sweep.query.record_rows import attack_column, measured
from robustprune.sweep.settings import RunSettings
from robustprune.sweep.status import State, Watch
from robustprune.tables.table_file import Row, write_table_file
from robustprune.tables.table_spec import TableSpec
from robustprune.tables.ticket_table import TicketTable, blocks_of
from robustprune.tickets.requests import Pruning

_ROUNDING = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR")
"""Variables that decide by which instructions sums are rounded, and so whether a network comes out the same."""

# What the columns beside them say already, and what is said of attacks and not of networks.
_LEFT_OUT = r"_aupr_|_optimality$|^corruption_(mean_error|relative|mce)"


def build_table(
    spec: TableSpec, folder: str | Path, out: str | Path, *, workers: int | None = None, watch: Watch | None = None
) -> State:
    """Train, evaluate and write down all networks of a table; what is done in the folder already is not done again.

    Args:
        spec: What it is made of.
        folder: That of the sweep; it keeps every network and record.
        out: The file to write.
        workers: Processes side by side, as for a sweep.
        watch: Told of every change.

    Returns:
        Where the sweep stands; with failures nothing is written.
    """
    state = run_sweep(spec.sweep(), folder, workers=workers, watch=watch)
    if not state.failed:
        write_table(spec, state.plan, Store(folder), Path(out))
    return state


def retrain(table: TicketTable, removed: Sequence[str], seed: int, folder: Path) -> dict[str, Any]:
    """Train and evaluate one network of a table anew; return its figures beside those that the table has.

    ``is_alike`` says whether this machine is to come to the same network: the processor is of the same kind, and torch
    of the same version.

    Raises:
        TableError: It has no such network.
    """
    wanted = tuple(block.name for block in table.spec.blocks if block.name in removed)
    own = [row for row in table.rows if row["seed"] == seed and row["method"] != "filter" and blocks_of(row) == wanted]
    if seed not in table.seeds:
        raise TableError(f"{table.name} has no seed {seed}; its seeds are {table.seeds[0]} to {table.seeds[-1]}")
    if not own or len(wanted) < len(set(removed)):
        kept = write_profile(kept_profile(table.spec.blocks, wanted))
        drawn = [row["removed"] for row in table.layer_tickets if (row["seed"], row["kept"]) == (seed, kept)]
        instead = f"; of {kept}, it has the one without {drawn[0]}" if table.draws_blocks and drawn else ""
        raise TableError(f"{table.name} has no ticket of seed {seed} without {', '.join(removed)}{instead}")
    shared = table.spec.model_dump(mode="json", include=set(RunSettings.model_fields) - {"pruning", "seed"})
    pruning = Pruning(blocks=list(wanted)) if wanted else Pruning("dense")
    (found,) = run_here("check", [RunSettings(**shared, pruning=pruning, seed=seed)], None, folder, shown_progress())
    record = found.read()
    now = _row(json.loads(record.to_json()), {"seed": seed, "method": own[0]["method"]}, table.spec.blocks)
    figures = ["sha256", *table.metrics]
    return {
        "is_same": now["sha256"] == own[0]["sha256"],
        "is_alike": (processor_kind(), torch.__version__) == (table.facts["processor"], table.facts["torch"]),
        "table": {name: own[0][name] for name in figures},
        "now": {name: now[name] for name in figures},
    }


def processor_kind() -> str:
    """Return how a processor rounds sums: its maker and the instructions that torch uses, ``GenuineIntel AVX512``."""
    try:
        found = re.search(r"^vendor_id\s*:\s*(\S+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    maker = found[1] if found else platform.machine()
    return f"{maker} {torch.backends.cpu.get_cpu_capability()}"


def write_table(spec: TableSpec, plan: SweepPlan, store: Store, out: Path) -> None:
    """Write the table of a sweep that is done."""
    rows, machines = [], set()
    for run in counted(plan.runs, shown_progress(), "reading records"):
        path = store.record(run.stage)
        record = json.loads(path.read_text())
        rows.append(_row(record, run.settings, spec.blocks) | _outcomes(record, path))
        trained = store.describe(plan.stages[run.stage].needs["network"])["environment"]
        machines.add(json.dumps({name: trained.get(name) for name in ("torch", "platform")}, sort_keys=True))
    rows.sort(
        key=lambda row: (row["seed"], row["method"], row["removed"].count(","), row["removed"], row["match_by"] or "")
    )
    facts = {
        "name": spec.name,
        "images": record["n"],
        "spec": spec.model_dump(mode="json", exclude={"pruning", "seed"}),
        "robustprune": __version__,
        "machines": [json.loads(each) for each in sorted(machines)],
        "processor": processor_kind(),
        "variables": {name: os.environ.get(name) for name in _ROUNDING},
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    write_table_file(out, rows, facts)


def _row(record: Mapping[str, Any], settings: Mapping[str, Any], blocks: Sequence[Block]) -> Row:
    model, training = record["model"], record["model"]["training"]
    match, memory = model["plan"].get("match"), model["memory_bytes"] or {}
    gone = match["removed"] if match else model["removed"]
    return {
        "seed": settings["seed"],
        "method": settings["method"],
        "kept": write_profile(kept_profile(blocks, gone)),
        "removed": ", ".join(gone),
        "match_by": match["by"] if match else None,
        **{name: model[name] for name in ("parameters", "macs", "filters")},
        "training_memory": sum(memory[part] for part in ("parameters", "buffers", "activations")) if memory else None,
        "training_seconds": training["seconds"],
        "training_energy_kwh": training.get("energy_kwh"),
        "sha256": model["sha256"],
        **{name: record["clean"][name] for name in ("accuracy", "nll", "ece", "brier")},
        **{name: value for name, value in measured(record).items() if not re.search(_LEFT_OUT, name)},
    }


def _outcomes(record: Mapping[str, Any], path: Path) -> Row:
    """Return, packed, which images were classified rightly: as they are, attacked, and corrupted at each severity."""
    if not record["samples_file"]:
        raise TableError(f"the outcomes of {path} are not there; a table keeps those of every image")
    with np.load(path.parent / record["samples_file"]) as samples:
        return {f"right_{name}": np.packbits(right, axis=-1).tobytes() for name, right in _right(record, samples)}


def _right(record: Mapping[str, Any], samples: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    labels = samples["label"]
    yield "clean", samples["clean_prediction"] == labels
    for number, entry in enumerate(record["attacks"]):
        yield attack_column(entry), ~samples[f"attack{number}_broken"]
    for name, severities in (record["corruptions"] or {"table": {}})["table"].items():
        found = [samples[f"corruption_{name}_{severity}"] for severity in range(1, len(severities) + 1)]
        yield name, np.stack(found) == labels
