"""Packets that are too big for a link on their way, or have come too far: who is told, and by whom."""

import errno
import json
import os
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest

from netlab import command
from netlab.gateway import endpoint
from netlab.namespace import entered
from netlab.servers import UDP_ECHO_PORT
from tests.lab import far
from tests.lab.clients import CHUNK, connect, datagrams, on, wait_for
from tests.lab.nft import nft_table
from tests.lab.services import BACKENDS, CLIENT, CLIENT6, service

pytestmark = pytest.mark.lab

VERSIONS = [pytest.param(4, id="IPv4"), pytest.param(6, id="IPv6")]
# A kernel remembers for ten minutes what it has learned of a destination: each test has its own.
UPLOAD, DOWNLOAD, DATAGRAM, BEYOND = (
    {4: f"10.1.0.{number}", 6: f"2001:db8:1::{number}"} for number in range(100, 104)
)
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
CLIENTS = {4: CLIENT, 6: CLIENT6}
FAR = {4: far.FAR, 6: far.FAR6}
NARROW = 1400  # bytes
SIZE = 4 << 20

# linux/in.h, linux/in6.h; the socket module does not name them.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_DONT, PMTUDISC_DO = 0, 2
IP_RECVERR, IPV6_RECVERR = 11, 25
MSG_ERRQUEUE = 0x2000


@pytest.fixture(scope="module")
def daemon(lab):
    """One backend, so that it is known where packets go; and one that is far."""
    text = ""
    for version in (4, 6):
        for number, vips in enumerate((UPLOAD, DOWNLOAD)):
            text += service(f"web{version}-{number}", vip=vips[version], weights={"web1": 1})
        text += service(f"far{version}", vip=BEYOND[version], weights={endpoint(FAR[version], 80): 1})
        echo = {"port": UDP_ECHO_PORT, "protocol": "udp", "weights": {"web1": 1}}
        text += service(f"echo{version}", vip=DATAGRAM[version], **echo)
        text += service(f"hops{version}", vip=BEYOND[version], **echo)
    with lab.daemon(text) as daemon:
        yield daemon


FRAGMENTS = """table inet fragments {
    counter seen {}
    chain early { type filter hook prerouting priority -450; ip frag-off & 0x3fff != 0 counter name seen; }
}
"""
"""Counts those that arrive, before anybody puts them together."""


@contextmanager
def narrow(lab, interface, address):
    """The gateway's way to an address has a small MTU; the daemon knows a moment later."""
    lab.exec("gateway", "ip", "route", "add", address, "dev", interface, "mtu", str(NARROW))
    try:
        yield
    finally:
        lab.exec("gateway", "ip", "route", "delete", address, "dev", interface)


def _option(version, option, option6):
    """A socket option's level and number."""
    return (socket.IPPROTO_IPV6, option6) if version == 6 else (socket.IPPROTO_IP, option)


def learned_mtu(lab, host, destination):
    """The path MTU that a host's kernel has discovered; None if it has not."""
    words = lab.exec(host, "ip", "route", "get", destination).stdout.split()
    return int(words[words.index("mtu") + 1]) if "mtu" in words else None


def is_too_long(client, data):
    """Send a datagram. False if nothing is known against it yet."""
    try:
        client.send(data)
    except OSError as error:
        return error.errno == errno.EMSGSIZE
    return False


def download(lab, vip):
    digest = lab.publish("held", SIZE)
    url = f"http://[{vip}]/held" if ":" in vip else f"http://{vip}/held"
    got = lab.exec("client", "sh", "-c", f"curl -gsS --max-time 10 {url} | sha256sum").stdout
    assert got.split()[0] == digest
    return True


