"""Connections past the VIP, to a backend's own address, while the balancer works beside them."""

import pytest

from netlab.servers import UDP_ECHO_PORT
from tests.lab.clients import Browser, Download, accept, ask, connect, datagrams, listen
from tests.lab.services import BACKENDS, CLIENT, CLIENT6, VIP, VIP6, service

pytestmark = pytest.mark.lab

VERSIONS = [pytest.param(4, id="IPv4"), pytest.param(6, id="IPv6")]


@pytest.fixture(scope="module", params=["round_robin", "maglev"])
def daemon(lab, request):
    """A consistent hash might take a direct connection's packets for those of a lost one."""
    text = ""
    for version, vip in ((4, VIP), (6, VIP6)):
        text += service(f"web{version}", vip=vip, scheduler=request.param)
        text += service(f"echo{version}", vip=vip, port=UDP_ECHO_PORT, protocol="udp")
    with lab.daemon(text) as daemon:
        yield daemon


@pytest.mark.parametrize("version", VERSIONS)
def test_a_direct_connection_is_not_translated(lab, daemon, version):
    for name, address in BACKENDS[version].items():
        with Browser(lab, address) as direct:
            assert direct.socket.getpeername()[0] == address
            client, port = direct.socket.getsockname()[:2]
            assert direct.get("/client") == f"{name} {client} {port}"
            shown = daemon.api.get("connections", client=client)["connections"]
            assert f":{port}" not in "".join(one["client"][-6:] for one in shown)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_download_past_the_vip_arrives_whole_beside_one_through_it(lab, daemon, version):
    digest = lab.publish("held", 32 << 20)
    vip, address = (VIP6, BACKENDS[6]["web1"]) if version == 6 else (VIP, BACKENDS[4]["web1"])
    with Download(lab, address, "held") as direct, Download(lab, vip, "held") as balanced:
        direct.finish()
        balanced.finish()
    assert direct.digest == balanced.digest == digest


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_client_port_may_be_used_for_both(lab, daemon, version):
    """To a backend and, after it, to the VIP: whose backend it then is must tell them apart."""
    vip = VIP6 if version == 6 else VIP
    for address in BACKENDS[version].values():
        with connect(lab, address) as direct:
            port = direct.getsockname()[1]
            with connect(lab, vip, source_port=port) as balanced:
                for connection in (direct, balanced):
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    assert connection.makefile().read().split()[-1] in BACKENDS[4]


@pytest.mark.parametrize("size", [0, 1472, 20_000])
@pytest.mark.parametrize("version", VERSIONS)
def test_datagrams_past_the_vip(lab, daemon, version, size):
    data = bytes(range(256)) * 80
    for name, address in BACKENDS[version].items():
        with datagrams(lab, address, UDP_ECHO_PORT) as client:
            client.send(data[:size])
            assert client.recv(65_535) == name.encode() + b" " + data[:size]


@pytest.mark.parametrize("version", VERSIONS)
def test_ping_errors_and_other_ports_of_a_backend(lab, daemon, version):
    address = BACKENDS[version]["web1"]
    lab.exec("client", "ping", "-c", "1", "-W", "5", address)
    lab.exec("client", "ping", "-c", "1", "-W", "5", "-s", "20000", address)
    assert ask(lab, address, "/", port=8080) == "web1 is healthy"
    with pytest.raises(ConnectionRefusedError):
        connect(lab, address, 81)
    with datagrams(lab, address, 9) as client:
        client.send(b"?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)


@pytest.mark.parametrize("version", VERSIONS)
def test_backends_reach_the_clients_network_through_the_gateway(lab, daemon, version):
    client = CLIENT6 if version == 6 else CLIENT
    with (
        listen(lab, client, 8000, host="client") as server,
        connect(lab, client, 8000, host="web2", source=BACKENDS[version]["web2"]) as caller,
    ):
        assert accept(server) == caller.getsockname()[:2]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_backend_calls_a_client_from_the_port_it_serves_on(lab, daemon, version):
    """What it sends looks like replies; its SYN tells that they are not."""
    client = CLIENT6 if version == 6 else CLIENT
    address = BACKENDS[version]["web2"]
    lab.stop("web2")
    try:
        with (
            listen(lab, client, 8000, host="client") as server,
            connect(lab, client, 8000, host="web2", source=address, source_port=80) as caller,
        ):
            accepted, peer = server.accept()
            with accepted:
                assert peer[:2] == (address, 80)
                caller.sendall(b"hello")
                assert accepted.recv(100) == b"hello"
                accepted.sendall(b"world")
                assert caller.recv(100) == b"world"
    finally:
        lab.start("web2")
