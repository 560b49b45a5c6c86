"""What the documents promise: finished text, links that lead somewhere, examples that run, commands that exist."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import click.shell_completion
import pytest
import torch
import yaml
from document_blocks import PAGES, ROOT, blocks_of, commands_in, run_page
from support import Run
from torch.utils.data import DataLoader, TensorDataset

import robustprune as rp
from robustprune.cli import commands, every_command
from robustprune.data import ImageData
from robustprune.pruning import CRITERIA

DOCS = ROOT / "docs"
slow = pytest.mark.slow
# Pages that are done as they stand, from top to bottom.
DONE = [
    "howto/validity.md",
    *(
        pytest.param(name, marks=slow)
        for name in (
            *(
                "tutorial.md",
                "howto/compare.md",
                "howto/own-data.md",
                "howto/own-model.md",
                "howto/own-pytorch.md",
                "howto/plug-ins.md",
                "howto/cifar10-c.md",
                "howto/export.md",
            ),
            "howto/cluster.md",
            "howto/graphics-cards.md",
            "howto/reproduce.md",
        )
    ),
]
# Pages whose Python takes some names as given, and from which block on.
GIVEN = ["baselines.md", "corruptions.md", "criteria.md", "ood.md"]
# Other tests run these: README and the landing page by their own, an attack of one's own by
# tests/attacks/test_attack_own.py, and what comes before torch is loaded by tests/runtime/test_threads.py.
ELSEWHERE = {"README.md", "index.md", "attacks.md", "howto/shared-machine.md"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page_is_finished_and_its_links_exist(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"@[A-Z]+@", text)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target


def strings_of(path: Path) -> Iterator[str]:
    """Yield what a file of the package may print, and its docstrings."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_words_that_the_glossary_rules_out_do_not_occur() -> None:
    glossary = (DOCS / "glossary.md").read_text().partition("## Words that are not used")[2]
    ruled_out = [row.split("|")[1].strip() for row in glossary.splitlines() if row.startswith("| ")][1:]
    assert len(ruled_out) > 5
    texts = {name_of(page): page.read_text() for page in PAGES if page.name not in ("glossary.md", "CHANGELOG.md")}
    texts |= {str(path.relative_to(ROOT)): "\n".join(strings_of(path)) for path in (ROOT / "robustprune").rglob("*.py")}
    found = {
        (name, word)
        for name, text in texts.items()
        for word in ruled_out
        if re.search(rf"\b{re.escape(word)}", " ".join(text.split()), re.IGNORECASE)
    }
    assert not found


def test_options_of_criteria_are_those_of_the_page() -> None:
    table = (DOCS / "criteria.md").read_text().partition("## Options")[2].partition("\n\n**")[0]
    cells = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    words = [[re.findall(r"`(\w+)`", cell) for cell in row] for row in cells]
    named = {option: criteria for options, criteria in words for option in options}
    taken = {name: set(plugin.options) for name, plugin in CRITERIA.builtin.items()}
    assert set(named) == set().union(*taken.values())
    assert all(option in taken[name] for option, criteria in named.items() for name in criteria)


def test_every_page_with_python_or_a_session_is_run() -> None:
    with_code = {
        page.relative_to(DOCS if DOCS in page.parents else ROOT) for page in PAGES if blocks_of(page, "python")
    }
    done = {str(getattr(page, "values", [page])[0]) for page in DONE}
    assert {str(page) for page in with_code} <= done | set(GIVEN) | ELSEWHERE


