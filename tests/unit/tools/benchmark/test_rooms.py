"""The rooms of the benchmark: each knows those below it only, and can be read without the others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import benchmark

_ROOT = Path(benchmark.__file__).parent
_ROOMS = [line.split("/")[0].strip() for line in (benchmark.__doc__ or "").splitlines() if "/  " in line]
"""As the package lists them, from the top down."""


def imported(file: Path) -> Iterator[str]:
    """The rooms that a file imports from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("benchmark"):
            yield from node.module.split(".")[1:2] or [alias.name for alias in node.names]


def test_every_room_is_on_the_list():
    assert sorted(_ROOMS) == sorted(file.parent.name for file in _ROOT.glob("*/__init__.py"))


def test_a_room_knows_those_below_it_only():
    known = [
        (file.relative_to(_ROOT), room)
        for number, name in enumerate(_ROOMS)
        for file in (_ROOT / name).glob("*.py")
        for room in imported(file)
        if room not in (*_ROOMS[number:], "BenchError")
    ]
    assert known == []
