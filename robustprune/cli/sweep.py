"""`robustprune sweep` and `robustprune status`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import rich_click as click

from robustprune.cli import terminal
from robustprune.cli.application import commands
from robustprune.cli.options import json_option, stack
from robustprune.cli.paths import Naming, Source, Target
from robustprune.errors import SweepError

if TYPE_CHECKING:
    from robustprune.runtime.work import Progress
    from robustprune.sweep import Sweep
    from robustprune.sweep.following import State, Watch
    from robustprune.sweep.graph import SweepPlan

_SECONDS_BETWEEN_DRAWINGS = 0.25

OUT_OF_SWEEPS = Target(marks=("sweeps", "stages"), file_okay=False)

out_option = click.option(
    "--out", type=OUT_OF_SWEEPS, help="Folder for everything that comes out; what is done there stays done."
)
workers_option = click.option(
    "--workers", type=click.IntRange(min=1), help="Processes side by side.  [default: GPUs, or processors]"
)
engine_options = stack(
    workers_option,
    click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True),
    click.option("--ray-address", help="HOST:PORT of a cluster, or auto.  [default: start one here]"),
)
set_option = click.option(
    "--set", "settings", type=Naming(), multiple=True, help="E.g. recipe.epochs=5, in place of the file's."
)
overlay_option = click.option(
    "--override", "overlays", multiple=True, type=Source(dir_okay=False), help="YAML file laid over it."
)


@commands.command()
@click.argument("file", required=False, type=Source(dir_okay=False))
@out_option
@engine_options
@overlay_option
@set_option
@click.option("--dry-run", is_flag=True, help="Say what would be run, and what it would take.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed before.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of a sweep's file, for editors.")
@json_option
def sweep(
    file: str | None,
    out: str | None,
    overlays: tuple[str, ...],
    settings: tuple[str, ...],
    dry_run: bool,
    retry_failed: bool,
    schema: bool,
    as_json: bool,
    **engine: Any,
) -> None:
    """Run what a YAML file says: criteria, densities, seeds, and what is measured of each network.

    Whatever runs have in common is done once. A second call does only what is new or was interrupted.
    """
    from robustprune.sweep import read_sweep

    if schema:
        from robustprune.sweep.settings import SweepSettings

        terminal.print_json(SweepSettings.model_json_schema())
        return
    if file is None or out is None:
        raise click.UsageError("name a sweep's file, and a folder with --out")
    carry_out(
        read_sweep(file, overlays, settings), out, dry_run=dry_run, retry_failed=retry_failed, as_json=as_json, **engine
    )


def carry_out(
    asked: Sweep,
    out: str,
    *,
    workers: int | None,
    engine: str,
    ray_address: str | None,
    dry_run: bool,
    retry_failed: bool = False,
    as_json: bool = False,
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
    with _following(workers) as watch:
        state = run_sweep(
            asked, out, workers=workers, engine=engine, address=ray_address, retry_failed=retry_failed, watch=watch
        )
    summary = {"out": out, **summarize(state, Store(out))}
    if as_json:
        terminal.print_json(summary)
    else:
        for path, title in zip(summary["comparisons"], summary["compared"], strict=True):
            headline = read_comparison(path)["headline"]
            terminal.paragraph(f"{title}: {headline}" if title else headline)
        terminal.say(
            f"{state.finished_runs} of {summary['runs']} runs are finished; {summary['done_now']} of "
            f"{summary['stages']} stages were done now. Records in {out}"
        )
    if state.failed:
        raise SweepError(_what_failed(state))
    return summary


def read_comparison(path: str) -> dict[str, Any]:
    """Return what a comparison found."""
    with open(path) as stream:
        found: dict[str, Any] = json.load(stream)
    return found


def _what_failed(state: State) -> str:
    first, error = next(iter(state.failed.items()))
    stage, where = state.plan.stages[first], state.tracebacks.get(first)
    more = f" (and {len(state.failed) - 1} more)" if len(state.failed) > 1 else ""
    return (
        f"{len(state.plan.runs) - state.finished_runs} runs are not finished: {stage.kind} of {stage.label}: {error}"
        f"{f', see {where}' if where else ''}{more}. What did not depend on it is done; --retry-failed tries again"
    )


@contextmanager
def _following(workers: int | None) -> Iterator[Watch]:
    """Yield what draws a live table on a terminal, and writes a line for each stage elsewhere."""
    from robustprune.sweep.following import line, standing

    console = terminal.stderr()

    def write(state: State, address: str) -> None:
        if address:
            terminal.say(line(state, address))

    if not console.is_terminal:
        yield write
        return
    from rich.live import Live

    drawn = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def draw(state: State, address: str) -> None:
            nonlocal drawn
            if address in state.failed:
                terminal.say(line(state, address))
            if time.monotonic() - drawn < _SECONDS_BETWEEN_DRAWINGS:
                return
            drawn = time.monotonic()
            counts = standing(state.plan, state.done, state.failed, [*state.running, *state.elsewhere])
            live.update(_live_table(state, counts, workers or max(1, len(state.running))), refresh=True)

        yield draw


def _live_table(state: State, counts: Any, workers: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    from robustprune.sweep.following import seconds_left

    left = seconds_left(state, workers)
    table = Table(
        title=Text(
            f"{counts.finished} of {counts.runs} runs finished, {counts.running} running, {counts.failed} failed; "
            f"{len(state.done)} of {len(state.plan.stages)} stages"
            + ("" if left is None else f"; about {terminal.duration(left)} left")
        ),
        title_justify="left",
    )
    for column in ("stage", "of", "doing", "done", "for"):
        table.add_column(column)
    now = time.monotonic()
    for address, at in state.running.items():
        stage = state.plan.stages[address]
        table.add_row(
            stage.kind, Text(stage.label), at.label, f"{100 * at.share:.0f} %", terminal.duration(now - at.since)
        )
    return table


def _foresee(asked: Sweep, out: str, workers: int | None, engine: str, as_json: bool) -> None:
    from robustprune.sweep import plan_sweep
    from robustprune.sweep.pace import estimate
    from robustprune.sweep.sweeping import choose_workers

    plan, missing = plan_sweep(asked, out)
    found = estimate(missing.values(), workers if engine == "ray" and workers else choose_workers(plan, workers))
    done = plan.stages.keys() - missing.keys()
    shared = _shared(plan)
    listed = [
        {
            "name": run.name,
            "id": run.stage,
            "done": run.stage in done,
            "stages_left": sum(n in missing for n in run.needs),
        }
        for run in plan.runs
    ]
    if as_json:
        terminal.print_json(
            {"runs": listed, "stages": len(plan.stages), "stages_left": len(missing), "shared": shared, **found}
        )
        return
    terminal.table(
        f"{len(plan.runs)} runs of {asked.name}",
        ["run", "done", ">stages left", "id"],
        [[each["name"], "yes" if each["done"] else "", each["stages_left"], each["id"]] for each in listed],
    )
    if shared:
        terminal.table(
            "Stages that runs share",
            ["stage", "first for", ">runs", "done"],
            [[each["kind"], each["of"], each["runs"], "yes" if each["address"] in done else ""] for each in shared],
        )
    energy, disk = found["energy_kwh"], found["disk_bytes"]
    terminal.say(
        f"{len(missing)} of {len(plan.stages)} stages are left. With {found['workers']} workers about "
        f"{terminal.duration(found['seconds'])}, {terminal.watt_hours(energy)}, {disk / 1e6:.0f} MB: {found['basis']}"
    )


def _shared(plan: SweepPlan) -> list[dict[str, Any]]:
    """Return the stages that more than one run needs."""
    counts: dict[str, int] = {}
    for run in plan.runs:
        for address in run.needs:
            counts[address] = counts.get(address, 0) + 1
    return [
        {"address": address, "kind": stage.kind, "of": stage.label, "runs": counts[address]}
        for address, stage in plan.stages.items()
        if counts.get(address, 0) > 1
    ]


def announcing(progress: Progress) -> Progress:
    """Return what tells of progress, and says once of each thing that it is being done, as a log may want to know."""
    said: set[str] = set()

    def tell(label: str, done: float, total: float) -> None:
        if label not in said:
            said.add(label)
            terminal.say(f"{label} …")
        progress(label, done, total)

    return tell


@commands.command()
@click.argument("folder", type=Source(file_okay=False))
@json_option
def status(folder: str, as_json: bool) -> None:
    """Say where the sweeps in a folder stand."""
    from robustprune.sweep import Store
    from robustprune.sweep.following import status

    found = status(Store(folder))
    if not found:
        raise SweepError(f"there is no sweep in {folder}; name the folder that was given as --out")
    if as_json:
        terminal.print_json(found)
        return
    terminal.table(
        f"Sweeps in {folder}",
        ["sweep", ">runs", ">finished", ">failed", ">running", ">waiting", ">stages done"],
        [
            [each["sweep"], *(each[name] for name in ("runs", "finished", "failed", "running", "waiting")),
             f"{each['stages_done']}/{each['stages']}"]
            for each in found
        ],
    )  # fmt: skip
    for each in found:
        for stage in each["running_stages"]:
            terminal.say(f"running: {stage}")
        for failure in each["failures"].values():
            terminal.say(f"failed: {failure['stage']}: {_reason(failure['file'])} ({failure['file']})")


def _reason(path: str) -> str:
    """Return why a stage failed, or why nobody can tell any more."""
    try:
        with open(path) as stream:
            return str(json.load(stream)["error"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"its file cannot be read: {error}"
