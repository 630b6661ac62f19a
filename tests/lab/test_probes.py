"""Probes on the wire: what one is, what it shows and does not show, and that all stay within budget."""

import json
import os
import re
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from netlab.daemon import L4LB
from tests.lab.clients import Browser, wait_for
from tests.lab.nft import nft_table
from tests.lab.services import BACKENDS, UNCHECKED, VIP, backend, listed, service

pytestmark = pytest.mark.lab

GATEWAY = {4: "ip saddr 10.2.0.1", 6: "ip6 saddr 2001:db8:2::1"}
# By a client's address the packets that are forwarded come, by the gateway's own only probes and checks.
COUNTERS = """
table inet probes {
    counter in {}
    counter out {}
    counter syn {}
    counter rst {}
    chain in {
        type filter hook input priority -300;
        meta l4proto tcp ip saddr 10.2.0.1 jump count
        meta l4proto tcp ip6 saddr 2001:db8:2::1 jump count
    }
    chain count {
        counter name in
        tcp flags & (syn | ack) == syn counter name syn
        tcp flags & rst == rst counter name rst
    }
    chain out {
        type filter hook output priority -300;
        meta l4proto tcp ip daddr 10.2.0.1 counter name out
        meta l4proto tcp ip6 daddr 2001:db8:2::1 counter name out
    }
}
"""


def counted(lab, host):
    """Packets of TCP between a host and the gateway itself, by counter."""
    listed = json.loads(lab.exec(host, "nft", "-j", "list", "counters", "table", "inet", "probes").stdout)
    found = [item["counter"] for item in listed["nftables"] if "counter" in item]
    return {counter["name"]: counter["packets"] for counter in found}


def probe(lab, *arguments):
    """``l4lb probe`` on the gateway: its exit status and answer."""
    done = lab.exec("gateway", L4LB, "probe", *arguments, "--json", check=False)
    return done.returncode, json.loads(done.stdout)


@contextmanager
def stalled(lab, name):
    """A host whose web server accepts nothing, reads nothing and says nothing; its kernel goes on."""
    master = int((lab.host_directory(name) / "nginx.pid").read_text())
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    pids = [master, *map(int, workers)]
    assert len(pids) > 1
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.datapath("auto")
@pytest.mark.parametrize("version", [4, 6])
def test_a_syn_probe_is_three_packets_and_leaves_nothing_half_open(lab, version):
    with nft_table(lab, "web1", COUNTERS):
        status, done = probe(lab, backend("web1", version), "--count", "3", "--interval", "0")
        assert (status, done["answered"], done["packets"]) == (0, 3, 9)
        assert counted(lab, "web1") == {"in": 6, "syn": 3, "rst": 3, "out": 3}
    assert lab.exec("web1", "ss", "-Htn", "state", "syn-recv").stdout == ""


@pytest.mark.datapath("auto")
@pytest.mark.parametrize("version", [4, 6])
def test_an_http_probe_tells_how_many_packets_it_was(lab, version):
    with nft_table(lab, "web1", COUNTERS):
        status, done = probe(lab, backend("web1", version), "--kind", "http", "--count", "1")
        assert (status, done["answered"]) == (0, 1)
        seen = counted(lab, "web1")
        assert done["packets"] == seen["in"] + seen["out"]
        assert (seen["syn"], seen["rst"]) == (1, 1)


@pytest.mark.datapath("auto")
def test_a_stalled_server_answers_syn_probes_and_no_http_probe(lab):
    with stalled(lab, "web1"):
        status, done = probe(lab, backend("web1"), "--count", "2", "--interval", "0")
        assert (status, done["answered"]) == (0, 2)
        assert "a server that has stalled" in done["shows"]
        status, done = probe(lab, backend("web1"), "--kind", "http", "--count", "1", "--timeout", "0.3")
        assert (status, done["lost"]) == (1, 1)
        assert done["probes"][0]["reason"] == "timeout after 0.3 s while waiting for the status line"
    assert probe(lab, backend("web1"), "--kind", "http", "--count", "1")[0] == 0


@pytest.mark.datapath("auto")
def test_a_host_that_lets_no_new_connection_in_answers_no_probe_while_old_connections_go_on(lab):
    closed = """
    table inet closed {
        chain in { type filter hook input priority -300; tcp flags & (syn | ack) == syn drop; }
    }
    """
    with Browser(lab, BACKENDS[4]["web1"]) as browser, nft_table(lab, "web1", closed):
        for kind in ("syn", "http"):
            options = ("--kind", kind, "--count", "1", "--timeout", "0.2")
            status, done = probe(lab, backend("web1"), *options)
            assert (status, done["lost"]) == (1, 1)
        assert browser.get() == "web1"


