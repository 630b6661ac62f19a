"""Manual pages from commands, and that programs which show manual pages take them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import build_man
from l4lb.cli.main import main


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("man")
    build_man.write(folder, "1.2.3")
    return folder


def shown(page):
    environment = os.environ | {"MANWIDTH": "90", "LC_ALL": "C.UTF-8"}
    command = ["man", "--warnings", "--no-hyphenation", "--no-justification", "-l", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == ""
    return done.stdout


def test_a_page_for_the_program_and_one_for_each_command(written):
    names = {"l4lb.1"} | {f"l4lb-{name}.1" for name in main.commands}
    assert {path.name for path in written.iterdir()} == names


def test_every_option_of_every_command_is_on_its_page(written):
    def check(command, page):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert f"\\fB{build_man._plain(max(parameter.opts, key=len))}\\fR" in page, command.name
        for each in getattr(command, "commands", {}).values():
            check(each, page)

    for name, command in main.commands.items():
        check(command, (written / f"l4lb-{name}.1").read_text())


@pytest.mark.skipif(shutil.which("man") is None, reason="no man: the package man-db has it")
def test_what_people_see(written):
    page = shown(written / "l4lb-backend.1")
    assert "l4lb-backend - the servers behind the services\n" in page
    assert "   l4lb backend drain\n       l4lb backend drain [OPTIONS] SERVICE ADDRESS:PORT\n" in page
    assert page.count("Apply without writing the config file") == 5
    program = shown(written / "l4lb.1")
    for word in ("L4LB_CONFIG", "/etc/l4lb/l4lb.toml", "EXIT STATUS", "l4lb-run(1)"):
        assert word in program
    for path in written.iterdir():
        shown(path)


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="no mandoc: the package mandoc has it")
def test_mandoc_finds_nothing_but_the_missing_date(written):
    command = ["mandoc", "-T", "lint", "-W", "warning", *map(str, written.iterdir())]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert [line for line in said.splitlines() if "missing date" not in line] == []


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        (".l4lb", "\\&.l4lb"),
        ("'x'", "\\(aqx\\(aq"),
        ("C:\\new", "C:\\enew"),
        ("--json", "\\-\\-json"),
    ],
)
def test_what_would_be_a_request_is_text(text, roff):
    assert build_man._plain(text) == roff


def test_lines_that_belong_together_stay_lines():
    @click.command()
    def command():
        """Do it. And more of it.

        \b
        one   1
        .two  2
        """

    pages = build_man.pages(click.Group("l4lb", {"do": command}, help="All."), "1")
    assert pages["l4lb-do.1"].split(".SH DESCRIPTION\n")[1].split(".SH")[0] == (
        "And more of it.\n.PP\n.nf\none   1\n\\&.two  2\n.fi\n"
    )


def test_as_a_command(tmp_path):
    script = Path(build_man.__file__)
    subprocess.run([sys.executable, script, tmp_path / "new" / "man1"], check=True)
    assert (tmp_path / "new" / "man1" / "l4lb.1").read_text().startswith('.TH "L4LB" 1 "" "l4lb ')
