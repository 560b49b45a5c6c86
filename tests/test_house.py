"""How large files and functions may get, so that each stays about one thing."""

from __future__ import annotations

from statistics import median, quantiles

from house import (
    FILES,
    FUNCTIONS,
    MOST_PARAMETERS,
    PACKAGE,
    Function,
    doubled_classes,
    doubled_files,
    functions,
)

MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 60


def test_counting_counts() -> None:
    signature = "@cache\n@bind(\n    1\n)\ndef short(\n    first,\n):\n"
    documentation = '    """What.\n\n    Args:\n        first: One.\n    """\n'
    body = "    second = first\n    # on the way\n    return second\n"
    (found,) = functions(signature + documentation + body, "file.py")
    assert found == Function("file.py:short", lines=15, code=3, parameters=1, documents_arguments=True)
    (bare,) = functions("def bare(): return 1\n", "file.py")
    assert bare == Function("file.py:bare", lines=1, code=1, parameters=0, documents_arguments=False)
    assert len(FUNCTIONS) > 1000


def test_files_are_about_one_thing() -> None:
    lengths = {
        str(path.relative_to(PACKAGE)): len(path.read_text().splitlines())
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".html", ".js", ".css")
    }
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES_OF_A_FILE} == {}


def test_files_and_functions_stay_short() -> None:
    lines = [len(path.read_text().splitlines()) for path in FILES]
    assert 90 <= median(lines) <= 150
    assert quantiles([found.lines for found in FUNCTIONS], n=10)[-1] <= 25


def test_functions_fit_on_a_screen() -> None:
    assert [found for found in FUNCTIONS if found.code > MOST_LINES_OF_A_FUNCTION] == []


def test_only_the_arguments_of_a_public_function_make_it_longer() -> None:
    longer = [found for found in FUNCTIONS if found.lines > MOST_LINES_OF_A_FUNCTION]
    assert [found for found in longer if not found.documents_arguments] == []


def test_what_is_asked_for_is_passed_whole() -> None:
    assert [found for found in FUNCTIONS if found.parameters > MOST_PARAMETERS] == []


def test_a_name_means_one_thing() -> None:
    assert doubled_files() == {}
    assert doubled_classes() == {}