def find_command(typed: list[str]) -> tuple[str, click.Command, list[str]]:
    """Return the command that is typed, and what follows."""
    name = typed[0] if typed[0] in every_command() else " ".join(typed[:2])
    assert name in every_command(), typed
    return name, every_command()[name], typed[len(name.split()) :]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist_and_take_their_options(page: Path) -> None:
    for typed in (words[1:] for words in commands_in(page.read_text()) if len(words) > 1):
        if typed[0].startswith("-"):
            continue
        name, command, words = find_command(typed)
        every = command.params
        known = {option for each in every for option in (*each.opts, *each.secondary_opts)} | {"--help"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{name}: {sorted(used - known)}"
        if not any("$" in word for word in words):  # a variable of the shell's
            with contextlib.suppress(click.exceptions.Exit):  # of --help
                command.make_context(name, list(words))


@pytest.mark.parametrize("page", DONE)
def test_page_can_be_done_as_it_stands(page: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = set(sys.modules)
    try:
        names = run_page(DOCS / page, run, monkeypatch)
    finally:
        for module in {"my_net", "my_plugins"} & (set(sys.modules) - modules):
            del sys.modules[module]
    if page == "howto/validity.md":
        assert {check.name: check.verdict for check in names["result"].checks}["logits"] == "WARN"


@pytest.mark.slow
@pytest.mark.parametrize("page", GIVEN)
def test_python_of_a_page_runs(page: str, few_digits: ImageData) -> None:
    images = few_digits.test.images[:40]
    names: dict[str, Any] = {
        **{"rp": rp, "data": few_digits, "images": images, "labels": few_digits.test.labels[:40]},
        **{"indices": torch.arange(40), "model": rp.build_model("resnet20", few_digits, width=4)},
    }
    try:
        for block in blocks_of(DOCS / page, "python"):
            exec(compile(block.text, page, "exec"), names)
    finally:
        CRITERIA._registered.pop("depth", None)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_python_of_the_first_page_runs(page: str, digits: ImageData) -> None:
    loaders = {
        f"{name}_loader": DataLoader(TensorDataset(part.images.float() / 255, part.labels), batch_size=50)
        for name, part in (("train", digits.train), ("test", digits.test))
    }
    (block,) = blocks_of(ROOT / page, "python")
    names: dict[str, Any] = {**loaders, "model": rp.build_model("resnet20", digits, width=8)}
    exec(compile(block.text, page, "exec"), names)
    assert names["record"].clean.accuracy > 0.9
    assert names["record"].attacks[0].robust_accuracy < names["record"].clean.accuracy


@pytest.mark.slow
def test_commands_of_the_readme_run_one_after_the_other(run: Run) -> None:
    lines = commands_in((ROOT / "README.md").read_text())
    assert len(lines) == 5
    shorter = {"train": ("--epochs", "1"), "evaluate": ("--limit", "40")}
    for _, name, *words in lines:
        outcome = run(name, *words, *shorter.get(name, ()))
        assert outcome.code == 0, outcome.err
    assert "<svg" in Path("report.html").read_text()


def test_the_recording_is_one_small_file_that_fetches_nothing() -> None:
    text = (DOCS / "recording.svg").read_text()
    assert len(text) < 300_000
    root = ElementTree.fromstring(text)
    assert {each.tag.partition("}")[2] for each in root.iter()} <= {
        "svg",
        "style",
        "rect",
        "circle",
        "g",
        "text",
        "tspan",
    }
    assert not re.findall(r"url\(|@import|href", text)
    # It shows commands that exist, and the result of the last one stays for readers who ask for less motion.
    shown = root.attrib["aria-label"].removeprefix("A terminal: ").split("; ")
    assert [words[1] for words in commands_in("\n".join(shown))] == ["prune", "train", "evaluate"]
    for _, *typed in commands_in("\n".join(shown)):
        name, command, words = find_command(typed)
        command.make_context(name, words)
    last = " ".join(text for each in root.iter() if each.get("class") == "last" for text in each.itertext())
    assert "pgd" in last
    assert "record.json" in last


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    # The site has to lie below its settings, and this one is not to replace that of `make docs`.
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(DOCS), str(ROOT)])}
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    assert {page.with_suffix("").relative_to(DOCS) for page in DOCS.rglob("*.md")} <= {
        page.with_suffix("").relative_to(site) for page in site.rglob("*.html")
    }
    listed = (site / "reference" / "command-line.html").read_text()
    assert all(f'<h2 id="{name.replace(" ", "-")}">' in listed for name in every_command())
    python = (site / "reference" / "python.html").read_text()
    for name in set(rp.__all__) - {"__version__"}:
        assert re.search(rf'id="robustprune\.[\w.]+\.{name}"', python), name
    # Nothing is fetched from elsewhere when the pages are read.
    for page in site.rglob("*.html"):
        assert not re.findall(r'(?:src=|<link[^>]+href=)"https?://', page.read_text()), page
    assert "iframe-worker" in (site / "index.html").read_text()  # without it, search from disk finds nothing


def test_every_page_is_reached_from_the_navigation_and_has_the_version() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def pages_below(part: Any) -> Iterator[str]:
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from pages_below(value)
        if isinstance(part, str):
            yield part

    listed = list(pages_below(settings["nav"]))
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
    assert settings["extra"]["release"] == rp.__version__


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_as_documented() -> None:
    completion = click.shell_completion.BashComplete(commands, {}, "robustprune", "_ROBUSTPRUNE_COMPLETE")
    assert "_ROBUSTPRUNE_COMPLETE=bash_complete" in completion.source()
    assert "_ROBUSTPRUNE_COMPLETE=bash_source" in (DOCS / "reference" / "command-line.md").read_text()
    assert [each.value for each in completion.get_completions([], "ex")] == ["export"]
    assert "--format" in [each.value for each in completion.get_completions(["export"], "--f")]
    assert {each.value for each in completion.get_completions(["export", "--format"], "")} == {"onnx", "torch-export"}


def test_files_for_the_forge_hold_what_they_stand_for() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == rp.__version__
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2301.10835"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["ci"]["steps"] if "run" in step][-1] == "bash .ci/run"
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]  # nothing is downloaded
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text()), form


def test_each_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = (each for names in project["optional-dependencies"].values() for each in names)
    page = (DOCS / "dependencies.md").read_text().lower()
    for requirement in {*project["dependencies"], *extras}:
        name = re.split(r"[\[<>=]", requirement)[0].lower()
        assert name.removesuffix("-python") in page, name
