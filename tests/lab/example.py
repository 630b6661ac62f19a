"""The examples that l4lb ships, and their servers on the lab, whose addresses they use."""

import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

import l4lb
from tests.lab.clients import wait_for
from tests.lab.services import BACKENDS, listed

EXAMPLES = Path(l4lb.__file__).with_name("examples")
NAMES = list(BACKENDS[4])


def example(name):
    """The text of an example as it is shipped."""
    return (EXAMPLES / f"{name}.toml").read_text()


def need(*programs):
    """Skip where one of them is not installed, and say so."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: tools/setup installs it")


class Server:
    """A program in the foreground on a host of the lab, for a ``with``; what it says is in ``log``."""

    def __init__(self, lab, host, *argv, log, end=signal.SIGTERM):
        self.log = log
        self._command = lab.command(host, *map(str, argv))
        self._end = end
        self._process = None

    def __enter__(self):
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(self, kind, error, traceback):
        self._process.send_signal(self._end)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if error is not None:
            print(f"--- {self.log}\n{self.log.read_text(errors='replace')[-2000:]}")

    @contextmanager
    def stopped(self):
        """It is away for a while."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()


@contextmanager
def balanced(lab, config, *names, hosts=NAMES):
    """l4lb with this config, once these services have all their backends up."""
    with lab.daemon(config) as daemon:
        for name in names:
            for host in hosts:
                wait_state(daemon, host, "up", name)
        yield daemon


def wait_state(daemon, host, state, service):
    wait_for(f"{host} to be {state}", lambda: listed(daemon, "state", service)[host] == state)
    daemon.api.post("reload")  # answers when the datapath has all that the daemon knows