def upload(lab, vip):
    lab.publish("held", SIZE)
    url = f"http://[{vip}]/upload/held" if ":" in vip else f"http://{vip}/upload/held"
    lab.curl(url, "-T", str(lab.www / "held"), "--max-time", "10")
    stored = lab.host_directory("web1") / "upload" / "held"
    assert stored.read_bytes() == (lab.www / "held").read_bytes()
    stored.unlink()
    return True


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upload_finds_the_narrow_way_from_the_gateway_to_the_backend(lab, daemon, version):
    vip = UPLOAD[version]
    with narrow(lab, "eth1", BACKENDS[version]["web1"]):
        wait_for(
            "the client to learn", lambda: upload(lab, vip) and learned_mtu(lab, "client", vip) == NARROW
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_download_finds_the_narrow_way_from_the_gateway_to_the_client(lab, daemon, version):
    vip, client = DOWNLOAD[version], CLIENTS[version]
    with narrow(lab, "eth0", client):
        wait_for("web1 to learn", lambda: download(lab, vip) and learned_mtu(lab, "web1", client) == NARROW)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_download_finds_the_narrow_link_behind_the_clients_router(lab, daemon, version):
    """The router's error is about a packet from the VIP; the backend is who must learn of it."""
    digest = lab.publish("held", SIZE)
    vip = DOWNLOAD[version]
    url = f"http://[{vip}]/held" if version == 6 else f"http://{vip}/held"
    with far.far_host(lab, "client") as namespace:
        shell = ("sh", "-c", f"curl -gsS --max-time 10 {url} | sha256sum")
        got = subprocess.run(
            command.inside(namespace, *shell), capture_output=True, text=True, check=True, timeout=20
        )
        assert got.stdout.split()[0] == digest
        assert learned_mtu(lab, "web1", FAR[version]) == far.MTU


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upload_finds_the_narrow_link_behind_the_backends_router(lab, daemon, version):
    """The router's error is about a packet to the backend; the client knows the VIP only."""
    with far.far_host(lab, "web1") as namespace:
        with entered(namespace):
            server = socket.create_server((FAR[version], 80), family=FAMILIES[version])
        with server, connect(lab, BEYOND[version]) as client:
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(10)
                sender = threading.Thread(target=client.sendall, args=(bytes(SIZE),))
                sender.start()
                received = 0
                while received < SIZE:
                    received += len(accepted.recv(CHUNK))
                sender.join()
        assert learned_mtu(lab, "client", BEYOND[version]) == far.MTU


@pytest.mark.parametrize("version", VERSIONS)
def test_a_datagram_that_must_not_be_fragmented_is_reported_with_the_mtu(lab, daemon, version):
    level, option = _option(version, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER)
    vip = DATAGRAM[version]
    with narrow(lab, "eth1", BACKENDS[version]["web1"]), datagrams(lab, vip, UDP_ECHO_PORT) as client:
        client.setsockopt(level, option, PMTUDISC_DO)
        wait_for("the client to learn", lambda: is_too_long(client, bytes(1400)))
        assert learned_mtu(lab, "client", vip) == NARROW


@pytest.mark.datapath("raw")
def test_an_ipv4_datagram_that_may_be_fragmented_is(lab, daemon):
    data = bytes(range(256)) * 5 + bytes(150)

    def fragments():
        listed = json.loads(lab.exec("web1", "nft", "-j", "list", "counters").stdout)["nftables"]
        return sum(item["counter"]["packets"] for item in listed if "counter" in item)

    def fragmented():
        client.send(data)
        assert client.recv(65_535) == b"web1 " + data
        return fragments() > 0

    with (
        nft_table(lab, "web1", FRAGMENTS),
        narrow(lab, "eth1", BACKENDS[4]["web1"]),
        datagrams(lab, BEYOND[4], UDP_ECHO_PORT) as client,
    ):
        client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
        wait_for("a datagram in fragments", fragmented)


def limit_hops(client, hops):
    if client.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
    else:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)


def who_complained(client):
    """The sender of the ICMP error that has come for a UDP socket (ip(7), IP_RECVERR)."""
    _, ancillary, _, _ = client.recvmsg(0, 512, MSG_ERRQUEUE)
    ((_, _, data),) = ancillary
    offender = data[16:]  # struct sock_extended_err is followed by a sockaddr
    if client.family == socket.AF_INET6:
        return socket.inet_ntop(socket.AF_INET6, offender[8:24])
    return socket.inet_ntop(socket.AF_INET, offender[4:8])


@pytest.mark.parametrize("version", VERSIONS)
def test_traceroute_meets_the_vip_and_then_the_backend(lab, daemon, version):
    vip = BEYOND[version]
    with datagrams(lab, vip, UDP_ECHO_PORT) as client:
        level, option = _option(version, IP_RECVERR, IPV6_RECVERR)
        client.setsockopt(level, option, 1)
        limit_hops(client, 1)
        client.send(b"how far?")
        with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):
            client.recv(100)
        assert who_complained(client) == vip
        limit_hops(client, 2)
        client.send(b"how far?")
        assert client.recv(100) == b"web1 how far?"


@pytest.mark.parametrize("version", VERSIONS)
def test_tcp_with_too_few_hops_is_told_and_counted(lab, daemon, version):
    before = daemon.api.get("status")["drops"].get("ttl_exceeded", 0)
    with on(lab, "client"):
        client = socket.socket(FAMILIES[version])
    with client:
        limit_hops(client, 1)
        client.settimeout(5)
        with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):
            client.connect((DOWNLOAD[version], 80))
    assert daemon.api.get("status")["drops"]["ttl_exceeded"] > before
