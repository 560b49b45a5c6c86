from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from robustprune.attacks import ATTACKS
from robustprune.data import DATASETS
from robustprune.errors import MissingDependencyError, RobustPruneError, UnknownNameError
from robustprune.models import MODELS
from robustprune.pruning import CRITERIA
from robustprune.registry import Entry, Registry, suggest


def registry(**builtin: str) -> Registry:
    table = {"apple": "fractions:Fraction", **builtin}
    return Registry("fruit", "robustprune.fruit", {name: Entry(target) for name, target in table.items()})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with an installed package that brings plug-ins."""
    package = tmp_path / "orchard-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: orchard\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[robustprune.fruit]\n"
        "pear = orchard_plugins:pear\n"
        "apple = orchard_plugins:pear\n"
        "fig = orchard_plugins:no_such_name\n"
        "plum = orchard_broken:plum\n"
        "quince = orchard_needy:quince\n"
        "[robustprune.attacks]\n"
        "orchard-attack = orchard_plugins:attack\n"
    )
    (tmp_path / "orchard_plugins.py").write_text(
        "pear = 'a pear'\ndef attack(problem, *, bites=3):\n    'Propose a bite.'\n"
    )
    (tmp_path / "orchard_broken.py").write_text("raise RuntimeError('rotten')\n")
    (tmp_path / "orchard_needy.py").write_text("import no_such_orchard_tools.ladder\nquince = None\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("orchard_plugins", "orchard_broken", "orchard_needy"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("table", [ATTACKS, CRITERIA, DATASETS, MODELS], ids=lambda table: table.kind)
def test_every_built_in_loads(table: Registry) -> None:
    names = table.names()
    assert names == sorted(names)
    assert names
    for name in names:
        assert callable(table.get(name))


def test_listing_imports_nothing() -> None:
    table = registry(cherry="no_such_module_at_all:Cherry")
    assert table.names() == ["apple", "cherry"]


def test_built_in_with_and_without_argument() -> None:
    from fractions import Fraction

    assert registry().get("apple") is Fraction
    assert registry().get("apple:of:my:eye") is Fraction


def test_decorator_registers_and_refuses_taken_names() -> None:
    table = registry()

    @table.register("kiwi")
    def kiwi() -> str:
        return "a kiwi"

    assert kiwi() == "a kiwi"
    assert table.get("kiwi:green") is kiwi
    assert table.names() == ["apple", "kiwi"]
    for taken in ("kiwi", "apple"):
        with pytest.raises(ValueError, match=f"fruit '{taken}' is already registered"):
            table.register(taken)
    with pytest.raises(ValueError, match="colon"):
        table.register("ki:wi")
    assert registry().names() == ["apple"]  # another registry knows nothing of it


def test_plug_in_of_an_installed_package(installed: Path) -> None:
    from fractions import Fraction

    table = registry()
    assert {"apple", "pear", "fig"} <= set(table.names())
    assert table.get("pear") == "a pear"
    assert table.get("apple") is Fraction  # a built-in cannot be replaced
    assert "orchard_broken" not in sys.modules

    from robustprune.cli.listing import list_rows

    [row] = [row for row in list_rows("attacks") if row["name"] == "orchard-attack"]
    assert row == {"name": "orchard-attack", "description": "Propose a bite.", "options": {"bites": 3}}


@pytest.mark.parametrize(("name", "reason"), [("plum", "RuntimeError: rotten"), ("fig", "no_such_name")])
def test_plug_in_that_does_not_load_is_named(installed: Path, name: str, reason: str) -> None:
    with pytest.raises(RobustPruneError, match=rf"fruit '{name}', a plug-in of orchard, cannot be loaded.*{reason}"):
        registry().get(name)


def test_missing_package_names_the_command(installed: Path) -> None:
    table = registry(cherry="no_such_cherry_package.stones:Cherry")
    with pytest.raises(MissingDependencyError, match=r"'cherry:red' needs .* pip install no_such_cherry_package$"):
        table.get("cherry:red")
    with pytest.raises(MissingDependencyError, match=r"pip install no_such_orchard_tools$"):
        table.get("quince")


def test_a_missing_module_of_ours_is_no_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"robustprune\.no_such_module"):
        registry(cherry="robustprune.no_such_module:Cherry").get("cherry")


def test_unknown_name_suggests_and_lists() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no fruit called 'aple:x'\. Did you mean 'apple'\? Known: apple, fig\.$"
    ):
        registry(fig="fractions:Fraction").get("aple:x")
    with pytest.raises(UnknownNameError, match=r"no fruit called 'zzz'\. Known: apple\.$"):
        registry().get("zzz")
    with pytest.raises(UnknownNameError, match="no fruit called ''"):
        registry().get("")


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("PGD", ["pgd", "fgsm"], " Did you mean 'pgd'?"),
        ("grasp", ["GraSP", "SNIP"], " Did you mean 'GraSP'?"),
        ("resnet23", ["resnet20", "resnet32"], " Did you mean 'resnet32' or 'resnet20'?"),
        ("zebra", ["pgd", "fgsm"], ""),
        ("anything", [], ""),
    ],
)
def test_suggestions_ignore_case(name: str, known: list[str], expected: str) -> None:
    assert suggest(name, known) == expected
