"""The example postgresql.toml, with PostgreSQL's servers and psql."""

import dataclasses
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from l4lb.model import Timeouts
from tests.lab.clients import DEADLINE, wait_for
from tests.lab.example import NAMES, Server, balanced, example, wait_state
from tests.lab.services import BACKENDS, VIP, backend
from tests.lab.test_backends_down import silent

pytestmark = [pytest.mark.lab, pytest.mark.datapath("auto", "raw")]

QUICK = 1.0  # seconds: at once, and not by a timeout of TCP
USER = "nobody"
SETTINGS = """\
listen_addresses = '{address}'
unix_socket_directories = '{directory}'
fsync = off
shared_buffers = 1MB
"""
LASTING = ("established", "udp", "udp_new")
SHORT = 1  # second


@pytest.fixture(scope="module")
def programs():
    """Where PostgreSQL's programs are: Debian keeps them by version, out of PATH."""
    found = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(found, key=lambda path: int(path.parts[-3]), default=None)
    if newest is None:
        # Not installed by tools/setup: its package makes a user, a cluster and a certificate.
        pytest.skip("no PostgreSQL server: apt-get install postgresql")
    return newest.parent


@pytest.fixture(scope="module")
def servers(lab, programs):
    """A replica on each host, by host, with its files in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="l4lb-postgresql-") as place, ExitStack() as stack:
        directory = Path(place)
        shutil.chown(directory, USER)
        replicate(programs, directory)
        servers = {}
        for name in NAMES:
            as_user = ("setpriv", f"--reuid={USER}", "--regid=nogroup", "--clear-groups")
            command = (*as_user, programs / "postgres", "-D", directory / name)
            server = Server(lab, name, *command, log=directory / f"{name}.log", end=signal.SIGQUIT)
            servers[name] = stack.enter_context(server)
        for name in NAMES:
            log = directory / f"{name}.log"
            ready = "ready to accept"  # read-only connections
            wait_for(f"{name} to serve", lambda: ready in log.read_text(), 30)  # noqa: B023
        yield servers


def replicate(programs, directory):
    """One cluster for all hosts. They stay in recovery and refuse to write, as replicas do, and wait for
    a primary's log that never comes."""
    origin = directory / "origin"
    options = ["-U", USER, "-A", "trust", "--no-sync", "--wal-segsize=1"]
    command = [programs / "initdb", "-D", origin, *options]
    as_user = {"user": USER, "group": "nogroup", "extra_groups": []}
    subprocess.run(command, **as_user, cwd="/", capture_output=True, check=True)
    (origin / "pg_hba.conf").write_text("host all all 10.1.0.0/24 trust\n")
    (origin / "standby.signal").touch()
    for name in NAMES:
        subprocess.run(["cp", "-a", origin, directory / name], check=True)
        with (directory / name / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(address=BACKENDS[4][name], directory=directory / name))


@pytest.fixture
def daemon(lab, servers):
    with balanced(lab, example("postgresql"), "postgresql") as daemon:
        yield daemon


class Session:
    """psql, connected through the VIP; for a ``with``."""

    def __init__(self, lab, programs):
        target = f"host={VIP} user={USER} dbname=postgres connect_timeout=10"
        self._psql = lab.popen("client", programs / "psql", "-XqAt", target)
        address, self.port = self.ask("SELECT host(inet_server_addr()), inet_client_port()").split("|")
        self.server = next(name for name in NAMES if BACKENDS[4][name] == address)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._psql.kill()
        self._psql.communicate()

    def ask(self, query):
        """The first line of the answer."""
        self.begin(query)
        return self.answer()

    def begin(self, query):
        """Ask, and do not wait."""
        self._psql.stdin.write(f"{query};\n")
        self._psql.stdin.flush()

    def answer(self):
        """The next line, an answer or an error."""
        assert select.select([self._psql.stdout], [], [], DEADLINE)[0], "psql is silent"
        return self._psql.stdout.readline().rstrip("\n")

    def end(self):
        """Say good-bye to the server."""
        self._psql.communicate("\\q\n", timeout=DEADLINE)


