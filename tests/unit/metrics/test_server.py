"""``/metrics`` on a real port of loopback."""

import asyncio
import logging
import socket
from dataclasses import replace

import aiohttp
import pytest

from l4lb.client_errors import ClientErrors
from l4lb.metrics import server as server_module
from l4lb.metrics.exposition import families
from l4lb.metrics.server import MOST_CONNECTIONS, MetricsServer
from l4lb.model import Endpoint, Metrics
from tests.unit.agent.process import free_port
from tests.unit.metrics.test_exposition import SNAPSHOT


def free_address():
    return Endpoint(bytes((127, 0, 0, 1)), free_port())


async def snapshot():
    return SNAPSHOT


async def get(address, path="/metrics", **headers):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}", headers=headers) as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


def served(scenario):
    """A server that listens, and its address."""

    async def run():
        server, address = MetricsServer(snapshot), free_address()
        await server.follow(Metrics(address=address))
        try:
            assert server.problem == ""
            await scenario(server, address)
        finally:
            await server.close()

    asyncio.run(run())


def test_the_gateways_metrics_and_those_of_the_process():
    async def scenario(server, address):
        status, kind, text = await get(address)
        assert (status, kind.split(";")[0]) == (200, "text/plain")
        assert 'l4lb_info{datapath="tc",version="0.1.0"} 1.0' in text
        assert "process_resident_memory_bytes " in text
        assert (await get(address, "/"))[0] == 404

    served(scenario)


def test_openmetrics_for_who_asks_for_it():
    async def scenario(server, address):
        _, kind, text = await get(address, Accept="application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")

    served(scenario)


@pytest.mark.parametrize(
    "accept", ["text/plain; version=x", "application/openmetrics-text; version=1.x.0", "?"]
)
def test_who_asks_for_nonsense_gets_the_plain_format(accept, caplog):
    async def scenario(server, address):
        status, kind, _ = await get(address, Accept=accept)
        assert (status, kind.split(";")[0]) == (200, "text/plain")

    served(scenario)
    assert not caplog.records or all(record.levelname == "INFO" for record in caplog.records)


