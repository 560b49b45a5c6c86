"""The stages of a network's life: each reads the outcomes of those it needs, and leaves its own in a folder of work.

Dense training, weights of an epoch, scores, pruning, training between rounds of these, training of the ticket,
evaluation, comparison.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from robustprune.comparison import compare
from robustprune.comparison.interim_look import InterimLook
from robustprune.data import ImageData, load_data
from robustprune.errors import SweepError
from robustprune.evaluation import evaluate, relate_to_dense
from robustprune.evaluation.requests import Evaluation
from robustprune.models import build_model
from robustprune.models.user_file import own_code
from robustprune.pruning import BlockScores, FilterScores, TicketScores, score_tickets
from robustprune.records import load_record
from robustprune.runtime.devices import choose_device
from robustprune.runtime.environment import describe_environment
from robustprune.runtime.files import hash_json, write_atomically
from robustprune.runtime.work import Work
from robustprune.sweep.graph import Stage
from robustprune.sweep.store import Store
from robustprune.sweep.until import compare_at
from robustprune.tickets import prune_weights
from robustprune.tickets.finding import cut, score
from robustprune.tickets.joint import cheaper_cut
from robustprune.tickets.requests import Pruning
from robustprune.tickets.rewinding import RewindPoint, set_back
from robustprune.tickets.ticket import Ticket, load_ticket
from robustprune.training import CHECKPOINT_NAME, Recipe, train, train_to_file
from robustprune.training.course import Course

Tell = Callable[[str, float], None]
"""Called with what is being done and how much of it is done, from 0 to 1."""

_STARTED = "started.json"
_OF_A_CUT = ("method", "blocks", "unit", "budget", "search", "objective", "eligibility", "choice", "match_by")


@dataclass(frozen=True)
class Job:
    """A stage to be done, on images that are at hand or loaded; told of as work proceeds."""

    stage: Stage
    store: Store
    tell: Tell
    images: ImageData | None = None

    @property
    def work(self) -> Path:
        """The folder to leave the outcome in."""
        return self.store.work(self.stage.address)

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What decides the outcome."""
        return self.stage.inputs

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return choose_device(self.stage.hints["device"])

    def data(self) -> ImageData:
        """Return the image set, which has to be the one that was planned with."""
        data = self.images or _load(json.dumps(self.stage.hints["data"]))
        if self.inputs.get("data") not in (None, hash_json(data.identity)):
            raise SweepError(f"the images of {data.name} are not those that the sweep was planned with; start it again")
        return data

    def needed(self, role: str, name: str) -> Path:
        """Return a file that a stage left which this one needs."""
        return self.store.stage(self.stage.needs[role]) / name

    def ticket(self, role: str) -> Ticket:
        """Return the ticket that a stage left which this one needs."""
        return self.load(self.stage.needs[role])

    def load(self, address: str) -> Ticket:
        """Return the ticket that a stage left."""
        return load_ticket(self.store.stage(address) / "ticket.pt", model_code=own_code(self.stage.hints["model"]))

    def fresh(self) -> Ticket:
        """Return the dense network with its initial weights."""
        hints, data = self.stage.hints, self.data()
        network = build_model(hints["model"], data, seed=int(self.inputs["seed"]), **hints["model_options"])
        return Ticket.from_model(network, data)

    def base(self) -> Ticket:
        """Return what is scored and cut: what the round before has left, the trained network, or the initial one."""
        role = next((each for each in ("before", "dense") if each in self.stage.needs), None)
        return self.fresh() if role is None else self.ticket(role)

    def training(self) -> dict[str, Any]:
        """Return what training takes beyond the ticket and the images."""
        return {
            "recipe": Recipe.of(self.inputs["recipe"]),
            "seed": int(self.inputs.get("order_seed", self.inputs["seed"])),
            "device": self.device,
            "country": self.stage.hints["country"],
            **({"teacher": self.ticket("teacher")} if "teacher" in self.stage.needs else {}),
        }

    @property
    def reporting_work(self) -> Work:
        """How the work is carried out: telling how far it is, and kept in the folder of work."""
        return Work(progress=lambda label, done, total: self.tell(label, done / max(total, 1)), folder=self.work)


