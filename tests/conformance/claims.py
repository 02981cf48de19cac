"""Which tests claim which rows: those that name the row, in their own text.

A test names a row in its docstring (``BF-GET-01``; ``BF-GET-01, -02`` and ``BF-GET-01
to -04`` stand for each), in another string of its own or of its decorators, or in its
name (``test_bf_get_01_…``). Files are parsed, never imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

_NAMED = re.compile(r"BF-([A-Z]+)-(\d\d)((?:(?:,| and| to)\s+-\d\d)*)")
_FURTHER = re.compile(r"(,| and| to)\s+-(\d\d)")
_IN_NAME = re.compile(r"bf_([a-z]+)_(\d\d)")


def claims(tests: Path) -> dict[str, list[str]]:
    """Return, for every row that is named, the tests that name it.

    Tests are called as pytest calls them, from the directory above ``tests``.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        place = path.relative_to(tests.parent).as_posix()
        for function in ast.parse(path.read_text()).body:
            if isinstance(
                function, ast.FunctionDef | ast.AsyncFunctionDef
            ) and function.name.startswith("test_"):
                for id in _rows_of(function):
                    found.setdefault(id, []).append(f"{place}::{function.name}")
    return found


def rows_in(text: str) -> Iterator[str]:
    """Yield the rows that ``text`` names, those of lists and spans included."""
    for chapter, first, further in _NAMED.findall(text):
        numbers = [int(first)]
        for joint, number in _FURTHER.findall(further):
            after = numbers[-1] + 1 if joint == " to" else int(number)
            numbers += range(after, int(number) + 1)
        yield from (f"BF-{chapter}-{number:02}" for number in numbers)


def _rows_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    named = [
        f"BF-{chapter.upper()}-{number}"
        for chapter, number in _IN_NAME.findall(function.name)
    ]
    for node in ast.walk(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named += rows_in(node.value)
    return list(dict.fromkeys(named))