def test_who_asks_nonsense_often_does_not_fill_the_log(caplog, monkeypatch):
    monkeypatch.setattr("l4lb.client_errors._OF_ALL_SERVERS", ClientErrors())
    monkeypatch.setattr(logging.getLogger("aiohttp.server"), "filters", [])
    caplog.set_level("ERROR")

    async def scenario(server, address):
        for _ in range(20):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(b"GET /metrics HTTP/1.1\r\nbad header\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
            writer.close()
            await writer.wait_closed()

    served(scenario)
    assert len(caplog.messages) == 1


def test_who_asks_often_gets_the_last_answer_again():
    now, taken = [0.0], []

    async def slow():
        taken.append(now[0])
        now[0] += 0.25
        return SNAPSHOT

    async def scenario():
        server, address = MetricsServer(slow, lambda: now[0]), free_address()
        await server.follow(Metrics(address=address))
        try:
            for moment in (100.0, 100.5, 101.0, 101.25, 102.0, 110.0):
                now[0] = max(now[0], moment)
                assert (await get(address))[0] == 200
        finally:
            await server.close()

    asyncio.run(scenario())
    assert taken == [100.0, 101.25, 110.0]


def test_what_is_written_once_is_not_written_again_and_writing_counts_too(monkeypatch):
    now, written = [100.0], []

    def slow(snapshot):
        written.append(now[0])
        now[0] += 1.0
        return families(snapshot)

    async def scenario():
        server, address = MetricsServer(snapshot, lambda: now[0]), free_address()
        monkeypatch.setattr(server_module, "families", slow)
        await server.follow(Metrics(address=address))
        openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        try:
            plain = await get(address)
            assert await get(address) == plain
            assert (await get(address, **openmetrics))[1] != plain[1]
            now[0] = 109.0
            assert await get(address) == plain
            now[0] = 110.0  # 2 s of writing, and four times as long from its end on
            assert (await get(address))[1] == plain[1]
        finally:
            await server.close()

    asyncio.run(scenario())
    assert written == [100.0, 101.0, 110.0]


def test_who_names_ever_new_versions_has_it_written_twice_at_most_and_does_not_keep_it(monkeypatch):
    now, written = [100.0], []

    def slow(snapshot):
        written.append(now[0])
        now[0] += 1.0
        return families(snapshot)

    async def scenario():
        server, address = MetricsServer(snapshot, lambda: now[0]), free_address()
        monkeypatch.setattr(server_module, "families", slow)
        await server.follow(Metrics(address=address))
        try:
            plain = await get(address)
            now[0] = 104.5
            kinds = set()
            for number in range(100):
                accept = f"application/openmetrics-text; version=1.0.{number}"
                status, kind, text = await get(address, Accept=accept)
                kinds.add(kind)
                assert (status, text[-6:]) == (200, "# EOF\n")
                assert await get(address) == plain
            assert len(kinds) == 1
            assert "version=1.0.0;" in kinds.pop()
            now[0] = 110.0
            await get(address)
        finally:
            await server.close()

    asyncio.run(scenario())
    assert written == [100.0, 104.5, 110.0]  # a fifth of the time, from the first on


def test_connections_end_with_the_oldest_first_when_there_are_too_many():
    async def scenario(server, address):
        held = [await asyncio.open_connection(address.host, address.port) for _ in range(MOST_CONNECTIONS)]
        assert (await get(address))[0] == 200
        async with asyncio.timeout(10):
            assert await held[0][0].read() == b""
        assert not held[-1][0].at_eof()
        for _, writer in held:
            writer.close()

    served(scenario)


def test_a_connection_that_asks_no_more_ends(monkeypatch):
    monkeypatch.setattr(server_module, "_KEPT_OPEN", 0.05)

    async def scenario(server, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        writer.close()

    served(scenario)


def test_it_follows_the_config():
    async def scenario(server, first):
        second = free_address()
        await server.follow(Metrics(address=second))
        assert (await get(second))[0] == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(first)
        await server.follow(Metrics(enabled=False, address=second))
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(second)

    served(scenario)


def test_the_same_settings_leave_connections_alone():
    async def scenario(server, address):
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{address}/metrics"):
                pass
            await server.follow(Metrics(address=address))
            async with session.get(f"http://{address}/metrics") as response:
                assert response.status == 200

    served(scenario)


def test_a_port_that_is_taken_is_one_line_until_it_is_free(caplog):
    async def scenario():
        server = MetricsServer(snapshot)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            settings = Metrics(address=Endpoint.parse("{}:{}".format(*taken.getsockname())))
            for _ in range(2):
                await server.follow(settings)
                assert server.problem == (
                    f"no metrics: {settings.address} cannot be listened on: address already in use; "
                    "see gateway.metrics.address"
                )
        assert [record.getMessage() for record in caplog.records] == [server.problem]
        await server.follow(settings)
        assert server.problem == ""
        assert (await get(settings.address))[0] == 200
        await server.close()

    asyncio.run(scenario())


def test_a_port_for_which_a_capability_was_given_up_is_one_line_with_a_way_out(monkeypatch):
    async def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    async def scenario():
        monkeypatch.setattr(asyncio.get_running_loop(), "create_server", refuse)
        server = MetricsServer(snapshot)
        await server.follow(Metrics(address=Endpoint.parse("127.0.0.1:80")))
        assert server.problem == (
            "no metrics: 127.0.0.1:80 cannot be listened on: permission denied (CAP_NET_BIND_SERVICE is "
            "given up: take a port from 1024 on); see gateway.metrics.address"
        )

    asyncio.run(scenario())


def test_who_asks_at_the_same_time_waits_for_the_one_before():
    at_once, most = 0, 0

    async def slow():
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return replace(SNAPSHOT, warnings=0)

    async def scenario():
        server, address = MetricsServer(slow), free_address()
        await server.follow(Metrics(address=address))
        answers = await asyncio.gather(*(get(address) for _ in range(5)))
        assert {status for status, *_ in answers} == {200}
        assert most == 1
        await server.close()

    asyncio.run(scenario())
