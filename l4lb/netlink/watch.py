"""Follows the kernel's network configuration through rtnetlink.

Subscribes to the multicast groups first and dumps afterwards, so that no event is missed; an event
older than the dump is harmless, as events say what is, not what changes. Where events do not say
enough (see ``mirror``) the part is dumped again a moment later, and where they were lost (ENOBUFS)
everything is.

The kernel does not know that neighbours are in use when packets leave by a packet socket. Whoever
sends them calls ``resolve`` now and then (about every 30 s) for those in use, so that they are neither
forgotten nor stale when a host has moved.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final

from l4lb.netlink.messages import Message
from l4lb.netlink.mirror import Mirror, Part
from l4lb.netlink.state import Change, KernelState

__all__ = ["Change", "KernelWatch", "Subscriber"]

Subscriber = Callable[[Change], None]

_log = logging.getLogger(__name__)

_RTMGRP_NEXTHOP: Final = 1 << 31  # RTNLGRP_NEXTHOP is 32; pyroute2 has no name for it
_NLM_F_DUMP_INTR: Final = 0x10  # the configuration changed under the dump: it may lack something
_DUMP_ATTEMPTS: Final = 5
_SETTLE: Final = 0.02  # seconds to let a burst of events pass before a part is dumped again
_REST: Final = 3.0
"""Times as long as dumping took until something is dumped again: of thousands of routes it takes most of a
second, and while as many VIPs are removed hardly anything else would be done."""
_LONGEST_REST: Final = 2.0  # seconds
_DUMP_WITHIN: Final = 60.0  # seconds; a million routes take about that
_ANSWER_WITHIN: Final = 5.0  # seconds; pyroute2 would wait forever for an answer that was lost
_FIRST_RETRY: Final = 0.1  # seconds after lost events; doubles as long as reading anew fails
_LAST_RETRY: Final = 5.0


class KernelWatch:
    """The kernel's configuration as it is now, and news of it.

    Belongs to the network namespace and to the asyncio loop that ``start`` is called in.
    """

    def __init__(self) -> None:
        self._mirror = Mirror()
        self._requests: Any = None  # AsyncIPRoute, a socket without groups: only answers arrive
        self._events: Any = None  # AsyncIPRoute, a socket with groups: only events arrive
        self._subscribers: list[Subscriber] = []
        self._task: asyncio.Task[None] | None = None
        self._publishing: asyncio.Handle | None = None

    async def __aenter__(self) -> KernelWatch:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def state(self) -> KernelState:
        """The configuration as far as the kernel has told it."""
        return self._mirror.state

    @property
    def foreign_rules(self) -> bool:
        """True if there are policy routing rules besides the three defaults, a VRF's included.

        They are not followed: routes come from the tables local and main for every packet.
        """
        return self._mirror.foreign_rules

    async def start(self) -> None:
        """Read everything, then follow events until ``stop``.

        Raises:
            OSError: the kernel does not let its configuration be read.
        """
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            await self._read_everything()
        except NetlinkError as error:
            await self.stop()
            raise OSError(error.code, f"netlink: {error.args[-1]}") from error
        except BaseException:
            await self.stop()
            raise
        self._publish()
        self._task = asyncio.create_task(self._run(), name="netlink")

    async def stop(self) -> None:
        """Stop following. ``state`` stays as it was last."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        self._close()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call ``subscriber`` in the loop after each change, ``state`` being new already.

        Events that arrive together make one call. Returns what ends the subscription.
        """
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    async def wait_for(self, condition: Callable[[KernelState], bool], timeout: float) -> bool:
        """Wait until a condition holds of ``state``; False if it does not within ``timeout`` seconds."""
        changed = asyncio.Event()
        unsubscribe = self.subscribe(lambda change: changed.set())
        try:
            async with asyncio.timeout(timeout):
                while not condition(self.state):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            unsubscribe()
        return True

    async def resolve(self, index: int, ip: bytes) -> None:
        """Have the kernel find out, or confirm, the link-layer address of a neighbour.

        The outcome is a ``Change`` with that neighbour, its ``mac`` None if it does not answer. If the
        kernel confirms what ``state`` says already, there is none.
        """
        if self._mirror.is_static(index, ip):
            return  # NTF_USE would take the permanence from an entry set by hand (__neigh_update)
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.netlink.rtnl.ndmsg import NTF_USE, NUD_NONE

        family = socket.AF_INET if len(ip) == 4 else socket.AF_INET6
        text = socket.inet_ntop(family, ip)
        try:
            if self._requests is None:
                return  # it is just being reopened; who needs the neighbour will ask again
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._requests.neigh(
                    "replace", family=family, ifindex=index, dst=text, flags=NTF_USE, state=NUD_NONE
                )
        except TimeoutError:
            _log.debug("neighbour %s on link %d: the kernel takes its time", text, index)
        except (NetlinkError, OSError) as error:  # the link is gone or down, or the table is full
            _log.debug("neighbour %s on link %d cannot be resolved: %s", text, index, error)
            self._mirror.unanswered(index, ip)
            self._publish_soon()

    async def _run(self) -> None:
        retry = _FIRST_RETRY
        while True:
            try:
                if self._events is None:
                    await self._read_everything()
                    self._publish_soon()
                    retry = _FIRST_RETRY
                await self._follow()
            except Exception as error:
                # ENOBUFS after a burst, or a message that cannot be decoded. Whatever it was: what
                # is known may be wrong now, and following must not end.
                _log.warning("netlink events were lost (%s); reading everything anew", error)
                self._close()
                await asyncio.sleep(retry)
                retry = min(2 * retry, _LAST_RETRY)

    async def _read_everything(self) -> None:
        from pyroute2 import AsyncIPRoute  # costs 0.1-0.3 s
        from pyroute2.netlink import rtnl

        self._requests = AsyncIPRoute()
        self._events = AsyncIPRoute()
        await self._events.bind(
            rtnl.RTMGRP_LINK
            | rtnl.RTMGRP_IPV4_IFADDR
            | rtnl.RTMGRP_IPV6_IFADDR
            | rtnl.RTMGRP_IPV4_ROUTE
            | rtnl.RTMGRP_IPV6_ROUTE
            | rtnl.RTMGRP_IPV4_RULE
            | rtnl.RTMGRP_IPV6_RULE
            | rtnl.RTMGRP_NEIGH
            | _RTMGRP_NEXTHOP
        )
        await self._refresh(*Part)

    def _close(self) -> None:
        for endpoint in (self._events, self._requests):
            if endpoint is not None:
                endpoint.close()
        self._events = self._requests = None

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        refresh_at: float | None = None
        rested_at = 0.0
        while True:
            if self._mirror.stale and refresh_at is None:
                refresh_at = max(loop.time() + _SETTLE, rested_at)
            try:
                async with asyncio.timeout_at(refresh_at), aclosing(self._events.get()) as messages:
                    async for message in messages:
                        self._mirror.apply(message)
            except TimeoutError:
                refresh_at, began = None, loop.time()
                await self._refresh(*self._mirror.stale)
                took = loop.time() - began
                rested_at = began + took + min(_REST * took, _LONGEST_REST)
            self._publish_soon()

    async def _refresh(self, *parts: Part) -> None:
        """Dump parts of the configuration. Events go on queueing up meanwhile."""
        from pyroute2.netlink import rtnl
        from pyroute2.netlink.rtnl.fibmsg import fibmsg
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.ndmsg import ndmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg

        both = (socket.AF_INET, socket.AF_INET6)
        requests = {
            Part.LINKS: (ifinfmsg, rtnl.RTM_GETLINK, (socket.AF_UNSPEC,)),
            Part.ADDRESSES: (ifaddrmsg, rtnl.RTM_GETADDR, both),
            Part.ROUTES: (rtmsg, rtnl.RTM_GETROUTE, both),
            Part.NEIGHBOURS: (ndmsg, rtnl.RTM_GETNEIGH, both),
            Part.RULES: (fibmsg, rtnl.RTM_GETRULE, both),
        }
        for part in parts:
            body, kind, families = requests[part]
            for _ in range(_DUMP_ATTEMPTS):
                async with asyncio.timeout(_DUMP_WITHIN):
                    dumps = [await self._dump(body, kind, family) for family in families]
                self._mirror.replace(part, [message for dump, _ in dumps for message in dump])
                if all(whole for _, whole in dumps):
                    break
            else:
                self._mirror.stale.add(part)  # it never stands still: again after the next burst

    async def _dump(self, body: type[Any], kind: int, family: int) -> tuple[list[Any], bool]:
        """The messages of one dump, and whether nothing changed under it."""
        from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST

        flags = 0

        def collect_flags(message: Message) -> None:  # the mark may be on the NLMSG_DONE alone
            nonlocal flags
            flags |= message["header"]["flags"]

        request = body()
        request["family"] = family
        answer = await self._requests.nlm_request(
            request, msg_type=kind, msg_flags=NLM_F_REQUEST | NLM_F_DUMP, callback=collect_flags
        )
        # Where the kernel lacks a family it answers with what it has of the others.
        messages = [message async for message in answer if message["family"] == family]
        return messages, not flags & _NLM_F_DUMP_INTR

    def _publish_soon(self) -> None:
        if self._publishing is None:
            self._publishing = asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None
        change = self._mirror.take_change()
        if change is None:
            return
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(change)
            except Exception:
                _log.exception("a subscriber to network changes failed")