@lru_cache(maxsize=2)  # a worker does many stages on the same images
def _load(settings: str) -> ImageData:
    return load_data(**json.loads(settings))


def train_dense(job: Job) -> None:
    """Train a dense network, and keep it as it was after the epochs that tickets are rewound to."""
    keep = {epoch: job.work / f"epoch-{epoch}.pt" for epoch in job.stage.hints.get("keep", ())}
    out = job.work / "ticket.pt"
    train_to_file(job.fresh(), job.data(), out, keep=keep, resume=True, work=job.reporting_work, **job.training())


def find_weights(job: Job) -> None:
    """Get a dense network as it was after some epochs: kept then, or by going through them again, if that is alike."""
    epoch, out = job.inputs["epoch"], job.work / "ticket.pt"
    kept = job.needed("dense", f"epoch-{epoch}.pt")
    if kept.exists():
        write_atomically(out, kept.read_bytes())
        return
    dense = job.store.describe(job.stage.needs["dense"])
    again = replace(job, stage=replace(job.stage, inputs=dense["inputs"]))
    ticket = train(again.fresh(), again.data(), stop_epoch=epoch, work=job.reporting_work, **again.training())
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
    method = "layer" if job.inputs["of"] == "blocks" else "filter"
    own = {name: job.inputs[name] for name in ("criterion", "options", "unit") if name in job.inputs}
    asked = Pruning(method, **own)
    found = score(job.base(), job.data(), asked, job.inputs["seed"], job.device, job.reporting_work)
    assert not isinstance(found, TicketScores), "a search scores whole tickets itself"
    values = {name: value if isinstance(value, float) else value.tolist() for name, value in found.items()}
    own = {name: getattr(found, name) for name in ("criterion", "options", "seed", "seconds", "unit")}
    write_atomically(job.work / "scores.json", json.dumps({"scores": values, **own}, indent=2).encode())


def prune_network(job: Job) -> None:
    """Cut a ticket out."""
    inputs, base = job.inputs, job.base()
    if inputs["method"] == "weight":
        settings = {name: inputs[name] for name in ("criterion", "sparsity", "rounds", "seed")}
        how = {"device": job.device, "work": job.reporting_work, **inputs["options"]}
        ticket = prune_weights(base, job.data(), **settings, **how)
    else:
        asked = {name: value for name, value in inputs.items() if name in _OF_A_CUT}
        match = job.ticket("match") if "match" in job.stage.needs else None
        ticket = cut(base, _scores_of(job, base), Pruning(**asked), match)
    ticket.network.cpu()
    ticket.save(job.work / "ticket.pt")


def _scores_of(job: Job, base: Ticket) -> BlockScores | TicketScores | FilterScores | None:
    """Return the scores that a stage left, or what scores whole tickets; None where blocks are named."""
    inputs = job.inputs
    if inputs.get("objective") == "ticket":
        how = {"seed": inputs["seed"], "device": job.device, "work": job.reporting_work, **inputs["options"]}
        return score_tickets(base.network, job.data(), inputs["criterion"], unit=inputs.get("unit", "block"), **how)
    return _read_scores(job.needed("scores", "scores.json")) if "scores" in job.stage.needs else None


def _read_scores(path: Path) -> BlockScores | FilterScores:
    found = json.loads(path.read_text())
    scores = found.pop("scores")
    if all(isinstance(value, float) for value in scores.values()):
        return BlockScores(scores, **found)
    return FilterScores({name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}, **found)