@pytest.fixture
def connect(lab, programs):
    """Make a session; all end with the test."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Session(lab, programs))


def one_each(connect):
    """A session on each host, in a transaction: by host, with the time at which it began, which is the
    same for as long as it goes on."""
    sessions = {session.server: session for session in (connect() for _ in NAMES)}
    assert sorted(sessions) == NAMES
    return {name: (session, session.ask("BEGIN; SELECT now()")) for name, session in sessions.items()}


def tracked(daemon, session):
    """What l4lb knows of a session; None if nothing."""
    known = daemon.api.get("connections", service="postgresql")["connections"]
    return next((one for one in known if one["client"].endswith(f":{session.port}")), None)


def hurried(**seconds):
    """The example with all timeouts short but those that streams and sessions last for."""
    others = [one.name for one in dataclasses.fields(Timeouts) if one.name not in LASTING]
    timeouts = {**dict.fromkeys(others, SHORT), "established": 7440, **seconds}
    lines = "".join(f"{key} = {value}\n" for key, value in timeouts.items())
    text = example("postgresql").replace("established = 7440\n", lines)
    assert lines in text
    return text


def test_sessions_go_where_the_fewest_are(daemon, connect):
    sessions = [connect() for _ in range(6)]
    assert Counter(session.server for session in sessions) == dict.fromkeys(NAMES, 2)
    assert sessions[0].ask("SELECT pg_is_in_recovery()") == "t"
    leaving = [session for session in sessions if session.server == "web2"]
    for session in leaving:
        session.end()
        wait_for("the end of the session", lambda: tracked(daemon, session)["state"] == "time_wait")  # noqa: B023
    assert [connect().server for _ in leaving] == ["web2", "web2"]


def test_an_idle_transaction_outlives_all_timeouts_of_opening_and_closing(lab, servers, connect):
    with balanced(lab, hurried(), "postgresql") as daemon:
        session, began = one_each(connect)["web1"]
        wait_for("silence", lambda: tracked(daemon, session)["idle"] > 2 * SHORT)
        known = tracked(daemon, session)
        assert 7439 < known["idle"] + known["expires"] <= 7440
        assert session.ask("SELECT now()") == began


def test_keepalive_within_the_timeout_keeps_an_idle_transaction_for_ever(lab, servers, connect):
    """In seconds what the example has in hours: keepalive after 2, the end of the silent after 6."""
    usual = lab.exec("web1", "sysctl", "-n", "net.ipv4.tcp_keepalive_time").stdout.strip()
    assert usual == "7200"
    lab.exec("web1", "sysctl", "-qw", "net.ipv4.tcp_keepalive_time=2")
    try:
        with balanced(lab, hurried(established=6), "postgresql") as daemon:
            sessions = one_each(connect)
            silent_one, _ = sessions["web2"]
            wait_for("the silent to be forgotten", lambda: tracked(daemon, silent_one) is None)
            kept, began = sessions["web1"]
            assert kept.ask("SELECT now()") == began
            assert "server closed the connection" in silent_one.ask("SELECT now()")
    finally:
        lab.exec("web1", "sysctl", "-qw", f"net.ipv4.tcp_keepalive_time={usual}")


def test_the_sessions_of_a_server_that_fails_end_at_once_and_no_others(lab, daemon, connect):
    sessions = one_each(connect)
    waiting, _ = sessions["web2"]
    waiting.begin("SELECT pg_sleep(60)")
    with silent(lab, "web2"):
        wait_state(daemon, "web2", "down", "postgresql")
        began = time.monotonic()
        assert "server closed the connection" in waiting.answer()
        assert time.monotonic() - began < QUICK
        for name in ("web1", "web3"):
            session, began = sessions[name]
            assert session.ask("SELECT now()") == began
        assert sorted(connect().server for _ in range(2)) == ["web1", "web3"]
        assert f"{backend('web2', port=5432)} is down" in daemon.log.read_text()


def test_the_checks_leave_the_line_in_the_servers_logs_that_the_example_speaks_of(daemon, servers):
    line = "could not receive data from client: Connection reset by peer"
    assert line in example("postgresql")
    for server in servers.values():
        wait_for("the line of a check", lambda: line in server.log.read_text())  # noqa: B023
