"""Which module may import which: data flows one way through the package."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import robustprune

PACKAGE = Path(robustprune.__file__).parent

# A room (a folder, or one of the modules beside them) imports only from those before it.
ORDER = (
    "errors",
    "registry",
    "runtime",
    "metrics",
    "models",
    "data",
    "inference",
    "pruning",
    "attacks",
    "corruptions",
    "ood",
    "cost",
    "tickets",
    "training",
    "records",
    "evaluation",
    "comparison",
    "report",
    "sweep",
    "lottery",
    "tables",
    "cli",
    "__main__",
)
# These work on any network and know nothing of tickets, nor, but for detection, which compares them, of image sets.
INDEPENDENT = ("attacks", "corruptions", "inference", "metrics", "ood")
HEAVY = ("torch", "torchvision", "numpy", "sklearn", "scipy", "pandas", "matplotlib", "pydantic", "codecarbon", "onnx")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(module: str) -> Iterator[str]:
    """Yield the package's modules that a module imports anywhere in it, for types alone or late included."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            # What is imported is a module of ours, or a name within one.
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in FILES else str(node.module) for name in full]
        else:
            continue
        yield from (name for name in names if name in FILES)


EDGES = sorted({(module, found) for module in FILES for found in imports(module)})


def test_every_room_has_its_place() -> None:
    assert {room(module) for module in FILES} - {"", "_version"} == set(ORDER)
    loose = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert loose == {"__init__.py", "__main__.py", "_version.py", "errors.py", "registry.py", "py.typed"}


def test_the_reading_of_imports_is_not_blind() -> None:
    assert ("robustprune.runtime.files", "robustprune.runtime.file_kinds") in EDGES
    assert ("robustprune.cli.network", "robustprune.cli.terminal") in EDGES  # from robustprune import terminal
    assert ("robustprune.cli.evaluate", "robustprune.evaluation") in EDGES  # within a function
    assert len(EDGES) > 100


def test_imports_point_to_what_comes_before() -> None:
    wrong = [
        f"{module} imports {found}"
        for module, found in EDGES
        if room(module) and room(found) not in ("_version", room(module))
        if not room(found) or ORDER.index(room(found)) >= ORDER.index(room(module))
    ]
    assert wrong == []


@pytest.mark.parametrize("name", INDEPENDENT)
def test_what_attacks_and_measures_knows_nothing_of_tickets(name: str) -> None:
    foreign = {"pruning", "tickets"} | ({"data"} if name != "ood" else set())
    reached, waiting = set(), [module for module in FILES if room(module) == name]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += [found for importer, found in EDGES if importer == module]
    assert not {room(module) for module in reached} & foreign


def test_no_cycle_among_modules() -> None:
    # The front door of the package names its rooms for type checkers only.
    graph = {module: [found for importer, found in EDGES if importer == module] for module in FILES if room(module)}
    TopologicalSorter(graph).prepare()


def test_importing_loads_nothing_heavy_and_every_public_name_is_there() -> None:
    script = f"""
import json, sys
heavy = {HEAVY!r}
import robustprune
after_package = [name for name in heavy if name in sys.modules]
import robustprune.cli
after_cli = [name for name in heavy if name in sys.modules]
from robustprune.evaluation import evaluate
import robustprune.cost, robustprune.attacks, robustprune.training, robustprune.data
names = {{name: getattr(robustprune, name) for name in robustprune.__all__}}
print(json.dumps({{
    "package": after_package,
    "cli": after_cli,
    "modules": [name for name, value in names.items() if type(value).__name__ == "module"],
    "evaluate": robustprune.evaluate is evaluate,
    "train": callable(robustprune.train),
    "compare": callable(robustprune.compare),
}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {
        "package": [],
        "cli": [],
        "modules": [],
        "evaluate": True,
        "train": True,
        "compare": True,
    }


def test_public_names() -> None:
    assert dir(robustprune) == sorted(robustprune.__all__)
    for name in robustprune.__all__:
        assert getattr(robustprune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'prune_everything'"):
        _ = robustprune.prune_everything  # type: ignore[attr-defined]


def test_the_front_names_for_type_checkers_what_it_imports() -> None:
    (block,) = [node for node in ast.parse(FILES["robustprune"].read_text()).body if isinstance(node, ast.If)]
    named = {
        alias.asname: str(node.module).removeprefix("robustprune.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert named == robustprune._HOMES


def test_every_exception_and_warning_is_at_the_front() -> None:
    own = [value for value in vars(robustprune.errors).values() if isinstance(value, type)]
    assert len(own) > 20
    for kind in own:
        assert getattr(robustprune, kind.__name__) is kind
        assert kind.__name__ in robustprune.__all__