def decide(job: Job) -> None:
    """Take over the ticket without blocks or the one without filters, whichever costs less."""
    candidates = job.ticket("layers"), job.ticket("filters")
    how = {"seed": job.inputs["seed"], "device": job.device, "work": job.reporting_work, **job.inputs["options"]}
    ticket = cheaper_cut(job.base(), candidates, job.data(), job.inputs["criterion"], **how)
    ticket.network.cpu()
    ticket.save(job.work / "ticket.pt")


def tune_ticket(job: Job) -> None:
    """Train what a round has left, from its present weights."""
    out = job.work / "ticket.pt"
    train_to_file(job.ticket("ticket"), job.data(), out, resume=True, work=job.reporting_work, **job.training())


def train_ticket(job: Job) -> None:
    """Set a ticket's weights back, and train it for the epochs that are left.

    Criteria often choose the same blocks: what was trained alike before, from the same weights, is not trained again.
    """
    origin = {name: job.inputs[name] for name in ("epoch", "random", "shuffled", "none") if name in job.inputs}
    point, out = RewindPoint(**origin), job.work / "ticket.pt"
    ticket = set_back(job.ticket("ticket"), point, job.ticket("weights") if point.epoch else job.fresh())
    settings = {**job.training(), "start_epoch": point.epoch}
    # With what the network is made of: equal weights do not make its code the same.
    alike = hash_json([Course.of(**settings).identity(ticket, job.data()), job.inputs["network"]])
    trained_before = job.store.trained_alike(alike, job.stage.address)
    if trained_before is None:
        train_to_file(ticket, job.data(), out, resume=True, work=job.reporting_work, **settings)
        return
    trained = job.load(trained_before)
    trained.plan, trained.scores, trained.earlier_training = ticket.plan, ticket.scores, ticket.earlier_training
    trained.save(out)


def evaluate_network(job: Job) -> None:
    """Evaluate a network; what was finished of its attacks is picked up."""
    asked, attacks = Evaluation.of(job.stage.hints["evaluate"]), job.work / "attacks"
    ticket = job.ticket("network")
    if "source" in job.stage.needs:
        source = job.ticket("source").model()
        asked = asked.model_copy(update={"attacks": asked.attacks.model_copy(update={"transfer_from": source})})
    record = evaluate(ticket, job.data(), asked, device=job.device, work=replace(job.reporting_work, folder=attacks))
    if "dense" in job.stage.needs:
        relate_to_dense(record, load_record(job.needed("dense", "record.json")))
    record.save(job.work / "record.json")
    shutil.rmtree(attacks, ignore_errors=True)


def compare_networks(job: Job) -> None:
    """Compare tickets with dense networks, from their records."""
    named = job.inputs["groups"].items()
    groups = {name: [str(job.needed(role, "record.json")) for role in roles] for name, roles in named}
    dense = groups.pop("dense")
    if "look" in job.inputs:
        asked = job.inputs["look"]
        look = InterimLook(**{**asked, "seeds": tuple(asked["seeds"])})
        found = compare_at(look, dense, groups, tolerance=job.inputs["tolerance"])
    else:
        found = compare(dense, groups)
    write_atomically(job.work / "comparison.json", json.dumps(found.to_dict(), indent=2, allow_nan=False).encode())


STAGES: dict[str, Callable[[Job], None]] = {
    "dense": train_dense,
    "weights": find_weights,
    "score": score_network,
    "prune": prune_network,
    "decide": decide,
    "tune": tune_ticket,
    "train": train_ticket,
    "evaluate": evaluate_network,
    "compare": compare_networks,
}


def do(stage: Stage, store: Store, tell: Tell, images: ImageData | None = None) -> dict[str, Any]:
    """Do a stage in its folder of work; return where and by what it was done."""
    torch.set_num_threads(stage.inputs["threads"])
    job = Job(stage, store, tell, images)
    environment = {**describe_environment(), "device": job.device.type}
    _start_over_elsewhere(job.work, {name: environment[name] for name in ("torch", "platform", "device")})
    STAGES[stage.kind](job)
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
