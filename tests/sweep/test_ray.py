"""The same sweep on a cluster of two nodes on this machine, and with one of them killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from essence import essence, leftovers

from robustprune.sweep import Store

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep-digits.yaml"
# So that it takes a minute: both criteria and seeds of the example, one density, little to look at.
SMALLER = [
    *("model_options={width: 4}", "data={name: digits, train_limit: 300}", "country=null"),
    *("recipe.epochs=4", "recipe.batch_size=32", "grid.pruning.blocks=[1]"),
    *("evaluate.limit=60", "evaluate.attacks.steps=3", "evaluate.corruptions=[fog]"),
]
# Started by a process of its own: Ray's client keeps the process that it is used in busy ever after.
NODES = """
import json, sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(num_cpus=1)
print(json.dumps(cluster.address), flush=True)
for line in sys.stdin:
    if line == "kill\\n":
        cluster.remove_node(node, allow_graceful=False)
        print(json.dumps("killed"), flush=True)
cluster.shutdown()
"""


@pytest.fixture
def cluster() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        process.stdout.close()


def say(cluster: subprocess.Popen[str]) -> str:
    """Return the next thing that the cluster says; warnings of Ray's go before it."""
    assert cluster.stdout is not None
    for line in cluster.stdout:
        if line.startswith('"'):
            found: str = json.loads(line)
            return found
    raise AssertionError("the cluster has ended")


def command(home: Path, out: str, *more: str) -> list[str]:
    settings = [word for setting in SMALLER for word in ("--set", setting)]
    program = [sys.executable, "-m", "robustprune", "sweep", str(EXAMPLE)]
    return [*program, "--out", str(home / out), "--json", *settings, *more]


def finish(arguments: list[str]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished"] == 6


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("local")
    finish(command(home, "out", "--workers", "2"))
    return essence(home / "out")


def test_two_nodes_give_what_this_machine_gives(
    cluster: subprocess.Popen[str], local: dict[str, Any], tmp_path: Path
) -> None:
    finish(command(tmp_path, "out", "--engine", "ray", "--ray-address", say(cluster)))
    assert essence(tmp_path / "out") == local
    assert leftovers(tmp_path / "out") == []


def test_node_that_is_killed_is_no_loss(cluster: subprocess.Popen[str], local: dict[str, Any], tmp_path: Path) -> None:
    arguments = command(tmp_path, "out", "--engine", "ray", "--ray-address", say(cluster))
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(Store(tmp_path / "out").done()) < 4:
        assert process.poll() is None
        time.sleep(0.2)
    assert cluster.stdin is not None
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    assert say(cluster) == "killed"
    left = len(local) - len(Store(tmp_path / "out").done())
    out, said = process.communicate()
    assert process.returncode == 0, said
    assert json.loads(out)["finished"] == 6
    assert left > 0  # it was killed midway
    assert essence(tmp_path / "out") == local
    assert leftovers(tmp_path / "out") == []
