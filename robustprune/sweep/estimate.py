"""What the rest of a sweep will take, from a few measured steps of each network on its images.

Training is counted by its steps, each as long as those measured of the dense network: tickets are faster. Attacks are
counted as if they had to go all their steps on every image, which they need not once it is broken. What
detectors, checks of attacks and latencies take beside passes of images is left out, as are making and reading corrupted
images. A figure to plan by: neither a promise nor a bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from robustprune.errors import SweepError
from robustprune.sweep.engines.engine import Failed, Finished, Task
from robustprune.sweep.engines.local import LocalEngine
from robustprune.sweep.graph import Stage

_BASIS = (
    "from measured steps of each dense network; tickets and attacks that succeed early take less, making "
    "corrupted images and fitting detectors come on top"
)


def estimate(stages: Iterable[Stage], workers: int) -> dict[str, Any]:
    """Return seconds, energy and disk space that stages will take with so many workers; each worker is one process.

    Raises:
        SweepError: A network or its images cannot be had.
    """
    left = [asdict(stage) for stage in stages]
    if not left:
        return {"seconds": 0.0, "energy_kwh": 0.0, "disk_bytes": 0, "workers": workers, "basis": "nothing is left"}
    engine = LocalEngine(1, threads=max(stage["inputs"]["threads"] for stage in left))
    engine.submit(Task("estimate", "robustprune.sweep.pace:measure", (left,)))
    try:
        while True:
            for event in engine.wait(1.0):
                if isinstance(event, Failed):
                    raise SweepError(f"what the sweep takes cannot be measured: {event.error}")
                if isinstance(event, Finished):
                    work = event.value
                    return {**work, "seconds": work["seconds"] / workers, "workers": workers, "basis": _BASIS}
    finally:
        engine.close()
