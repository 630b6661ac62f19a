"""Full NAT: backends and clients that could not do with destination NAT alone."""

import pytest

from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import (
    Browser,
    Download,
    Upload,
    answers,
    ask,
    begin_connecting,
    connected,
    datagrams,
    digest,
    wait_for,
)
from tests.lab.services import BACKENDS, VIP, VIP6, backend, service

pytestmark = pytest.mark.lab

VIPS = [pytest.param(VIP, id="IPv4"), pytest.param(VIP6, id="IPv6")]
GATEWAY = {VIP: "10.2.0.1", VIP6: "2001:db8:2::1"}  # on the side of the backends
NAMES = list(BACKENDS[4])
PORTS = range(10_240, 32_768)  # the default of snat_ports


def config():
    text = ""
    for number, vip in ((4, VIP), (6, VIP6)):
        text += service(f"web{number}", vip=vip, nat="full")
        text += service(f"echo{number}", vip=vip, port=UDP_ECHO_PORT, protocol="udp", nat="full")
        # The same backends the ordinary way.
        text += service(f"plain{number}", vip=vip, port=81, backend_port=80)
    return text


@pytest.fixture(scope="module")
def daemon(lab):
    with lab.daemon(config()) as daemon:
        yield daemon


def seen_by_backend(lab, vip, **options):
    name, address, port = ask(lab, vip, "/client", **options).split()
    return name, address, int(port)


@pytest.mark.parametrize("host", ["client", "web3"])
@pytest.mark.parametrize("vip", VIPS)
def test_every_backend_serves_clients_of_any_network(lab, daemon, vip, host):
    """A client in the backends' own network, and a backend that meets itself, included."""
    assert answers(lab, vip, 9, host=host) == dict.fromkeys(NAMES, 3)


@pytest.mark.parametrize("host", ["client", "web3"])
@pytest.mark.parametrize("vip", VIPS)
def test_a_backend_sees_the_gateway(lab, daemon, vip, host):
    for _ in range(3):
        _, address, port = seen_by_backend(lab, vip, host=host)
        assert address == GATEWAY[vip]
        assert port in PORTS


@pytest.mark.parametrize("vip", VIPS)
def test_the_ordinary_service_of_the_same_backends_is_as_it_was(lab, daemon, vip):
    _, address, _ = seen_by_backend(lab, vip, port=81)
    assert address == lab.topology.hosts["client"].address(6 if vip == VIP6 else 4)


@pytest.mark.parametrize("vip", VIPS)
def test_transfers_from_the_same_network_arrive_whole(lab, daemon, vip):
    published = lab.publish("held", 32 << 20)
    with (
        Download(lab, vip, "held", host="web3") as download,
        Upload(lab, vip, "held", host="web3") as upload,
    ):
        download.finish()
        upload.finish()
    assert download.digest == published
    assert upload.status.split()[1] in ("201", "204")
    stored = [lab.host_directory(name) / "upload" / "held" for name in NAMES]
    assert [digest(path) for path in stored if path.exists()] == [published]
    next(path for path in stored if path.exists()).unlink()


@pytest.mark.parametrize("size", [0, 1472, 20_000])
@pytest.mark.parametrize("host", ["client", "web3"])
@pytest.mark.parametrize("vip", VIPS)
def test_datagrams_of_all_sizes_are_answered(lab, daemon, vip, host, size):
    data = bytes(range(256)) * 80
    with datagrams(lab, vip, UDP_ECHO_PORT, host=host) as client:
        for _ in NAMES:
            client.send(data[:size])
            assert client.recv(65_535).partition(b" ")[2] == data[:size]


@pytest.mark.parametrize("vip", VIPS)
def test_a_backend_needs_no_route_through_the_gateway(lab, daemon, vip):
    version = "-6" if vip == VIP6 else "-4"
    route = lab.exec("web1", "ip", version, "route", "show", "default").stdout.split()
    lab.exec("web1", "ip", version, "route", "delete", "default")
    try:
        assert answers(lab, vip, 3) == dict.fromkeys(NAMES, 1)
    finally:
        lab.exec("web1", "ip", version, "route", "add", *route)


def test_the_gateways_own_connections_to_a_backend_are_not_ours(lab, daemon):
    address = lab.topology.hosts["web1"].address(4)
    page = lab.exec("gateway", "curl", "-sS", "--max-time", "5", f"http://{address}/client").stdout
    assert page.split()[:2] == ["web1", GATEWAY[VIP]]


def test_a_connection_list_shows_what_the_backend_sees(lab, daemon):
    daemon.cli("connection", "flush", "--all")
    with Browser(lab, VIP) as kept:
        name, address, port = kept.get("/client").split()
        client = "{}:{}".format(*kept.socket.getsockname())
        (shown,) = daemon.api.get("connections")["connections"]
        row = daemon.cli("connection", "list").stdout.splitlines()[1].split()
    assert (shown["client"], shown["source"]) == (client, f"{address}:{port}")
    assert row[:5] == [client, f"{VIP}:80", f"{address}:{port}", backend(name), "established"]


def test_with_all_ports_in_use_newcomers_are_dropped_by_reason(lab, daemon):
    """Two ports and one backend are two connections; the first two go on."""
    daemon.configure(
        "[gateway]\nsnat_ports = [20000, 20001]\n" + service("web4", nat="full", weights={"web1": 1})
    )
    daemon.cli("reload")
    daemon.cli("connection", "flush", "--all")
    try:
        with Browser(lab, VIP) as first, Browser(lab, VIP) as second:
            seen = {browser.get("/client").split()[2] for browser in (first, second)}
            assert seen == {"20000", "20001"}
            with begin_connecting(lab, VIP) as third:
                wait_for("the drop", lambda: "no_free_port" in daemon.api.get("status")["drops"])
                assert [browser.get() for browser in (first, second)] == ["web1", "web1"]
                second.connection.close()
                assert connected(third)  # with its second SYN
    finally:
        daemon.configure(config())
        daemon.cli("reload")
