"""What is published: a wheel by way of the sdist, with everything in it, that runs where only it is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from robustprune._version import __version__

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="needs the repository"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from what is under version control, as a clean clone has it; return their folder."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment; return its programs' folder.

    The environment sees the packages that this one has, but not its own robustprune: a folder named in a .pth file is
    searched, the .pth files in it, such as that of an editable installation, are not read.
    """
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (wheel,) = built.glob("*.whl")
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    (own,) = home.rglob("site-packages")
    (own / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return programs


def call(programs: Path, folder: Path, program: str, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [str(programs / program), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_what_it_needs(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "robustprune"
    tracked = {str(path.relative_to(ROOT)) for path in package.rglob("*") if path.is_file()}
    assert {name for name in tracked if "__pycache__" not in name} <= names
    assert "robustprune/py.typed" in names
    assert {f"robustprune/paper/{path.name}" for path in (ROOT / "examples" / "paper").iterdir()} <= names
    assert {f"robustprune/report/web/{path.name}" for path in (package / "report" / "web").iterdir()} <= names
    others = {name.split("/")[0] for name in names} - {"robustprune"}
    assert others == {f"robustprune-{__version__}.dist-info"}  # no tests or docs beside it


def test_sdist_holds_the_project(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "mkdocs.yml"}
    wanted |= {"constraints.txt", "constraints-bare.txt", "constraints-lowest.txt"}
    assert (
        wanted | {"robustprune/py.typed", "examples/paper/table1.yaml", "tests/conftest.py", "docs/tutorial.md"}
        <= names
    )


def test_it_runs_where_only_it_is_installed(installed: Path, tmp_path: Path) -> None:
    where = call(installed, tmp_path, "python", "-c", "import robustprune; print(robustprune.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert __version__ in call(installed, tmp_path, "robustprune", "--version")
    assert "pgd" in call(installed, tmp_path, "robustprune", "list", "attacks")
    call(installed, tmp_path, "robustprune", "reproduce", "table1", "--dry-run", "--out", "tables")
    prune = ("prune", "--model", "resnet20", "--criterion", "random", "--blocks", "2", "--out", "t.pt")
    call(installed, tmp_path, "robustprune", *prune)
    for model, name in (("resnet20", "dense"), ("t.pt", "layers")):
        evaluate = (
            "evaluate",
            "--model",
            model,
            "--attack",
            "fgsm",
            "--limit",
            "50",
            "--out",
            f"{name}.json",
            "--json",
        )
        assert json.loads(call(installed, tmp_path, "robustprune", *evaluate))["attacks"][0]["valid"]
    call(installed, tmp_path, "robustprune", "report", "dense=dense.json", "layers=layers.json", "--out", "report.html")
    assert "<svg" in (tmp_path / "report.html").read_text()
