"""What the documents promise: finished text, links that lead somewhere, Python that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_is_finished_and_its_links_exist(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"@[A-Z]+@", text)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target


@pytest.mark.slow
def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole_path, attacks_alone = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(whole_path, names)
    assert names["record"].clean.accuracy >= 0.95  # type: ignore[attr-defined]
    test = names["data"].test  # type: ignore[attr-defined]
    names |= {"images": test.images[:50], "labels": test.labels[:50], "model": names["ticket"].model()}  # type: ignore[attr-defined]
    exec(attacks_alone, names)
    assert names["result"].valid  # type: ignore[attr-defined]
