"""Traffic through the VIP, as clients make it: large, many at once, UDP, and what is not balanced."""

import json
import sys
from pathlib import Path

import pytest

from netlab.gateway import endpoint
from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import accept, connect, datagrams, digest, listen
from tests.lab.services import BACKENDS, CLIENT, CLIENT6, VIP, VIP6, service

pytestmark = pytest.mark.lab

VIPS = [pytest.param(VIP, id="IPv4"), pytest.param(VIP6, id="IPv6")]
LARGE = 1 << 28  # bytes
MANY_CLIENTS = Path(__file__).with_name("many_clients.py")
CONFIG = (
    service("web", vip=VIP)
    + service("web6", vip=VIP6)
    + service("echo", vip=VIP, port=UDP_ECHO_PORT, protocol="udp")
    + service("echo6", vip=VIP6, port=UDP_ECHO_PORT, protocol="udp")
    # Nobody listens on port 9.
    + service("closed", vip=VIP, port=9, protocol="udp")
    + service("closed6", vip=VIP6, port=9, protocol="udp")
)


@pytest.fixture(scope="module")
def daemon(lab):
    with lab.daemon(CONFIG) as daemon:
        yield daemon


def uploaded(lab, name):
    """The one backend that has got an upload."""
    found = [path for host in BACKENDS[4] if (path := lab.host_directory(host) / "upload" / name).exists()]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("vip", VIPS)
def test_a_large_download_and_upload_arrive_whole(lab, daemon, vip):
    published = lab.publish("large", LARGE)
    url = f"http://{endpoint(vip, 80)}"
    try:
        got = lab.exec("client", "sh", "-c", f"curl -sSg --fail {url}/large | sha256sum", timeout=60)
        assert got.stdout.split()[0] == published
        lab.curl(f"{url}/upload/large", "-T", str(lab.www / "large"), "--max-time", "60")
        stored = uploaded(lab, "large")
        assert stored.stat().st_size == LARGE
        assert digest(stored) == published
    finally:
        for path in lab.directory.rglob("large"):
            path.unlink()


@pytest.mark.parametrize("vip", VIPS)
def test_a_thousand_clients_at_once_see_no_error(lab, daemon, vip):
    done = lab.exec("client", sys.executable, MANY_CLIENTS, vip, "80", "1000", "5", timeout=60)
    outcome = json.loads(done.stdout)
    assert outcome["errors"] == {}
    assert outcome["strayed"] == 0
    assert sum(outcome["answers"].values()) == 5000
    # In turns, five requests each.
    assert sorted(outcome["answers"].values()) == [1665, 1665, 1670]


@pytest.mark.parametrize("vip", VIPS)
def test_a_backend_sees_the_clients_own_address_and_port(lab, daemon, vip):
    mine = CLIENT6 if vip == VIP6 else CLIENT
    with connect(lab, vip) as client:
        port = client.getsockname()[1]
        client.sendall(b"GET /client HTTP/1.0\r\n\r\n")
        assert client.makefile().read().endswith(f" {mine} {port}\n")


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 8_972, 20_000])
@pytest.mark.parametrize("vip", VIPS)
def test_datagrams_of_all_sizes_are_answered(lab, daemon, vip, size):
    """Beyond the MTU they are fragments, in both directions."""
    data = bytes(range(256)) * 80
    with datagrams(lab, vip, UDP_ECHO_PORT) as client:
        client.send(data[:size])
        name, _, echo = client.recv(65_535).partition(b" ")
    assert name.decode() in BACKENDS[4]
    assert echo == data[:size]


@pytest.mark.parametrize("vip", VIPS)
def test_one_udp_client_stays_with_its_backend(lab, daemon, vip):
    with datagrams(lab, vip, UDP_ECHO_PORT) as client:
        answers = []
        for number in range(20):
            client.send(b"%d" % number)
            answers.append(client.recv(100).split())
    assert [int(number) for _, number in answers] == list(range(20))
    assert len({name for name, _ in answers}) == 1


@pytest.mark.parametrize("vip", VIPS)
def test_a_backends_icmp_error_reaches_the_client(lab, daemon, vip):
    with datagrams(lab, vip, 9) as client:
        client.send(b"is anybody there?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)


@pytest.mark.parametrize("vip", VIPS)
def test_ping_and_other_ports_of_the_vip_are_the_hosts_own(lab, daemon, vip):
    lab.exec("client", "ping", "-c", "1", "-W", "5", vip)
    with pytest.raises(ConnectionRefusedError):
        connect(lab, vip, 81)
    with listen(lab, vip, 82, host="gateway") as server, connect(lab, vip, 82) as client:
        assert accept(server) == client.getsockname()[:2]
