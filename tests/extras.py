"""What only some environments have: packages of the extras, and independent implementations that tests compare with."""

from __future__ import annotations

import os
import re
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

MAY_BE_ABSENT = os.environ.get("ROBUSTPRUNE_EXTRAS") == "absent"
"""Set by `make test-bare`, where only the wheel and pytest are installed; everywhere else absence is an error."""

_FAMILY = re.compile(r"\b(timm|torchattacks|robustbench|foolbox):")


def needs(module: str) -> Any:
    """Import a module of a package that may be absent, and skip the tests of the file that asks where it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old packages that import one another; as errors they would end halfway
        return pytest.importorskip(module, exc_type=ModuleNotFoundError) if MAY_BE_ABSENT else import_module(module)


def skip_what_needs_more(items: list[pytest.Item]) -> None:
    """Skip tests marked ``needs(package)``, or with a parameter such as ``timm:resnet18``, where that is absent."""
    for item in items if MAY_BE_ABSENT else ():
        wanted = {package for mark in item.iter_markers("needs") for package in mark.args}
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            wanted.update(_FAMILY.findall(repr(item.callspec.params)))
        if absent := sorted(package for package in wanted if find_spec(package) is None):
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(absent)}"))
