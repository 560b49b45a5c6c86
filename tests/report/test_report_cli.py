from __future__ import annotations

from pathlib import Path

import pytest
from support import Run, check_failure

from robustprune.records import Record


@pytest.fixture
def folder(records: dict[str, Record], tmp_path: Path) -> Path:
    for name, record in records.items():
        record.model_copy(deep=True).save(tmp_path / "runs" / name / "record.json")
    return tmp_path / "runs"


def test_a_folder_becomes_a_page(run: Run, folder: Path) -> None:
    done = run("report", str(folder), "--out", "page.html", "--title", "What we found")
    assert done.code == 0, done.err
    assert "layer ticket (l1, 2 blocks)" in done.out
    assert "report in page.html" in done.err
    page = (folder.parent / "page.html").read_text()
    assert "<h1>What we found</h1>" in page
    assert "layer ticket (random, 2 blocks)" in page


def test_named_records_and_json(run: Run, folder: Path) -> None:
    named = [f"{name}={folder}/{name}/record.json" for name in ("dense", "l1")]
    found = run("report", *named, "--tolerance", "2.5", "--json").json
    assert found["out"] == "report.html"
    assert found.keys() == {"out", "parts"}
    ((title, part),) = found["parts"].items()
    assert title == "resnet20 on digits"
    assert part["tolerances"]["accuracy"] == 2.5
    assert {row["candidate"] for row in part["rows"]} == {"l1"}
    assert (folder.parent / "report.html").is_file()


@pytest.mark.slow
def test_the_tables_of_the_paper(run: Run, folder: Path) -> None:
    assert run("report", str(folder), "--out", "page.html", "--paper-tables").code == 0
    page, markdown, latex = ((folder.parent / f"page.{kind}").read_text() for kind in ("html", "html.md", "html.tex"))
    assert 'id="paper"' in page
    assert latex.count(r"\begin{tabular}") == markdown.count("**Table ") == page.count("<caption><span>Table ") > 0
    assert run("report", str(folder), "--out", "plain.html").code == 0
    assert 'id="paper"' not in (folder.parent / "plain.html").read_text()
    assert not (folder.parent / "plain.html.tex").exists()


@pytest.mark.slow
def test_figures_for_papers(run: Run, folder: Path) -> None:
    assert run("report", str(folder), "--figures", "figures").code == 0
    files = sorted((folder.parent / "figures").iterdir())
    starts = {".pdf": b"%PDF", ".png": b"\x89PNG", ".svg": b"<svg"}
    assert {path.suffix for path in files} == set(starts)
    assert len(files) == 3 * len({path.stem for path in files}) >= 15
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in files)


def test_what_makes_no_report(run: Run, folder: Path) -> None:
    dense = f"{folder}/dense/record.json"
    check_failure(run("report", str(folder / "none")), 1, "none")
    check_failure(run("report", str(folder.parent / "empty")), 1, "empty")
    check_failure(run("report", f"{folder}/l1"), 1, "no record of a dense network")
    check_failure(run("report", f"dense={dense}"), 1, "no record of a pruned network")
    check_failure(run("report", dense, f"l1={dense}"), 1, "has no name")
    check_failure(run("report", "dense="), 1, "not of the form name=FILE")
    check_failure(run("report"), 2, "RECORDS")
    check_failure(run("report", str(folder), "--tolerance", "much"), 2, "--tolerance")
    assert not (folder.parent / "report.html").exists()


@pytest.mark.filterwarnings("default::robustprune.errors.RecordWarning")
def test_damaged_and_unwritable_files(run: Run, folder: Path) -> None:
    damaged = folder / "l1" / "record.json"
    damaged.write_text('{"schema": 1, "model": {}, "samples_sha256": "", "clean": {}}')
    done = run("report", str(folder))
    assert done.code == 0, done.err
    assert "Warning: left out: " in done.err
    assert "l1/record.json is no record" in done.err
    check_failure(run("report", str(damaged)), 1, "l1/record.json is no record")
    (folder.parent / "file").write_text("")
    check_failure(run("report", str(folder), "--out", "file/report.html"), 2, "file")
