"""The example syslog.toml, with rsyslog's collectors and logger."""

import shutil
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.lab.clients import wait_for
from tests.lab.example import NAMES, Server, balanced, example, need, wait_state
from tests.lab.nft import nft_table
from tests.lab.services import VIP, backend

pytestmark = [pytest.mark.lab, pytest.mark.datapath("auto", "raw")]

SENDERS = [f"10.1.0.1{number}" for number in range(8)]
RSYSLOG = """\
global(workDirectory="{directory}" maxMessageSize="16k" net.enableDNS="off")
module(load="imudp")
module(load="imptcp")
input(type="imudp" port="514")
input(type="imptcp" port="514")
template(name="line" type="string" string="%fromhost-ip% %msg%\\n")
action(type="omfile" file="{directory}/messages" template="line")
"""


class Collector(Server):
    """rsyslog on a host; it writes down who sent what."""

    def __init__(self, lab, host, directory):
        config = directory / "rsyslog.conf"
        config.write_text(RSYSLOG.format(directory=directory))
        # Not in its place, where Ubuntu's AppArmor profile keeps it to the machine's own files.
        program = shutil.copy(shutil.which("rsyslogd"), directory)
        options = ("-n", "-f", config, "-i", directory / "pid")
        super().__init__(lab, host, program, *options, log=directory / "log")
        self._messages = directory / "messages"

    def got(self, text):
        """The senders of the messages that end so, one for each."""
        if not self._messages.exists():
            return []
        found = (line.split(" ", 1) for line in self._messages.read_text().splitlines())
        return [sender for sender, message in found if message.endswith(text)]


@pytest.fixture(scope="module")
def collectors(lab, tmp_path_factory):
    """By host."""
    if shutil.which("rsyslogd") is None:
        pytest.skip("no rsyslogd: tools/setup installs it where there is no other logger")
    need("logger")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Collector(lab, name, tmp_path_factory.mktemp(name))) for name in NAMES
        }


@pytest.fixture
def daemon(lab, collectors):
    with balanced(lab, example("syslog"), "syslog") as daemon:
        yield daemon


@pytest.fixture
def log(lab):
    """Log a message as one of the senders."""

    def log(sender, message, *options):
        lab.exec("client", "ip", "route", "replace", VIP, "dev", "eth0", "src", sender)
        lab.exec("client", "logger", "--udp", "--server", VIP, "--port", "514", *options, message)

    yield log
    lab.exec("client", "ip", "route", "del", VIP)


def homes(collectors, text, count):
    """Sender -> the one host that has got all ``count`` messages that end so."""
    got = {name: Counter(collector.got(text)) for name, collector in collectors.items()}
    total = {sender for counts in got.values() for sender in counts}
    return {
        sender: name
        for sender in total
        for name, counts in got.items()
        if counts[sender] == count and sum(other[sender] for other in got.values()) == count
    }


def all_home(collectors, text, count=1):
    def found():
        found = homes(collectors, text, count)
        return len(found) == len(SENDERS) and found

    return wait_for(f"{count} times '{text}' of each sender on one collector", found)


def test_one_sender_stays_with_one_collector_and_is_seen_as_itself(lab, daemon, collectors, log):
    for _ in range(3):
        for sender in SENDERS:
            log(sender, "stays")
    first = all_home(collectors, "stays", 3)
    assert first.keys() == set(SENDERS)
    assert len(set(first.values())) > 1
    # Nothing has come back, and each run of logger had a port of its own.
    listed = daemon.api.get("connections", service="syslog")["connections"]
    assert Counter(one["state"] for one in listed) == {"udp_new": 3 * len(SENDERS)}
    assert all(29 < one["idle"] + one["expires"] <= 30 for one in listed)
    # And when everything is forgotten, to the same.
    daemon.cli("connection", "flush", "--all")
    for sender in SENDERS:
        log(sender, "flushed")
    assert all_home(collectors, "flushed") == first


def test_the_checks_leave_nothing_in_the_collectors_logs(daemon, collectors):
    """imtcp would write a line about each."""
    for name, collector in collectors.items():
        assert collector.log.read_text() == "", name


def test_a_message_in_fragments_arrives_whole(daemon, collectors, log):
    log(SENDERS[0], "x" * 5000 + " fragments", "--size", "8192")
    wait_for("the message", lambda: any(one.got("x" * 5000 + " fragments") for one in collectors.values()))


def test_the_senders_of_a_collector_that_stops_move_on_and_no_others(daemon, collectors, log):
    for sender in SENDERS:
        log(sender, "before")
    before = all_home(collectors, "before")
    lost = before[SENDERS[0]]
    with collectors[lost].stopped():
        wait_state(daemon, lost, "down", "syslog")
        for sender in SENDERS:
            log(sender, "after")
        after = all_home(collectors, "after")
        assert lost not in after.values()
        assert {sender: name for sender, name in after.items() if before[sender] != lost} == {
            sender: name for sender, name in before.items() if name != lost
        }
    wait_state(daemon, lost, "up", "syslog")
    for sender in SENDERS:
        log(sender, "again")
    assert all_home(collectors, "again") == before


def test_a_stream_moves_on_and_is_brought_back_by_hand(lab, daemon, collectors):
    """One logger that never ends: one port, one connection."""
    command = ("logger", "--udp", "--server", VIP, "--port", "514")
    with lab.popen("client", *command) as stream:

        def say(text):
            stream.stdin.write(f"{text}\n")
            stream.stdin.flush()

            def receiver():
                return next((name for name, one in collectors.items() if one.got(text)), None)

            return wait_for(f"'{text}'", receiver)

        first = say("one")
        with collectors[first].stopped():
            wait_state(daemon, first, "down", "syslog")
            second = say("two")
            assert second != first
        wait_state(daemon, first, "up", "syslog")
        assert say("three") == second
        daemon.cli("connection", "flush", "--service", "syslog", "--backend", backend(second, port=514))
        assert say("four") == first
        stream.stdin.close()


def test_if_all_seem_to_be_down_messages_are_sent_all_the_same(lab, daemon, collectors, log):
    """Their TCP ports are closed, so that the check is what is wrong."""
    rules = "table inet closed { chain in { type filter hook input priority 0; tcp dport 514 reject; }; }"
    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(nft_table(lab, name, rules))
        for name in NAMES:
            wait_state(daemon, name, "down", "syslog")
        for sender in SENDERS:
            log(sender, "unchecked")
        all_home(collectors, "unchecked")
