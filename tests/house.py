"""Print how large the house is: files, lines, functions, parameters, and names that are used twice."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "robustprune"
MOST_PARAMETERS = 10
# Of which each room may have its own, and which mean the same in each.
ROOM_NAMES = {"__init__.py", "registry.py", "requests.py", "plugins.py"}


class Function(NamedTuple):
    name: str
    lines: int  # from its decorators to its end
    code: int  # without decorators, signature and docstring
    parameters: int  # without self; *args and **options count as one each
    documents_arguments: bool


def functions(text: str, file: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        assert node.end_lineno is not None
        documentation = ast.get_docstring(node) or ""
        body = node.body[1:] if documentation else node.body
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        given = [*node.args.posonlyargs, *node.args.args]
        own = given[1:] if given and given[0].arg in ("self", "cls") else given
        yield Function(
            name=f"{file}:{node.name}",
            lines=node.end_lineno - first + 1,
            code=node.end_lineno - body[0].lineno + 1 if body else 0,
            parameters=len(own) + len(node.args.kwonlyargs) + sum(map(bool, (node.args.vararg, node.args.kwarg))),
            documents_arguments="Args:" in documentation,
        )


FILES = sorted(PACKAGE.rglob("*.py"))
FUNCTIONS = [found for path in FILES for found in functions(path.read_text(), str(path.relative_to(PACKAGE)))]


def doubled_files() -> dict[str, list[str]]:
    """Return basenames that several rooms use; a command's file is called as the command, whatever else is."""
    rooms = [path for path in FILES if path.parent != PACKAGE / "cli"]
    counts = Counter(path.name for path in rooms)
    return {
        name: [str(path.relative_to(PACKAGE)) for path in rooms if path.name == name]
        for name, count in sorted(counts.items())
        if count > 1 and name not in ROOM_NAMES
    }


def doubled_classes() -> dict[str, list[str]]:
    """Return public classes of one name in several files."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    return {name: files for name, files in sorted(found.items()) if len(files) > 1}


def main() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    print(f"{len(FILES)} files, {sum(lengths.values()):,} lines")
    print(f"median file {median(lengths.values()):.0f} lines, longest {max(lengths.values())}")
    print(f"functions: p90 {quantiles([each.lines for each in FUNCTIONS], n=10)[-1]:.0f} lines, ", end="")
    print(f"longest without its docstring {max(each.code for each in FUNCTIONS)}")
    many = sorted(each for each in FUNCTIONS if each.parameters > MOST_PARAMETERS)
    print(f"{len(many)} functions have more than {MOST_PARAMETERS} parameters")
    for each in many:
        print(f"  {each.name}: {each.parameters}")
    for what, doubles in (("files", doubled_files()), ("classes", doubled_classes())):
        print(f"{len(doubles)} names of {what} are used more than once")
        for name, places in doubles.items():
            print(f"  {name}: {' '.join(places)}")
    for room in sorted({path.relative_to(PACKAGE).parts[0] for path in FILES}):
        own = [count for path, count in lengths.items() if path.relative_to(PACKAGE).parts[0] == room]
        print(f"  {room:<14}{len(own):>4} files {sum(own):>7,} lines")


if __name__ == "__main__":
    main()
