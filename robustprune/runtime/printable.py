"""Names of files that are no UTF-8, written so that JSON, HTML, DuckDB and terminals take them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def printable(text: str | Path) -> str:
    r"""Return a text or path fit for every output: bytes of a name that are no UTF-8 are written as ``\xe9``.

    Python holds such bytes as lone surrogates, which JSON, HTML and terminals refuse.
    """
    return re.sub("[\ud800-\udfff]", lambda found: _escape(ord(found[0])), str(text))


def _escape(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _escape_what_fails(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_escape(ord(letter)) for letter in error.object[error.start : error.end]), error.end


ERRORS = "robustprune.runtime.printable"
"""Handler of errors of a stream that writes what it cannot encode as :func:`printable` does."""
codecs.register_error(ERRORS, _escape_what_fails)


def all_printable(value: Any) -> Any:
    """Return plain containers with every text in them :func:`printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {all_printable(name): all_printable(each) for name, each in value.items()}
    return [all_printable(each) for each in value] if isinstance(value, list | tuple) else value
