"""The command line: parse, call, draw. What the commands do is done elsewhere."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from click.exceptions import Exit

from robustprune import terminal
from robustprune._version import __version__
from robustprune.errors import PruningWarning, RobustPruneError

if TYPE_CHECKING:
    from robustprune.data import ImageData
    from robustprune.records import Record
    from robustprune.ticket import Ticket

F = TypeVar("F", bound=Callable[..., Any])

click.rich_click.MAX_WIDTH = 110


def main() -> None:
    """Run the command line; every failure is one paragraph and an exit code."""
    warnings.showwarning = _show_warning
    try:
        commands(standalone_mode=False)
    except Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted; where the command has --resume, it continues from the last finished epoch")
    except RobustPruneError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of a pipe (head, a pager) has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("ROBUSTPRUNE_DEBUG"):
            raise
        _fail(
            f"an error that should not happen: {type(error).__name__}: {error}. Please report it, with the "
            "traceback that ROBUSTPRUNE_DEBUG=1 shows"
        )


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **_options: Any) -> None:
    """Show our own warnings as a line without the place in the code, all others as ever."""
    if issubclass(category, PruningWarning):
        terminal.say(f"Warning: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))


def _fail(message: str) -> None:
    terminal.say(f"Error: {' '.join(message.split())}")
    sys.exit(1)


class _KeyValue(click.ParamType[tuple[str, Any]]):
    name = "name=value"

    def __init__(self, *taken: str) -> None:
        self.taken = taken

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        """Split ``name=value``; numbers become numbers."""
        key, equals, text = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not of the form name=value", param, ctx)
        if key in self.taken:
            self.fail(f"{key!r} has an option of its own, see --help", param, ctx)
        for number in (int, float):
            try:
                return key, number(text)
            except ValueError:
                continue
        return key, text


class _Target(click.Path):
    """A path to write to, checked before hours of work go into what is to be written."""

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Check that the file or folder can be made."""
        path = os.fsdecode(super().convert(value, param, ctx))
        if not path:
            self.fail("it is empty", param, ctx)
        nearest = next(parent for parent in Path(path).absolute().parents if parent.exists())
        if not nearest.is_dir():
            self.fail(f"{nearest} is a file, so nothing can be written in it", param, ctx)
        if not os.access(nearest, os.W_OK):
            self.fail(f"nothing may be written in the folder {nearest}", param, ctx)
        return path


OUT_FILE = _Target(dir_okay=False)


