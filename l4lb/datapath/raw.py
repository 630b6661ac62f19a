"""The ``raw`` datapath as the control plane sees it: a packet process, a shield, and what they need.

The packet process (worker.py) does the forwarding. This side starts it, tells it what to do, feeds it
the kernel's links, routes and neighbours, and keeps the host's stack away from the packets it takes
(shield.py). Nothing here is on the path of a packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection as Channel
from pathlib import Path
from typing import Any, Final

from l4lb.datapath.base import Capabilities, ConnectionFilter, DatapathError
from l4lb.datapath.claim import Claim
from l4lb.datapath.hops import is_ethernet
from l4lb.datapath.shield import Shield
from l4lb.model import ConnectionInfo, Counters, Plan
from l4lb.netlink.state import Change
from l4lb.netlink.watch import KernelWatch

log = logging.getLogger(__name__)

_START: Final = 20.0
_ANSWER: Final = 60.0
"""Seconds. Long: saving a million connections takes some."""

_GUARD: Final = 5.0
"""Seconds between two looks at whether the shield is still there."""

_CAPABILITIES: Final = "-all,+net_admin,+net_raw"
"""What the packet process keeps: opening packet sockets, marking frames, large buffers."""


def connections_file(state_prefix: Path) -> Path:
    """Where connections are kept between a stop and a start."""
    return state_prefix.with_name(state_prefix.name + ".connections")


class RawDatapath:
    """Packet sockets in Python, in a process of its own."""

    capabilities = Capabilities(name="raw", restores_connections=True)

    def __init__(self, watch: KernelWatch, state_prefix: Path, hold: float) -> None:
        """``hold``: seconds for which the host's stack is kept silent after a stop with connections."""
        self._watch = watch
        self._connections_file = connections_file(state_prefix)
        self._hold = hold
        self._shield = Shield()
        self._shield_lock = asyncio.Lock()
        self._interfaces: tuple[str, ...] = ()
        self._plan: Plan | None = None
        self._claim: Claim | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._unsubscribe: Any = None
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._requests = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the interface of every datapath -------------------------------------------------------

    async def attach(self, interfaces: Sequence[str]) -> None:
        """See ``Datapath``. Called again, it changes the interfaces."""
        self._interfaces = tuple(interfaces)
        if self._process is None:
            await self._start()
        await self._request("attach", self._interfaces)
        for name in self._interfaces:
            link = self._watch.state.link(name)
            if link is not None and not is_ethernet(link):
                log.warning("interface %s carries no Ethernet frames: its packets stay the host's", name)
        await self._apply_shield()

    async def apply(self, plan: Plan) -> None:
        """See ``Datapath``."""
        first = self._plan is None
        self._plan = plan
        claim = Claim.of(plan)
        if claim != self._claim:
            # The shield first: a packet lost for a moment is sent again, an RST of the host is final.
            self._claim = claim
            await self._apply_shield()
        await self._request("plan", plan)
        if first:
            restored, left_out = await self._request("restore", self._connections_file)
            if restored or left_out:
                log.info("%d connections restored, %d left out", restored, left_out)

    async def counters(self) -> Counters:
        """See ``Datapath``."""
        answer: Counters = await self._request("counters")
        return answer

    async def connections(self, which: ConnectionFilter, limit: int) -> tuple[list[ConnectionInfo], int]:
        """See ``Datapath``."""
        answer: tuple[list[ConnectionInfo], int] = await self._request("connections", which, limit)
        return answer

    async def flush(self, which: ConnectionFilter) -> int:
        """See ``Datapath``."""
        answer: int = await self._request("flush", which)
        return answer

    async def details(self) -> Mapping[str, str]:
        """See ``Datapath``."""
        answer: dict[str, str] = await self._request("details")
        if self._process is not None:
            answer["packet process"] = str(self._process.pid)
        return answer

    async def wait_failed(self) -> str:
        """See ``Datapath``."""
        assert self._process is not None
        status = await self._process.wait()
        if self._process is None or self._channel is None:
            await asyncio.Event().wait()  # a wanted end is not a failure
        return f"the packet process ended with status {status}"

    async def close(self, *, hold: bool) -> None:
        """See ``Datapath``."""
        keep = hold and self._hold > 0
        # A packet process that died could not say; its clients may still be there.
        live: int | None = None
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(DatapathError):
                live = await self._request("stop", self._connections_file if keep else None)
        await self._end_process()
        async with self._shield_lock:
            if keep and live != 0 and self._claim is not None:
                if live:
                    log.info("%d live connections saved; the host stays silent for %g s", live, self._hold)
                await self._shield.hold(self._claim, self._present(), self._hold)
            else:
                await self._shield.remove()
        if not keep:
            self._connections_file.unlink(missing_ok=True)

    @staticmethod
    async def clean_up(state_prefix: Path) -> list[str]:
        """Remove what a killed daemon left; what that was, for people."""
        removed = []
        if await Shield().remove():
            removed.append("the shield (nftables table 'netdev l4lb' and its tc filters)")
        saved = connections_file(state_prefix)
        if saved.exists():
            saved.unlink()
            removed.append(f"saved connections ({saved})")
        return removed

    # -- the packet process --------------------------------------------------------------------

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "l4lb.datapath.worker", str(theirs.fileno())]
            setpriv = shutil.which("setpriv")
            if setpriv is not None:
                command = [setpriv, "--no-new-privs", "--bounding-set", _CAPABILITIES, *command]
            self._process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
        self._channel = Channel(ours.detach())
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._receive)
        self._unsubscribe = self._watch.subscribe(self._kernel_changed)
        try:
            async with asyncio.timeout(_START):
                await self._request("kernel", self._watch.state)
        except TimeoutError:
            await self._end_process()
            raise DatapathError("the packet process did not start") from None
        except DatapathError:
            await self._end_process()
            raise
        self._spawn(self._guard_shield())

    async def _end_process(self) -> None:
        process, channel = self._process, self._channel
        self._channel = None
        for task in self._tasks:
            task.cancel()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel.fileno())
            channel.close()
        self._fail_requests("the packet process has stopped")
        if process is not None:
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._process = None

    async def _request(self, name: str, *arguments: Any) -> Any:
        self._requests += 1
        number = self._requests
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        self._tell(name, number, *arguments)
        try:
            async with asyncio.timeout(_ANSWER):
                return await future
        except TimeoutError:
            raise DatapathError(f"the packet process did not answer '{name}'") from None
        finally:
            self._answers.pop(number, None)

    def _tell(self, name: str, *arguments: Any) -> None:
        if self._channel is None:
            raise DatapathError("the packet process is not running")
        try:
            self._channel.send((name, *arguments))
        except OSError as error:
            raise DatapathError(f"the packet process is gone ({error.strerror})") from None

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            while self._channel.poll():
                message = self._channel.recv()
                if message[0] == "answer":
                    future = self._answers.get(message[1])
                    if future is not None and not future.done():
                        future.set_result(message[2])
                elif message[0] == "resolve":
                    self._spawn(self._watch.resolve(message[1], message[2]))
                elif message[0] == "log":
                    log.log(logging.getLevelName(message[1].upper()), "%s", message[2])
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._fail_requests("the packet process is gone")

    def _fail_requests(self, reason: str) -> None:
        for future in self._answers.values():
            if not future.done():
                future.set_exception(DatapathError(reason))

    # -- the kernel's side ---------------------------------------------------------------------

    def _kernel_changed(self, change: Change) -> None:
        if self._channel is None:
            return
        with contextlib.suppress(DatapathError):  # wait_failed reports that
            if change.links or change.addresses or change.routes:
                self._tell("kernel", 0, self._watch.state)
            elif change.neighbours:
                self._tell("neighbours", 0, change.neighbours)
        if change.links:
            self._spawn(self._apply_shield())

    def _present(self) -> list[str]:
        return [name for name in self._interfaces if self._watch.state.link(name) is not None]

    async def _apply_shield(self) -> None:
        async with self._shield_lock:
            if self._claim is not None:
                await self._shield.apply(self._claim, self._present())

    async def _guard_shield(self) -> None:
        """Put the shield back when somebody else has removed it, as ``nft flush ruleset`` does."""
        while True:
            await asyncio.sleep(_GUARD)
            async with self._shield_lock:
                removed = self._claim is not None and not await self._shield.loaded()
            if removed:
                log.warning("somebody removed the nftables table 'netdev l4lb': it is loaded again")
                await self._apply_shield()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("%s", task.exception())
