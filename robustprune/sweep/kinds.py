"""What each kind of stage does: reads the outcomes of those it needs, leaves its own in a folder of work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robustprune.comparison import compare
from robustprune.errors import SweepError
from robustprune.evaluation import evaluate, relate_to_dense
from robustprune.pruning import BlockScores, FilterScores
from robustprune.records import load_record
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.files import write_atomically
from robustprune.runtime.work import Work
from robustprune.sweep.graph import Stage
from robustprune.sweep.job import Job, Tell
from robustprune.sweep.spec import EvaluateSettings
from robustprune.sweep.store import Store
from robustprune.tickets import prune_weights
from robustprune.tickets.draws import Draw
from robustprune.tickets.finding import cut, score, set_back
from robustprune.tickets.rewinding import RewindPoint
from robustprune.training import CHECKPOINT_NAME, train, train_to_file


def train_dense(job: Job) -> None:
    """Train a dense network, and keep it as it was after the epochs that tickets are rewound to."""
    keep = {epoch: job.work / f"epoch-{epoch}.pt" for epoch in job.stage.hints.get("keep", ())}
    train_to_file(job.fresh(), job.data(), job.work / "ticket.pt", keep=keep, resume=True, **job.training())


def find_weights(job: Job) -> None:
    """Get a dense network as it was after some epochs: kept then, or by going through them again.

    Raises:
        SweepError: Training comes out differently now.
    """
    epoch, out = job.inputs["epoch"], job.work / "ticket.pt"
    kept = job.needed("dense", f"epoch-{epoch}.pt")
    if kept.exists():
        write_atomically(out, kept.read_bytes())
        return
    dense = job.store.describe(job.stage.needs["dense"])
    again = replace(job, stage=replace(job.stage, inputs=dense["inputs"]))
    ticket = train(again.fresh(), again.data(), stop_epoch=epoch, **again.training())
    losses = [[each["train_loss"] for each in found.history[:epoch]] for found in (job.ticket("dense"), ticket)]
    if losses[0] != losses[1]:
        raise SweepError(
            f"the weights of epoch {epoch} were not kept when the dense network was trained, and its training comes "
            "out differently on this machine now; rewind to epochs that were kept, or start over in another folder"
        )
    ticket.save(out)
    (job.work / CHECKPOINT_NAME).unlink(missing_ok=True)


def score_network(job: Job) -> None:
    """Score blocks, or filters."""
    draw = _draw(job, "layer" if job.inputs["of"] == "blocks" else "filter")
    found = score(job.base(), job.data(), draw, job.inputs["seed"])
    values = {name: value if isinstance(value, float) else value.tolist() for name, value in found.items()}
    own = {name: getattr(found, name) for name in ("criterion", "options", "seed", "seconds")}
    write_atomically(job.work / "scores.json", json.dumps({"scores": values, **own}, indent=2).encode())


def prune_network(job: Job) -> None:
    """Cut a ticket out."""
    inputs, base = job.inputs, job.base()
    if inputs["method"] == "weight":
        settings = {name: inputs[name] for name in ("criterion", "sparsity", "rounds", "seed")}
        ticket = prune_weights(base, job.data(), **settings, **inputs["options"])
    else:
        scores = _read_scores(job.needed("scores", "scores.json"))
        how = {"eligibility": inputs["eligibility"], "match_by": inputs.get("match_by", "filters")}
        draw = Draw(scores.criterion, inputs["blocks"], inputs["method"], **how)
        match = job.ticket("match") if "match" in job.stage.needs else None
        ticket = cut(base, scores, draw, match)
    ticket.network.cpu()
    ticket.save(job.work / "ticket.pt")


def train_ticket(job: Job) -> None:
    """Set a ticket's weights back, and train it for the epochs that are left."""
    point = RewindPoint(job.inputs["epoch"], job.inputs["random"])
    found = job.ticket("ticket")
    dense = job.ticket("weights") if point.epoch else job.fresh()
    ticket = set_back(found, point, dense)
    train_to_file(ticket, job.data(), job.work / "ticket.pt", start_epoch=point.epoch, resume=True, **job.training())


def evaluate_network(job: Job) -> None:
    """Evaluate a network; what was finished of its attacks is picked up."""
    asked = EvaluateSettings(**job.stage.hints["evaluate"]).request()
    ticket = job.ticket("network")
    ticket.network.to(job.device)
    attacks = asked.attacks
    if "source" in job.stage.needs:
        attacks = attacks.model_copy(update={"transfer_from": job.ticket("source").model().to(job.device)})
    work = Work(progress=job.progress, folder=job.work / "attacks")
    record = evaluate(ticket, job.data(), asked, work=work, attacks=attacks)
    if "dense" in job.stage.needs:
        relate_to_dense(record, load_record(job.needed("dense", "record.json")))
    record.save(job.work / "record.json")
    shutil.rmtree(job.work / "attacks", ignore_errors=True)


def compare_networks(job: Job) -> None:
    """Compare tickets with dense networks, from their records."""
    groups = {
        name: [str(job.needed(role, "record.json")) for role in roles] for name, roles in job.inputs["groups"].items()
    }
    found = compare(groups.pop("dense"), groups)
    write_atomically(job.work / "comparison.json", json.dumps(found.to_dict(), indent=2, allow_nan=False).encode())


def _draw(job: Job, method: Any) -> Draw:
    # How many blocks go, and by which rule, is not what scores depend on.
    return Draw(job.inputs["criterion"], 1, method, job.inputs["options"])


def _read_scores(path: Path) -> BlockScores | FilterScores:
    found = json.loads(path.read_text())
    scores = found.pop("scores")
    if all(isinstance(value, float) for value in scores.values()):
        return BlockScores(scores, **found)
    return FilterScores({name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}, **found)


def do(stage: Stage, store: Store, tell: Tell) -> dict[str, Any]:
    """Do a stage in its folder of work; return where and by what it was done."""
    torch.set_num_threads(stage.inputs["threads"])
    job = Job(stage, store, store.work(stage.address), tell)
    environment = {**describe_environment(), "device": job.device.type}
    _start_over_elsewhere(job.work, {name: environment[name] for name in ("torch", "platform", "device")})
    KINDS[stage.kind](job)
    (job.work / _STARTED).unlink()
    return environment


def _start_over_elsewhere(work: Path, place: Mapping[str, Any]) -> None:
    """Drop what was begun with another release of torch or on another device, which would not fit what follows."""
    started = work / _STARTED
    for leftover in work.rglob(".*.tmp"):  # of a writer that was killed: nobody else writes here now
        leftover.unlink(missing_ok=True)
    if started.exists() and json.loads(started.read_text()) != place:
        shutil.rmtree(work)
    write_atomically(started, json.dumps(place).encode())


_STARTED = "started.json"

KINDS: dict[str, Callable[[Job], None]] = {
    "dense": train_dense,
    "weights": find_weights,
    "score": score_network,
    "prune": prune_network,
    "train": train_ticket,
    "evaluate": evaluate_network,
    "compare": compare_networks,
}
