"""Where the output goes: closed, full, no real terminal; and a working directory that is gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.cli.answers import STATUS, backend

RUN = "from l4lb.cli.main import main; main(prog_name='l4lb')"


def l4lb_in_shell(daemon, redirection, *arguments):
    """Run the program with a redirection of the shell's."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", RUN, *arguments],
        env={"L4LB_SOCKET": str(daemon.path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("arguments", [("backend", "list", "--interval", "0"), ("status",), ("--help",)])
def test_with_stdout_closed_a_command_does_its_work_in_silence(daemon, arguments):
    daemon.answers |= {"GET /v1/status": STATUS, "GET /v1/backends": {"backends": [backend(reason="odd")]}}
    done = l4lb_in_shell(daemon, ">&-", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [("status",), ("status", "--json"), ("--help",), ("completion", "bash")]
)
def test_output_that_cannot_be_written_is_one_line(daemon, arguments):
    daemon.answers["GET /v1/status"] = STATUS
    done = l4lb_in_shell(daemon, ">/dev/full", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "l4lb: the output cannot be written: No space left on device\n"


def test_a_reader_that_has_enough_is_no_error_worth_a_word(daemon):
    daemon.answers["GET /v1/backends"] = {"backends": [backend(f"10.2.{n}.1:80") for n in range(200)]}
    done = l4lb_in_shell(daemon, "| true", "backend", "list", "--json")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("terminal", ["dumb", "unknown", ""])
def test_no_terminal_is_too_simple_for_a_whole_table(l4lb, daemon, terminal):
    reason = "HTTP 503, expected 200-399, and many more words than there is room for in 80 columns"
    daemon.answers["GET /v1/backends"] = {"backends": [backend(reason=reason)]}
    header, line = l4lb("backend", "list", "--interval", "0", TERM=terminal).stdout.splitlines()
    assert header.split() == [
        "SERVICE",
        "BACKEND",
        "WEIGHT",
        "STATE",
        "FOR",
        "ACTIVE",
        "WAIT",
        "RESPONSE",
        "REASON",
    ]
    assert line.endswith(reason)


def test_a_working_directory_that_is_gone(daemon, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    where = f"cd {gone} && rmdir {gone} &&"
    done = subprocess.run(
        ["sh", "-c", f'{where} exec "$@"', "sh", sys.executable, "-c", RUN, "-c", "l4lb.toml", "check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "l4lb: l4lb.toml: the directory this was started in is gone: write the whole path\n"
    )
