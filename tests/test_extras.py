"""What an extra brings is needed for nothing else, and where it is missing, one sentence says how to get it."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages

import pytest
from extras import MAY_BE_ABSENT
from packaging.requirements import Requirement
from packaging.version import Version
from support import TINY, Run, Shape, check_failure

import robustprune
from robustprune.attacks import ATTACKS, get_attack
from robustprune.corruptions import CORRUPTIONS
from robustprune.data import DATASETS
from robustprune.errors import MissingDependencyError, TicketError
from robustprune.models import MODELS, build_model
from robustprune.ood import DETECTORS
from robustprune.pruning import CRITERIA
from robustprune.tickets.ticket import Ticket, load_ticket

ROOT = Path(__file__).parent.parent
EXTRAS = ("torchattacks", "timm", "robustbench")
HELD_BACK = {"requests", "urllib3", "idna", "setuptools", "timm"}
"""Packages of which these extras take old releases."""
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit_learn": "sklearn", "mlflow_skinny": "mlflow"}


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in EXTRAS:
        monkeypatch.setitem(sys.modules, package, None)


def sentence(what: str, package: str) -> str:
    return (
        f"{what} needs the package {package!r}, which is not installed; "
        f"install it with: pip install 'robustprune[{package}]'"
    )


@pytest.mark.usefixtures("without_extras")
@pytest.mark.parametrize(("extra", "member"), [("timm", "resnet18"), ("robustbench", "Standard")])
def test_networks_of_an_extra_name_it(extra: str, member: str, run: Run) -> None:
    model = f"{extra}:{member}"
    expected = sentence(f"model {model!r}", extra)
    with pytest.raises(MissingDependencyError) as caught:
        build_model(model, Shape())
    assert str(caught.value) == expected
    prune = ("prune", "--dataset", "digits", "--channels", "3", "--image-size", "32", "--criterion", "random")
    check_failure(run(*prune, "--model", model, "--blocks", "1", "--out", "t.pt"), 1, expected)
    assert not Path("t.pt").exists()


@pytest.mark.usefixtures("without_extras")
def test_attacks_of_an_extra_name_it(run: Run) -> None:
    expected = sentence("every attack torchattacks:NAME", "torchattacks")
    with pytest.raises(MissingDependencyError) as caught:
        get_attack("torchattacks:PGD")
    assert str(caught.value) == expected
    evaluate = ("evaluate", *TINY, "--limit", "5", "--attack", "torchattacks:PGD", "--out", "r.json")
    check_failure(run(*evaluate), 1, expected)
    assert not Path("r.json").exists()


@pytest.mark.needs("timm")
def test_tickets_of_an_extra_name_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Ticket.from_model(build_model("timm:mobilenetv3_small_050", Shape())).save("t.pt")
    monkeypatch.setitem(sys.modules, "timm", None)
    expected = sentence("model 'timm:mobilenetv3_small_050'", "timm")
    with pytest.raises(TicketError, match=re.escape(expected)):
        load_ticket("t.pt")
    check_failure(run("cost", "--model", "t.pt"), 1, expected)


def project() -> dict[str, list[Requirement]]:
    """Return what the package and each of its extras (``""`` for none) ask for."""
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"": found["dependencies"], **found["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in lists.items()}


def pins(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower(): Version(number) for name, number in pairs}


def test_nothing_is_pinned_from_above_but_by_extras() -> None:
    core = project()[""]
    assert {part.operator for need in core for part in need.specifier} == {">="}
    assert not {need.name for need in core} & {*EXTRAS, "setuptools", "requests"}


def test_all_is_every_extra_but_those_for_developers_and_the_one_that_old_releases_exclude() -> None:
    found = project()
    (everything,) = found["all"]
    assert everything.name == "robustprune"
    assert everything.extras == set(found) - {"", "all", "dev", "mlflow"}
    assert "robustprune[all]" in {str(need) for need in found["dev"]}


def test_nothing_is_imported_that_nothing_brings() -> None:
    brought = {need.name.replace("-", "_") for extra, needs in project().items() if extra != "dev" for need in needs}
    brought |= {IMPORTED_AS[name] for name in brought & set(IMPORTED_AS)}
    nodes = (
        node
        for path in Path(robustprune.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
    )
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    packages = {name.partition(".")[0] for name in found} - sys.stdlib_module_names - {"robustprune"}
    # The first two are parts of pydantic and jinja2; the third is asked for by an error of its own.
    assert packages - brought == {"pydantic_core", "markupsafe", "pandas"}


def test_both_sets_of_pins_are_one_but_for_what_extras_hold_back() -> None:
    with_extras, bare = pins("constraints.txt"), pins("constraints-bare.txt")
    shared = set(with_extras) & set(bare)
    assert {name for name in shared if with_extras[name] != bare[name]} == HELD_BACK
    assert all(bare[name] > with_extras[name] for name in HELD_BACK)
    assert bare["requests"] >= Version("2.32")
    assert not set(bare) & {"torchattacks", "robustbench"}


def test_lowest_pins_are_the_lower_bounds() -> None:
    lowest = pins("constraints-lowest.txt")
    bounds = {need.name.lower(): need.specifier for need in project()[""]}
    assert set(lowest) == set(bounds)
    for name, number in lowest.items():
        (bound,) = bounds[name]
        assert number == Version(bound.version), name


@pytest.mark.skipif(not MAY_BE_ABSENT, reason="this environment has the extras")
def test_only_the_wheel_is_installed() -> None:
    assert [package for package in (*EXTRAS, "foolbox", "ray", "onnx") if find_spec(package)] == []
    assert Version(version("requests")) >= Version("2.32")


@pytest.mark.skipif(not MAY_BE_ABSENT, reason="this environment has the extras")
def test_every_module_and_every_plug_in_is_there_without_extras() -> None:
    for module in walk_packages(robustprune.__path__, "robustprune."):
        if module.name != "robustprune.__main__":  # which is the command
            import_module(module.name)
    for table in (ATTACKS, CORRUPTIONS, CRITERIA, DATASETS, DETECTORS, MODELS):
        for name in table.names():
            assert callable(table.get(name))
