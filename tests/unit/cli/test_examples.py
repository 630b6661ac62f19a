"""The examples: complete, without errors, and known to the README."""

import re
from pathlib import Path

import pytest

import l4lb

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(Path(l4lb.__file__).with_name("examples").iterdir())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_config_without_errors(l4lb, path):
    result = l4lb("check", "-c", str(path))
    assert (result.exit_code, result.stderr) == (0, "")


def test_the_readme_names_them_all_and_no_others():
    named = re.findall(r"\(l4lb/examples/(.*?)\)", (ROOT / "README.md").read_text())
    assert sorted(named) == [path.name for path in EXAMPLES]
