"""An attack of one's own, as the page on attacks shows it: by decorator, and from an installed package."""

import re
import sys
from pathlib import Path

import pytest
import torch

from robustprune.attacks import ATTACKS, run_attack

PAGE = Path(__file__).parent.parent.parent / "docs" / "attacks.md"


EXAMPLE, PGD = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def example():
    return EXAMPLE


def test_pgd_as_the_page_shows_it(network, test_images, test_labels, register):
    names = {}
    exec(PGD, names)
    register("shown-pgd", names["pgd"])
    shown, ours = (
        run_attack(network, test_images, test_labels, name, epsilon=0.06, steps=5) for name in ("shown-pgd", "pgd")
    )
    assert torch.equal(shown.adversarial, ours.adversarial)


def test_by_decorator(network, test_images, test_labels, example):
    names = {"model": network, "images": test_images, "labels": test_labels}
    try:
        exec(example, names)
    finally:
        ATTACKS._registered.pop("momentum", None)
    assert names["result"].valid
    assert names["result"].robust_accuracy < names["result"].clean_accuracy


def test_by_entry_point(network, test_images, test_labels, example, tmp_path, monkeypatch):
    (function,) = re.findall(r"def momentum.*?\n\n", example, re.DOTALL)
    (tmp_path / "my_package.py").write_text(function)
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    header, entry = toml.strip().split("\n")
    assert header == '[project.entry-points."robustprune.attacks"]'
    information = tmp_path / "my_package-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[robustprune.attacks]\n" + entry.replace('"', "") + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        assert "momentum" in ATTACKS.names()
        result = run_attack(network, test_images, test_labels, "momentum", epsilon=0.05, steps=5)
    finally:
        sys.modules.pop("my_package", None)
    assert result.valid
    assert result.options["steps"] == 5
    assert set(result.broken_by) == {"", "clean", "momentum"}
