"""The agent as a process: measures, and answers by UDP (our protocol) and TCP (HAProxy's line). Edge.

In the foreground until SIGTERM or SIGINT; tells the service manager when it is ready (``sd_notify(3)``)
and how many questions it has answered and refused. Needs no capability but for a port below 1024, and
gives up what it has, should it be root.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from l4lb.agent.answerer import Answerer
from l4lb.agent.haproxy_line import write
from l4lb.agent.keys import followed_keys
from l4lb.agent.line_server import LineServer
from l4lb.agent.meter import Meter
from l4lb.agent.report import Report
from l4lb.agent.state_file import wanted_state
from l4lb.agent.weight import weight
from l4lb.model import Endpoint
from l4lb.os_errors import in_words
from l4lb.privileges import Capability, keep_only
from l4lb.service.notify import notify
from l4lb.service.stop_signals import STOP, ignored_at_the_end
from l4lb.service.watchdog import give_signs_of_life

log = logging.getLogger(__name__)

_TELL: Final = 60.0
"""Seconds between two lines in the log about packets refused, if there are any."""

_STALE: Final = 10.0
"""Seconds without a measurement, beyond the interval, after which the agent is no longer in order."""


class CannotServe(Exception):
    """The agent cannot run so. The message is one line for people."""


@dataclass(frozen=True, slots=True)
class Options:
    """What an agent does. Times in seconds."""

    udp: Endpoint | None
    tcp: Endpoint | None
    key: Path | None
    interval: float
    application: Path | None
    application_max_age: float
    state: Path | None


class Agent:
    """One backend's agent."""

    def __init__(self, options: Options) -> None:
        """Nothing is measured and no port is open until ``run``; but what could not be followed later is
        not read now, so the process gives up its capabilities here, all but that to open a port.

        Raises:
            BadKeyFile: there is no usable key.
            CannotServe: capabilities cannot be given up.
        """
        _give_up_all_but(Capability.NET_BIND_SERVICE)
        self._options = options
        self._keys = followed_keys(options.key)
        self._meter = Meter(options.interval, options.application, options.application_max_age)
        self._answerer = Answerer(self._keys.read())
        self._state = wanted_state(options.state)
        self._lines = LineServer(lambda: write(self._report))
        self._report = Report()
        self._began = 0.0
        self._measured = 0.0
        self._told: dict[str, int] = {}
        self._tell_again = 0.0

    async def run(self) -> None:
        """Answer until a signal.

        Raises:
            CannotServe: a port cannot be had, or capabilities cannot be given up.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOP:
            loop.add_signal_handler(number, stop.set)
        # Its files are followed, so nothing is left to reload; who asks for it is not to end it.
        loop.add_signal_handler(
            signal.SIGHUP, lambda: log.info("nothing to reload: its files are followed")
        )
        self._began = time.monotonic()
        async with AsyncExitStack() as running:
            running.enter_context(ignored_at_the_end())
            self._measure()
            await self._open(running)
            _give_up_all_but()
            measuring = asyncio.create_task(self._keep_measuring())
            running.push_async_callback(asyncio.wait, (measuring,))
            running.callback(measuring.cancel)
            notify("READY=1")
            await running.enter_async_context(give_signs_of_life(self._measures))
            await stop.wait()
            notify("STOPPING=1")
        self._tell()
        log.info("stopped; answers: %d", self._answered)

    async def _open(self, running: AsyncExitStack) -> None:
        loop = asyncio.get_running_loop()
        udp, tcp = self._options.udp, self._options.tcp
        if udp is not None:
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Questions(self._answer), (udp.host, udp.port)
                )
            except OSError as error:
                raise CannotServe(f"cannot listen on {udp} (UDP): {in_words(error)}") from None
            running.callback(transport.close)
            log.info("answering on %s (UDP)", udp)
        if tcp is not None:
            try:
                server = await self._lines.listen(tcp)
            except OSError as error:
                raise CannotServe(f"cannot listen on {tcp} (TCP): {in_words(error)}") from None
            running.callback(server.close)
            log.info("answering on %s (TCP)", tcp)

    async def _keep_measuring(self) -> None:
        while True:
            await asyncio.sleep(self._options.interval)
            try:
                self._measure()
            except Exception:
                log.exception("measuring failed")

    async def _measures(self) -> bool:
        """Whether the report is of now; the questions are answered by the loop that asks this."""
        return time.monotonic() - self._measured < _STALE + self._options.interval

    def _measure(self) -> None:
        now = time.monotonic()
        figures = self._meter.measure(now)
        self._answerer.keys = self._keys.read()
        self._report = replace(self._state.read(), figures=figures, weight=weight(figures))
        self._measured = now
        if now >= self._tell_again:
            self._tell_again = now + _TELL
            self._tell()

    def _answer(self, data: bytes) -> bytes | None:
        uptime = int(time.monotonic() - self._began)
        return self._answerer.answer(data, replace(self._report, uptime=uptime))

    def _tell(self) -> None:
        refused = {refusal.value: count for refusal, count in self._answerer.refused.items()}
        if self._lines.turned_away:
            refused["too_many_connections"] = self._lines.turned_away
        told = ", ".join(f"{name} {count}" for name, count in sorted(refused.items()))
        if refused != self._told:
            self._told = refused
            log.warning("not answered since the start: %s", told)
        notify(f"STATUS=answered {self._answered}, not answered: {told or 'none'}")

    @property
    def _answered(self) -> int:
        return self._answerer.answered + self._lines.answered


def _give_up_all_but(*kept: Capability) -> None:
    try:
        keep_only(kept)
    except OSError as error:
        raise CannotServe(f"capabilities cannot be given up: {error.strerror}") from None


class _Questions(asyncio.DatagramProtocol):
    """Sends what ``answer`` makes of each packet to where the packet came from."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        # asyncio's own is not of that class before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Called by asyncio."""
        told = self._answer(data)
        if told is not None and self._transport is not None:
            self._transport.sendto(told, addr)