@pytest.mark.datapath("auto")
def test_an_answer_that_comes_too_late_is_thrown_away_and_counted(lab):
    """The first SYN/ACK is lost, and web1's kernel sends it again after a second."""
    lossy = """
    table inet lossy {
        chain out {
            type filter hook output priority -300;
            tcp flags & (syn | ack) == syn | ack limit rate 1/day burst 1 packets drop
        }
    }
    """
    with nft_table(lab, "web1", lossy):
        status, done = probe(lab, backend("web1"), "--count", "2", "--interval", "2", "--timeout", "0.2")
    assert [one["outcome"] for one in done["probes"]] == ["lost", "answered"]
    assert (status, done["late"], done["forged"]) == (0, 1, 0)
    assert done["maximum"] < 0.2


@pytest.mark.datapath("auto")
def test_without_the_permission_for_raw_sockets_one_line_says_so(lab):
    setpriv = ("setpriv", "--bounding-set", "-net_raw", L4LB, "probe", backend("web1"))
    done = lab.exec("gateway", *setpriv, check=False)
    assert done.returncode == 1
    assert done.stderr == "l4lb: SYN probes need raw sockets: run this as root, or with CAP_NET_RAW\n"
    assert lab.exec("gateway", *setpriv, "--kind", "http", "--count", "1").returncode == 0


def probes_shown(daemon):
    return daemon.api.get("status")["probes"]


@pytest.mark.datapath("raw")
def test_an_idle_backend_is_probed_at_the_floor(lab):
    config = "[gateway.probes]\nfloor = 6.0\n" + service(health=UNCHECKED, weights={"web1": 1})
    with nft_table(lab, "web1", COUNTERS), lab.daemon(config) as daemon:
        wait_for("two probes", lambda: probes_shown(daemon)["answered"] >= 2)
        shown = listed(daemon, "probe")["web1"]
        assert (shown["kind"], shown["outcome"]) == ("syn", "answered")
        assert 0 < shown["round_trip"] < 1
        assert "LAST PROBE" in daemon.cli("backend", "list").stdout
        counts = counted(lab, "web1")
        assert counts["syn"] >= 2
        assert counts["in"] + counts["out"] == 3 * counts["syn"]


def test_probes_under_traffic_stay_within_their_share_on_the_wire(lab):
    """web1 has the traffic; 100 idle backends on the other hosts want more probes than the share allows."""
    idle = {backend(host, port=port): 1 for host in ("web2", "web3") for port in range(8080, 8130)}
    config = (
        "[gateway.probes]\nshare = 0.02\nfloor = 0.0\n"
        + service(health=UNCHECKED, weights={"web1": 1})
        + service("idle", port=81, health=UNCHECKED, weights=idle)
    )
    with (
        nft_table(lab, "web1", COUNTERS),
        nft_table(lab, "web2", COUNTERS),
        nft_table(lab, "web3", COUNTERS),
        lab.daemon(config) as daemon,
    ):

        def on_the_wire():
            """Of ports that refuse, a probe is two packets; of those that answer, three."""
            seen = [counted(lab, host) for host in BACKENDS[4]]
            return sum(counts["in"] + counts["out"] for counts in seen)

        with Browser(lab, VIP) as browser:

            def traffic():
                for _ in range(200):
                    browser.get()
                shown = probes_shown(daemon)
                forwarded = daemon.api.get("status")["verdicts"]["forward"]
                assert on_the_wire() <= 0.02 * forwarded
                return shown["sent"] >= 20 and shown["withheld"] > 0

            wait_for("probes, and some that the budget withholds", traffic, 20.0)
        # Without traffic and floor the budget ends, and what is shown is what was on the wire.
        steady = wait_for("the last probe", settled(daemon))
        assert steady["packets"] == on_the_wire()
        assert steady["part"] <= 0.02
        assert re.search(r"packets +\d+, [01]\.\d+% of those forwarded", daemon.cli("status").stdout)


def settled(daemon):
    """Tells what is shown of the probes, once the daemon has looked at the traffic twice without sending
    one."""
    last, since = None, 0.0

    def ask():
        nonlocal last, since
        shown = probes_shown(daemon)
        if last is None or shown["sent"] != last:
            last, since = shown["sent"], time.monotonic()
        return shown if time.monotonic() - since > 2.5 else None

    return ask


@pytest.mark.datapath("raw")
def test_what_probes_and_health_checks_are_said_to_cost_is_what_the_backend_counts(lab):
    health = 'check = "http"\ninterval = 0.2\ntimeout = 5.0'
    config = "[gateway.probes]\nfloor = 50.0\n" + service(health=health, weights={"web1": 1})
    with nft_table(lab, "web1", COUNTERS), lab.daemon(config) as daemon:

        def said():
            status = daemon.api.get("status")
            return (
                status["probes"],
                status["checks"],
                status["probes"]["packets"] + status["checks"]["packets"],
            )

        wait_for("three probes", lambda: said()[0]["answered"] >= 3, 20.0)
        probes, checks, before = said()
        seen = counted(lab, "web1")
        # What was under way is counted when it is over.
        later = checks["made"] + 2
        wait_for("two checks more", lambda: said()[1]["made"] >= later)
        assert before <= seen["in"] + seen["out"] <= said()[2]
        assert before >= 6 * (probes["sent"] + checks["made"])
        assert listed(daemon, "probe")["web1"]["kind"] == "http"
