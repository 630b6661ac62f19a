"""SYN probes on the loopback interface. What is on the wire is the lab's business."""

import asyncio
import socket
import time
from contextlib import closing, contextmanager

import pytest

from l4lb.health.probes import syn
from l4lb.health.probes.result import CannotProbe, Outcome, ProbeResult
from l4lb.health.probes.segments import syn as syn_packet
from l4lb.health.probes.syn import SynProbes
from l4lb.model import Endpoint


@pytest.fixture
def raw_sockets():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW: SYN probes need raw sockets")


@contextmanager
def listener(host="127.0.0.1", backlog=8):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=backlog) as server:
        yield server, Endpoint.parse(f"[{host}]:1" if ":" in host else f"{host}:1").ip


def probe(*targets, timeout=2.0):
    async def scenario() -> list[ProbeResult]:
        with closing(SynProbes()) as probes:
            return await asyncio.gather(*(probes.probe(target, timeout) for target in targets))

    return asyncio.run(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_listens_answers_and_nobody_ever_connects(raw_sockets, host):
    with listener(host) as (server, ip):
        (result,) = probe(Endpoint(ip, server.getsockname()[1]))
        assert result.outcome is Outcome.ANSWERED
        assert 0 < result.round_trip < 2
        assert result.packets == 3
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_closed_port_refuses(raw_sockets, host):
    with listener(host) as (server, ip):
        target = Endpoint(ip, server.getsockname()[1])
    (result,) = probe(target)
    assert (result.outcome, result.packets, result.reason) == (Outcome.REFUSED, 2, "connection refused")


def test_hundreds_at_once_from_one_socket(raw_sockets):
    with listener() as (server, ip):
        port = server.getsockname()[1]
        others = [Endpoint(bytes((127, 0, 1, n)), port) for n in range(1, 251)]
        server.close()
        with socket.create_server(("0.0.0.0", port), backlog=512):
            results = probe(*others, Endpoint(ip, port))
    assert {result.outcome for result in results} == {Outcome.ANSWERED}


def test_more_probes_of_one_backend_than_there_are_ports_are_not_sent(raw_sockets):
    with listener() as (server, ip):
        results = probe(*[Endpoint(ip, server.getsockname()[1])] * 10)
    outcomes = [result.outcome for result in results]
    assert outcomes.count(Outcome.ANSWERED) == 8
    assert outcomes.count(Outcome.UNSENT) == 2


def test_an_answer_that_comes_too_late_is_thrown_away_and_counted(raw_sockets):
    async def scenario() -> int:
        with closing(SynProbes()) as probes, listener() as (server, ip):
            target = Endpoint(ip, server.getsockname()[1])
            await probes.probe(target, 2.0)  # everything is open now
            asked = asyncio.ensure_future(probes.probe(target, 2.0))
            await asyncio.sleep(0)  # the SYN has left, and on the loopback interface the answer is there
            asked.cancel()
            async with asyncio.timeout(2):
                while not probes.handshakes.late:
                    await asyncio.sleep(0)
            return probes.handshakes.late

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize("sends_late", [True, False])
def test_the_time_is_the_kernels_at_both_ends(raw_sockets, monkeypatch, sends_late):
    """Python is busy before the SYN leaves, or when the answer is there."""
    busy = 0.1

    async def busy_once(probes: SynProbes, target: Endpoint) -> float:
        asked = asyncio.ensure_future(probes.probe(target, 2.0))
        await asyncio.sleep(0)  # as above: the answer is there
        if not sends_late:
            time.sleep(busy)  # not waiting for anything: this keeps the event loop from looking
        return (await asked).round_trip

    async def scenario() -> None:
        with closing(SynProbes()) as probes, listener() as (server, ip):
            target = Endpoint(ip, server.getsockname()[1])
            await probes.probe(target, 2.0)  # everything is open now
            if sends_late:
                begin = probes.handshakes.begin

                def late(*arguments) -> None:
                    begin(*arguments)
                    time.sleep(busy)

                monkeypatch.setattr(probes.handshakes, "begin", late)
            # The kernel begins to stamp some time after the first socket has asked for it.
            async with asyncio.timeout(10):
                while await busy_once(probes, target) >= busy:
                    pass

    asyncio.run(scenario())


def test_no_answer_is_lost_after_the_timeout(raw_sockets):
    with listener(backlog=0) as (server, ip):
        address = server.getsockname()
        # The queue of connections nobody has accepted is full now: the kernel drops further SYNs.
        with socket.create_connection(address):
            result = probe(Endpoint(ip, address[1]), timeout=0.05)[0]
    assert (result.outcome, result.round_trip, result.packets) == (Outcome.LOST, None, 1)
    assert result.reason == "no answer within 0.05 s"


def test_a_forged_answer_is_ignored_and_counted(raw_sockets):
    """A SYN/ACK needs a sender with the backend's address: here a raw socket on this host."""

    async def scenario() -> tuple[ProbeResult, int]:
        with closing(SynProbes()) as probes, listener() as (server, ip):
            target = Endpoint(ip, server.getsockname()[1])
            await probes.probe(target, 2.0)
            channel = probes._channels[4]
            port = channel._ports[(channel._turn + 1) % len(channel._ports)]
            waiting = asyncio.ensure_future(probes.probe(target, 2.0))
            forged = bytearray(syn_packet(ip, Endpoint(ip, port), target.port, 99))
            forged[20 + 13] = 0x12  # SYN, ACK; its checksum is wrong now, which raw sockets do not look at
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as forger:
                channel._loop.call_soon(forger.sendto, bytes(forged), ("127.0.0.1", 0))
                result = await waiting
                async with asyncio.timeout(2):
                    while not probes.handshakes.forged:
                        await asyncio.sleep(0)
            return result, probes.handshakes.forged

    result, forged = asyncio.run(scenario())
    assert result.outcome is Outcome.ANSWERED
    assert forged == 1


def test_no_permission_is_one_clear_line(monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr(syn.socket, "socket", refuse)
    with pytest.raises(CannotProbe, match="need raw sockets: run this as root, or with CAP_NET_RAW"):
        syn._raw_socket(4)


def test_an_address_without_a_route_is_this_hosts_fault(raw_sockets):
    (result,) = probe(Endpoint.parse("[fe80::1]:80"))  # link-local, without a link
    assert result.outcome is Outcome.UNSENT
    assert result.packets == 0
    assert result.reason
