"""The rooms of the benchmark: each imports from those below it only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmark

_ROOT = Path(benchmark.__file__).parent
_ROOMS = [line.split("/")[0].strip() for line in (benchmark.__doc__ or "").splitlines() if "/  " in line]
"""As the package lists them, from the top down."""


def imported(text: str, package: str) -> Iterator[str]:
    """What a module of a package imports from right below ``benchmark``, rooms and others."""
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            origin = [*above, *([node.module] if node.module else [])]
            names = [".".join([*origin, alias.name]) for alias in node.names]
        for name in names:
            root, _, rest = name.partition(".")
            if root == "benchmark":
                yield rest.partition(".")[0]


@pytest.mark.parametrize(
    "text",
    [
        "from benchmark.lab.cores import CORE",
        "from benchmark.lab import cores",
        "from benchmark import lab",
        "import benchmark.lab.cores",
        "import os, benchmark.lab as place",
        "from .cores import CORE",
        "from . import cores",
        "from ..lab.cores import CORE",
        "from .. import lab",
        "def late():\n    from benchmark.lab.cores import CORE",
    ],
)
def test_every_way_to_import_is_seen(text: str):
    assert list(imported(text, "benchmark.lab")) == ["lab"]


def test_every_room_is_on_the_list():
    assert sorted(_ROOMS) == sorted(file.parent.name for file in _ROOT.glob("*/__init__.py"))


def test_a_room_imports_from_those_below_it_only():
    known = [
        (file.relative_to(_ROOT), room)
        for number, name in enumerate(_ROOMS)
        for file in (_ROOT / name).glob("*.py")
        for room in imported(file.read_text(), f"benchmark.{name}")
        if room not in (*_ROOMS[number:], "BenchError")
    ]
    assert known == []