def _stack(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


common_options = _stack(
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random."),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True),
    click.option("--threads", type=click.IntRange(min=1), help="Processor threads to compute with."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else."),
)

model_options = _stack(
    click.option("--model", required=True, help="A ticket's file, or a name: see `robustprune list models`."),
    click.option("--model-code", type=click.Path(), help="Python file of a `file:` network, for its tickets."),
    click.option(
        "--model-option",
        "network_options",
        type=_KeyValue("name", "data", "seed"),
        multiple=True,
        help="E.g. width=32 for a ResNet.",
    ),
)

data_options = _stack(
    click.option(
        "--dataset",
        help="See `robustprune list datasets`. [default: the ticket's own, or digits for a new network]",
    ),
    click.option("--data-root", "root", type=click.Path(), help="Folder to look for the data set in."),
    click.option("--download", is_flag=True, help="Allow a missing data set to be downloaded."),
    click.option("--image-size", type=click.IntRange(min=8), help="Resize to this side, in pixels."),
    click.option("--channels", type=click.Choice(["1", "3"]), help="Convert to gray or colour."),
    click.option("--train-limit", type=click.IntRange(min=1), help="Stratified number of training images."),
    click.option("--validation-fraction", type=click.FloatRange(0, 0.5), help="Held out of train. [default: 0.1]"),
    click.option("--workers", type=click.IntRange(min=0), help="Processes that read images of large sets."),
)

_DATA_OPTIONS = (
    "root",
    "download",
    "image_size",
    "channels",
    "train_limit",
    "validation_fraction",
    "workers",
)


def _resolve(options: dict[str, Any]) -> dict[str, Any]:
    """Take model and data options out of a command's arguments; return them as the workbench takes them."""
    from robustprune.devices import choose_device, limit_threads

    limit_threads(options.pop("threads"))
    options["device"] = choose_device(options["device"])
    data = {name: options.pop(name) for name in _DATA_OPTIONS}
    data["download"] = data["download"] or None
    data["channels"] = int(data["channels"]) if data["channels"] else None
    return {
        "model": options["model"],
        "dataset": options.pop("dataset"),
        "data_options": data,
        "model_options": dict(options.pop("network_options")),
        "model_code": options.pop("model_code"),
        "seed": options["seed"],
    }


def _refuse_to_overwrite(model: str, out: str | None) -> None:
    """Refuse an output that would replace the input, which is needed again to resume or to repeat."""
    if out is not None and Path(out).exists() and Path(model).exists() and Path(out).samefile(model):
        raise click.UsageError(f"--out {out} is the file that --model names; write to another one")


def _open(options: dict[str, Any]) -> tuple[Ticket, ImageData]:
    """Return the network and the image set that a command's arguments name."""
    from robustprune.workbench import open_model

    return open_model(**_resolve(options))


def _open_network(options: dict[str, Any]) -> Ticket:
    """Return the network alone, for commands that need no images."""
    from robustprune.workbench import open_network

    return open_network(**_resolve(options))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="robustprune")
def commands() -> None:
    """Cut whole layers out of a network before training it, and measure what that does.

    `robustprune demo` shows everything on a small data set; `robustprune COMMAND --help` explains a command.
    """


@commands.command()
@model_options
@data_options
@click.option("--eligibility", default="authors", show_default=True, help="authors, strict or identity.")
@common_options
def blocks(eligibility: str, as_json: bool, **options: Any) -> None:
    """Show the residual blocks of a network and which of them can go."""
    from robustprune.cost import measure_block_macs, measure_cost
    from robustprune.pruning import check_eligibility, find_blocks, ineligible_because, removable_together

    rule = check_eligibility(eligibility)
    ticket = _open_network(options)
    found = find_blocks(ticket.network)
    macs, total = measure_block_macs(ticket.network, found), measure_cost(ticket.network).macs
    rows = [
        {
            "name": block.name,
            "stage": block.stage + 1,
            "position": block.position + 1,
            "parameters": block.parameters,
            "macs": macs[block.name],
            "macs_percent": 100 * macs[block.name] / total,
            "eligible": ineligible_because(block, found, rule) is None,
            "reason": ineligible_because(block, found, rule),
        }
        for block in found
    ]
    most = removable_together(found, rule)
    if as_json:
        terminal.print_json(
            {"model": options["model"], "eligibility": rule, "removable_together": most, "blocks": rows}
        )
        return
    terminal.table(
        f"Blocks of {ticket.architecture.name}",
        ["block", ">stage", ">position", ">parameters", ">MACs", ">share", "can go"],
        [
            [
                row["name"],
                row["stage"],
                row["position"],
                f"{row['parameters']:,}",
                f"{row['macs']:,}",
                f"{row['macs_percent']:.3f} %",
                "yes" if row["eligible"] else f"no: {row['reason']}",
            ]
            for row in rows
        ],
        f"{sum(row['reason'] is None for row in rows)} of {len(rows)} blocks are eligible ({rule}); "
        f"at most {most} can go together",
    )


@commands.command()
@model_options
@data_options
@click.option("--criterion", default="grasp", show_default=True, help="See `robustprune list criteria`.")
@click.option(
    "--criterion-option",
    type=_KeyValue("model", "data", "criterion", "seed"),
    multiple=True,
    help="E.g. bn_mode=batch.",
)
@click.option("--blocks", "count", type=click.IntRange(min=1), required=True, help="How many blocks go.")
@click.option("--eligibility", default="authors", show_default=True, help="authors, strict or identity.")
@click.option("--out", type=OUT_FILE, required=True, help="File of the ticket.")
@common_options
def prune(
    criterion: str,
    criterion_option: tuple[tuple[str, Any], ...],
    count: int,
    eligibility: str,
    out: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Score the blocks of a network, remove the least important ones, write the ticket."""
    from robustprune.cost import measure_cost
    from robustprune.pruning import score_blocks
    from robustprune.ticket import prune_layers

    _refuse_to_overwrite(options["model"], out)
    dense, data = _open(options)
    dense.check_fits(data)
    dense.network.to(options["device"])
    scores = score_blocks(dense.network, data, criterion, seed=options["seed"], **dict(criterion_option))
    ticket = prune_layers(dense, scores, blocks=count, eligibility=eligibility, data=data)  # type: ignore[arg-type]
    ticket.save(out)
    before, after = measure_cost(dense.network), measure_cost(ticket.network)
    removed = list(ticket.plan.removed)
    if as_json:
        terminal.print_json(
            {
                "method": ticket.plan.method,
                "criterion": criterion,
                "blocks": count,
                "removed": removed,
                "eligible": list(ticket.plan.eligible),
                "scores": dict(scores),
                "before": before.to_dict(),
                "after": after.to_dict(),
                "match_gap": None,
                "seconds": scores.seconds,
                "out": out,
            }
        )
        return
    rows = sorted(scores.items(), key=lambda item: item[1])
    terminal.table(
        f"{criterion} scores, least important first",
        ["block", ">importance", ""],
        [[name, f"{score:.4g}", _fate(name, removed, ticket.plan.eligible)] for name, score in rows],
    )
    _cost_table(
        after, before, ("before", "after"), f"{ticket.architecture.name} without {', '.join(removed)}; ticket in {out}"
    )


def _fate(name: str, removed: list[str], eligible: tuple[str, ...]) -> str:
    if name in removed:
        return "removed"
    return "" if name in eligible else "not eligible"


@commands.command()
@model_options
@data_options
@click.option("--recipe", default="quick", show_default=True, help="quick or paper.")
@click.option("--epochs", type=click.IntRange(min=1), help="In place of the recipe's.")
@click.option("--batch-size", type=click.IntRange(min=2), help="In place of the recipe's.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="In place of the recipe's.")
@click.option("--country", default="USA", show_default=True, help="ISO 3166 code of the grid that feeds you.")
@click.option("--no-energy", is_flag=True, help="Do not measure energy.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("--out", type=OUT_FILE, required=True, help="File of the trained ticket.")
@common_options
def train(no_energy: bool, out: str, as_json: bool, **options: Any) -> None:
    """Train a ticket, or a dense network, and write it with its history."""
    from robustprune.training import train_to_file

    model = options["model"]
    _refuse_to_overwrite(model, out)
    ticket, data = _open(options)
    del options["model"]
    with terminal.progress_bar() as bar:
        ticket = train_to_file(
            ticket,
            data,
            out,
            measure_energy=not no_energy,
            on_step=lambda at: bar(f"training {model}", at.epoch * at.steps + at.step, at.epochs * at.steps),
            on_epoch=_say_epoch,
            **options,
        )
    summary = {
        "out": out,
        "sha256": ticket.sha256,
        **{name: ticket.training[name] for name in _TRAINING_FIGURES},
        "validation_accuracy": ticket.history[-1].get("validation_accuracy"),
        "history": ticket.history,
    }
    if as_json:
        terminal.print_json(summary)
        return
    accuracy = summary["validation_accuracy"]
    terminal.table(
        f"Trained {model}",
        [">epochs", ">validation accuracy", ">time", ">images/s", ">energy", ">CO₂"],
        [
            [
                summary["epochs"],
                "–" if accuracy is None else terminal.percent(accuracy),
                terminal.seconds(summary["seconds"]),
                f"{summary['images_per_second']:.0f}",
                terminal.watt_hours(summary["energy_kwh"]),
                "–" if summary["co2_kg"] is None else f"{1000 * summary['co2_kg']:.3g} g",
            ]
        ],
        f"ticket in {out}, weights {ticket.sha256[:12]}",
    )


_TRAINING_FIGURES = (
    "epochs",
    "seconds",
    "images_per_second",
    "energy_kwh",
    "co2_kg",
    "country",
    "energy_method",
)


def _say_epoch(entry: Mapping[str, Any], epochs: int) -> None:
    validation = entry.get("validation_accuracy")
    seen = "" if validation is None else f", validation {terminal.percent(validation)}"
    terminal.say(
        f"epoch {entry['epoch']}/{epochs}: loss {entry['train_loss']:.4f}, "
        f"training {terminal.percent(entry['train_accuracy'])}{seen}, {entry['seconds']:.1f} s"
    )


@commands.command()
@model_options
@data_options
@click.option("--attack", "attacks", multiple=True, help="See `robustprune list attacks`; may be repeated.")
@click.option("--eps", default="8/255", show_default=True, help="Budgets, e.g. 2/255,8/255.")
@click.option("--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Gradient steps of iterative attacks.")
@click.option("--step-size", type=float, help="Constant step; by default steps fall linearly from ε to 0.")
@click.option("--restarts", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--split", type=click.Choice(["test", "val", "train"]), default="test", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Evaluate a stratified sample of so many images.")
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--out", type=OUT_FILE, help="File of the record.")
@common_options
def evaluate(
    eps: str, steps: int | None, step_size: float | None, out: str | None, as_json: bool, **options: Any
) -> None:
    """Measure accuracy and calibration of a network, and attack it."""
    from robustprune.evaluation import evaluate as run

    _refuse_to_overwrite(options["model"], out)
    ticket, data = _open(options)
    ticket.network.to(options.pop("device"))
    attack_options = {"steps": steps, "step_size": step_size}
    with terminal.progress_bar() as bar:
        record = run(
            ticket,
            data,
            epsilons=[epsilon.strip() for epsilon in eps.split(",")],
            options={name: value for name, value in attack_options.items() if value is not None},
            path=options.pop("model"),
            progress=bar,
            **options,
        )
    if out is not None:
        record.save(out)
    if as_json:
        terminal.print_json(record.to_json())
    else:
        _record_table(record, out)


def _record_table(record: Record, out: str | None) -> None:
    clean = record.clean
    rows = [["none", "", terminal.percent(clean.accuracy), _interval(clean.interval), "", ""]]
    for entry in record.attacks:
        rows.append(
            [
                entry.name + (f"-{entry.steps}" if entry.steps else ""),
                f"{entry.norm} {entry.epsilon:.4g}",
                terminal.percent(entry.robust_accuracy) if entry.valid else "invalid",
                _interval(entry.interval) if entry.valid else "",
                terminal.seconds(entry.seconds),
                "; ".join(
                    f"{check.verdict} {check.name}: {check.detail}"
                    for check in entry.checks
                    if check.verdict in ("WARN", "FAIL")
                ),
            ]
        )
    where = f"; record in {out}" if out else ""
    terminal.table(
        f"{record.model.architecture} on {record.n} {record.split} images of {record.dataset}",
        ["attack", "ε", ">accuracy", "95 % interval", ">time", "warnings"],
        rows,
        f"NLL {clean.nll:.4f}, ECE {clean.ece:.4f}, Brier {clean.brier:.4f}{where}",
    )


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %"


@commands.command()
@model_options
@data_options
@click.option("--dense", help="A ticket or model to compare with.")
@common_options
def cost(dense: str | None, as_json: bool, **options: Any) -> None:
    """Count parameters, multiply-accumulates and filters of a network."""
    from robustprune.cost import measure_cost
    from robustprune.workbench import is_ticket_path, open_counterpart

    counterpart_options = {
        "model_options": dict(options["network_options"]),
        "model_code": options["model_code"],
        "seed": options["seed"],
    }
    if dense is not None and not is_ticket_path(dense) and is_ticket_path(options["model"]):
        options["network_options"] = ()  # they are for the one that is built by name
    ticket = _open_network(options)
    own = measure_cost(ticket.network)
    full = measure_cost(open_counterpart(dense, ticket, **counterpart_options)) if dense is not None else None
    if as_json:
        saved = {"saved_percent": own.saved_percent(full)} if full else {}
        terminal.print_json({"model": options["model"], "dataset": ticket.data.get("name"), **own.to_dict(), **saved})
        return
    _cost_table(own, full, (dense or "", options["model"]))


def _cost_table(own: Any, dense: Any | None, headings: tuple[str, str], caption: str = "") -> None:
    saved = own.saved_percent(dense) if dense else {}
    names = {"parameters": "parameters", "macs": "MACs per image", "filters": "filters"}
    rows = [
        [label, *([f"{getattr(dense, name):,}"] if dense else []), f"{getattr(own, name):,}"]
        + ([f"{saved[name]:.2f} %"] if dense else [])
        for name, label in names.items()
    ]
    columns = ["", *(f">{heading}" for heading in headings if heading), *([">saved"] if dense else [])]
    terminal.table("Cost", columns, rows, caption)


@commands.command("list")
@click.argument("kind", type=click.Choice(["criteria", "attacks", "models", "datasets"]))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
def list_(kind: str, as_json: bool) -> None:
    """List what can be named: criteria, attacks, models or datasets."""
    from robustprune.listing import LISTINGS

    rows = LISTINGS[kind]()
    if as_json:
        terminal.print_json(rows)
        return
    terminal.table(kind, list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}={default}" for name, default in value.items())
    return "" if value is None else str(value)


@commands.command()
@click.option("--out", type=_Target(file_okay=False), default="demo", show_default=True, help="Output folder.")
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@common_options
def demo(out: str, epochs: int, as_json: bool, **options: Any) -> None:
    """Train a dense network, a GraSP ticket and a random one on digits; attack all three; compare."""
    from robustprune.demo import run_demo
    from robustprune.devices import choose_device, limit_threads

    # Images of 8×8 pixels gain nothing from a second thread, and on a busy machine two would wait for each other.
    limit_threads(options["threads"] or 1)
    with terminal.progress_bar() as bar:
        results = run_demo(
            Path(out),
            epochs=epochs,
            seed=options["seed"],
            device=choose_device(options["device"]),
            progress=bar,
            say=terminal.say,
        )
    if as_json:
        terminal.print_json([result.to_dict() for result in results])
        return
    attacks = [f"{entry.name.upper()} {entry.epsilon:.3g}" for entry in results[0].record.attacks]
    terminal.table(
        "ResNet32 on digits: dense, four blocks removed by GraSP, four at random",
        [
            "network",
            ">accuracy",
            *(f">{name}" for name in attacks),
            ">MACs",
            ">param.",
            ">training",
            ">energy",
        ],
        [_demo_row(result.name, result.record) for result in results],
        f"accuracy on {results[0].record.n} test images, clean and attacked with the ε in the heading (L∞, on the "
        f"[0, 1] scale); tickets and records in {out}/",
    )


def _demo_row(name: str, record: Record) -> list[str]:
    model = record.model
    return [
        name,
        terminal.percent(record.clean.accuracy),
        *(terminal.percent(entry.robust_accuracy) if entry.valid else "invalid" for entry in record.attacks),
        f"{model.macs / 1e6:.2f} M",
        f"{model.parameters / 1e3:.0f} k",
        terminal.seconds(model.training["seconds"]),
        terminal.watt_hours(model.training["energy_kwh"]),
    ]
