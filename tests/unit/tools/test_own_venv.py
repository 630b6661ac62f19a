"""The way of the tools into .venv."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import own_venv

TOOL = """\
import own_venv
own_venv.enter()
import os, sys
print(sys.prefix, os.environ["PATH"])
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with one tool, and no .venv yet."""
    tools = tmp_path / "checkout" / "tools"
    tools.mkdir(parents=True)
    shutil.copy(own_venv.__file__, tools)
    (tools / "it").write_text(TOOL)
    return tools.parent


def run(tree: Path) -> "subprocess.CompletedProcess[str]":
    python = Path(sys.base_prefix) / "bin" / "python3"
    return subprocess.run(
        [python, tree / "tools" / "it"],
        env={"PATH": "/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )


def test_without_one_it_says_what_makes_it(tree: Path):
    done = run(tree)
    assert done.returncode == 1
    assert done.stderr == ("tools/it: there is no .venv with the development packages: run tools/setup\n")


@pytest.mark.parametrize("linked", [False, True], ids=["a directory", "a symlink"])
def test_it_goes_on_with_the_python_there_and_finds_roots_programs(tree: Path, linked: bool):
    place = tree / ("elsewhere" if linked else ".venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    if linked:
        (tree / ".venv").symlink_to(place)
    done = run(tree)
    assert (done.returncode, done.stderr) == (0, "")
    prefix, path = done.stdout.split()
    assert Path(prefix).resolve() == place.resolve()
    assert path == "/bin:/usr/sbin:/sbin"
