"""`robustprune sweep`, `robustprune status`, and `robustprune reproduce` with the sweeps of the paper's tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import json_option, list_option, read_files, stack
from robustprune.cli.paths import Naming, Source, Target
from robustprune.errors import SweepError

if TYPE_CHECKING:
    from robustprune.runtime.work import Progress
    from robustprune.sweep import Sweep
    from robustprune.sweep.status import State, Watch

OUT_OF_SWEEPS = Target(marks=("sweeps", "stages"), file_okay=False)

set_option = click.option(
    "--set",
    "settings",
    type=Naming(),
    multiple=True,
    metavar="NAME=VALUE",
    help="Setting in place of the file's: recipe.epochs=5. Repeat it for several.",
)

sweep_options = stack(
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Worker processes.  [default: one per GPU, else as many as fit the processors]",
    ),
    click.option(
        "--engine", type=click.Choice(["local", "ray"]), default="local", help="Run here, or on a Ray cluster."
    ),
    click.option(
        "--ray-address", help="HOST:PORT of the Ray cluster; auto looks for a running one.  [default: start one here]"
    ),
    list_option(
        "--override",
        "overlays",
        type=Naming(plain=True),
        metavar="FILE,…",
        help="YAML files whose settings replace those of the file.",
    ),
    set_option,
    click.option(
        "--dry-run", is_flag=True, help="Only show what would be run, and an estimate of time, energy and disk."
    ),
    click.option("--retry-failed", is_flag=True, help="Repeat what failed before."),
)
"""Of commands that run a sweep."""


@commands.command(
    examples=[
        "sweep.yaml --out runs --dry-run",
        "sweep.yaml --out runs",
    ],
)
@click.argument("file", required=False, type=Source(dir_okay=False))
@click.option("--out", type=OUT_OF_SWEEPS, help="Folder of results; what is finished there is not repeated.")
@sweep_options
@click.option(
    "--schema", is_flag=True, help="Print the JSON schema of a sweep's file, for editors; FILE is not needed."
)
@json_option
def sweep(
    file: str | None,
    out: str | None,
    overlays: tuple[str, ...],
    settings: tuple[str, ...],
    schema: bool,
    as_json: bool,
    **how: Any,
) -> None:
    """Run the experiments of a YAML file: criteria, numbers of removed blocks, seeds, and the metrics to evaluate.

    What several runs need, such as the dense training, is computed once. A second call does only what is new or was
    interrupted.
    """
    from robustprune.sweep import read_sweep

    if schema:
        from robustprune.sweep.settings import SweepSettings

        terminal.print_json(SweepSettings.model_json_schema())
        return
    if file is None or out is None:
        raise click.UsageError("name a sweep's file, and a folder with --out")
    _run_sweep(read_sweep(file, read_files(overlays), settings), out, as_json=as_json, **how)


def _run_sweep(
    asked: Sweep,
    out: str,
    *,
    workers: int | None,
    engine: str,
    ray_address: str | None,
    dry_run: bool,
    retry_failed: bool,
    as_json: bool,
) -> dict[str, Any] | None:
    """Run a sweep and draw it, and return where it stands; or say what it would take."""
    from robustprune.sweep import Store, run_sweep, summarize

    if ray_address is not None and engine != "ray":
        raise click.UsageError("--ray-address is for --engine ray")
    if dry_run:
        if engine == "ray" and workers is None:
            raise click.UsageError("--dry-run asks no cluster; say with --workers how many tasks it takes at a time")
        _foresee(asked, out, workers, engine, as_json)
        return None
    with following() as watch:
        state = run_sweep(
            asked, out, workers=workers, engine=engine, address=ray_address, retry_failed=retry_failed, watch=watch
        )
    summary = {"out": out, **summarize(state, Store(out))}
    if as_json:
        terminal.print_json(summary)
    else:
        for path, title in zip(summary["comparisons"], summary["compared"], strict=True):
            if title:
                terminal.paragraph(f"{title}:")
            for sentence in _read_comparison(path)["summary"]:
                terminal.paragraph(sentence)
        terminal.say(
            f"{state.finished_runs} of {summary['runs']} runs are finished; {summary['done_now']} of "
            f"{summary['stages']} stages were done now. Records in {out}"
        )
    if state.failed:
        first, error = next(iter(state.failed.items()))
        stage, where = state.plan.stages[first], state.tracebacks.get(first)
        more = f" (and {len(state.failed) - 1} more)" if len(state.failed) > 1 else ""
        raise SweepError(
            f"{summary['runs'] - state.finished_runs} runs are not finished: {stage.kind} of {stage.label}: {error}"
            f"{f', see {where}' if where else ''}{more}. What did not depend on it is done; --retry-failed tries again"
        )
    return summary


def _read_comparison(path: str) -> dict[str, Any]:
    with open(path) as stream:
        found: dict[str, Any] = json.load(stream)
    return found


@contextmanager
def following() -> Iterator[Watch]:
    """Yield what writes a line for each stage, above a bar for all of them on a terminal."""
    from robustprune.runtime.contention import now_and_then
    from robustprune.sweep.status import line

    warn = now_and_then(terminal.say)
    with terminal.progress_bar() as bar:

        def tell(state: State, address: str) -> None:
            if address:
                terminal.say(line(state, address))
            for place, stage in state.running.items():
                if stage.shortage:
                    warn(f"{state.plan.stages[place].kind} of {state.plan.stages[place].label} {stage.shortage}")
            shares = sum(stage.share for stage in state.running.values())
            bar("stages", len(state.done) + shares, len(state.plan.stages))

        yield tell


def _foresee(asked: Sweep, out: str, workers: int | None, engine: str, as_json: bool) -> None:
    """Say what would be run, and what it would take."""
    from robustprune.runtime.progress import duration
    from robustprune.sweep import plan_sweep
    from robustprune.sweep.forecast import estimate
    from robustprune.sweep.sweeping import choose_workers

    with terminal.progress_bar():
        plan, missing = plan_sweep(asked, out)
        found = estimate(missing.values(), workers if engine == "ray" and workers else choose_workers(plan, workers))
    counts = Counter(address for run in plan.runs for address in run.needs)
    shared = [
        {"address": address, "kind": stage.kind, "of": stage.label, "runs": counts[address]}
        for address, stage in plan.stages.items()
        if counts[address] > 1
    ]
    runs = [
        {
            "name": run.name,
            "id": run.stage,
            "done": run.stage not in missing,
            "stages_left": sum(address in missing for address in run.needs),
        }
        for run in plan.runs
    ]
    if as_json:
        counted = {"stages": len(plan.stages), "stages_left": len(missing)}
        terminal.print_json({"runs": runs, **counted, "shared": shared, **found})
        return
    terminal.table(
        f"{len(runs)} runs of {asked.name}",
        ["run", "done", ">stages left", "id"],
        [[each["name"], "yes" if each["done"] else "", each["stages_left"], each["id"]] for each in runs],
    )
    if shared:
        terminal.table(
            "Stages that runs share",
            ["stage", "first for", ">runs", "done"],
            [[each["kind"], each["of"], each["runs"], "" if each["address"] in missing else "yes"] for each in shared],
        )
    most = ", at most: it ends once verdicts are decided" if len(plan.looks) > 1 else ""
    terminal.say(
        f"{len(missing)} of {len(plan.stages)} stages are left{most}. With {found['workers']} workers about "
        f"{duration(found['seconds'])}, {terminal.watt_hours(found['energy_kwh'])}, "
        f"{found['disk_bytes'] / 1e6:.0f} MB: {found['basis']}"
    )


def announcing(progress: Progress) -> Progress:
    """Return what tells of progress, and says once of each thing that it is being done, as a log may want to know."""
    said: set[str] = set()

    def tell(label: str, done: float, total: float) -> None:
        if label not in said:
            said.add(label)
            terminal.say(f"{label} …")
        progress(label, done, total)

    return tell


def _on_look(look: dict[str, Any]) -> str:
    stands = "ended with" if look["is_over"] else "is on the way to"
    return f"{stands} look {look['number']} of {look['of']}, at {look['seeds']} of at most {look['most_seeds']} seeds"


@commands.command(examples=["runs"])
@click.argument("folder", type=Source(file_okay=False))
@json_option
def status(folder: str, as_json: bool) -> None:
    """Show the progress of the sweeps in a folder."""
    from robustprune.sweep import Store
    from robustprune.sweep.status import status

    found = status(Store(folder))
    if not found:
        raise SweepError(f"there is no sweep in {folder}; name the folder that was given as --out")
    if as_json:
        terminal.print_json(found)
        return
    counted = ["sweep", "runs", "finished", "failed", "running", "waiting"]
    terminal.table(
        f"Sweeps in {folder}",
        ["sweep", *(f">{name}" for name in counted[1:]), ">stages done"],
        [[*(each[name] for name in counted), f"{each['stages_done']}/{each['stages']}"] for each in found],
    )
    for each in found:
        if each["look"]:
            terminal.say(f"{each['sweep']}: {_on_look(each['look'])}")
        for stage in each["running_stages"]:
            shortage = each["short_of_processors"].get(stage)
            terminal.say(f"running: {stage}" + (f", which {shortage}" if shortage else ""))
        for failure in each["failures"].values():
            try:
                with open(failure["file"]) as stream:
                    reason = str(json.load(stream)["error"])
            except (OSError, ValueError, LookupError, TypeError) as error:
                reason = f"its file cannot be read: {error}"
            terminal.say(f"failed: {failure['stage']}: {reason} ({failure['file']})")


@commands.command(examples=["table2 --out table2"])
@click.argument("table", type=click.Choice([f"table{number}" for number in range(1, 6)]))
@click.option("--scale", type=click.Choice(["small", "paper"]), default="small", help="Size of the experiments.")
@click.option("--out", type=OUT_OF_SWEEPS, required=True, help="Folder of results; several tables may share one.")
@sweep_options
@json_option
def reproduce(
    table: str, scale: Any, out: str, overlays: tuple[str, ...], settings: tuple[str, ...], as_json: bool, **how: Any
) -> None:
    """Reproduce one of the paper's tables, table1 to table5.

    --scale paper: CIFAR-10, 200 epochs, three seeds. --scale small: Fashion-MNIST at 14×14 pixels, 8 epochs.
    """
    from robustprune.sweep.paper import TABLES, read_table

    asked = read_table(table, scale, read_files(overlays), settings)
    summary = _run_sweep(asked, out, as_json=as_json, **how)
    if summary is not None and not as_json:
        for path, title in zip(summary["comparisons"], summary["compared"], strict=True):
            rows = [row for row in _read_comparison(path)["rows"] if row["group"] in TABLES[table]]
            terminal.table(
                f"{asked.name}, {title}" if title else asked.name,
                _COLUMNS,
                list(map(_cells, rows)),
            )


_COLUMNS = ("ticket", "figure", ">dense", ">ticket", ">difference", "95 % interval", ">saved", ">seeds", "verdict")


def _cells(row: dict[str, Any]) -> list[str]:
    from robustprune.comparison.metric import write_difference, write_value

    unit = row["unit"]
    return [
        row["candidate"],
        row["label"],
        write_value(row["reference"], unit),
        write_value(row["value"], unit),
        write_difference(row["difference"], unit),
        " – ".join(write_difference(end, unit) for end in row["interval"] or ()),
        "" if row["saved_percent"] is None else f"{row['saved_percent']:.2f} %",
        str(row["n_seeds"]),
        row["verdict"] or "",
    ]
