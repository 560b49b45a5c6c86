"""Which of a test's many like cases run among the quick tests: ``@pytest.mark.quick_cases(4)``; the others are slow."""

from __future__ import annotations

import zlib

import pytest


def leave_some_quick(items: list[pytest.Item]) -> None:
    """Mark all cases of such tests as slow but so many.

    Which stay is drawn by a checksum of their names: a mix of all parameters, the same on every machine.
    """
    tests: dict[tuple[str, int], list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("quick_cases")
        if mark is not None:
            tests.setdefault((item.nodeid.partition("[")[0], mark.args[0]), []).append(item)
    for (_, quick), cases in tests.items():
        for item in sorted(cases, key=lambda item: zlib.crc32(item.name.encode()))[quick:]:
            item.add_marker(pytest.mark.slow)
