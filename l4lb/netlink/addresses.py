"""Adds host addresses to links, and takes them off."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any


class Addresses:
    """The kernel's addresses, to be changed within ``async with``: through one socket, which is opened when
    the first of them is changed. Several may be under way."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._kernel: Any = None  # AsyncIPRoute
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Addresses:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kernel = None
        await self._stack.aclose()

    async def add(self, index: int, text: str) -> tuple[int, str] | None:
        """Add an address to a link, by index; the error number and the kernel's words if it refuses."""
        return await self._change("add", index, text)

    async def delete(self, index: int, text: str) -> tuple[int, str] | None:
        """Take an address off a link; else as ``add``."""
        return await self._change("del", index, text)

    async def _change(self, command: str, index: int, text: str) -> tuple[int, str] | None:
        from pyroute2 import AsyncIPRoute
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, IFA_F_NOPREFIXROUTE

        options: dict[str, int] = {"prefixlen": 32}
        if ":" in text:
            # No duplicate address detection: a VIP that moves here may still be answered for elsewhere
            # for a moment, and must work at once. No prefix route: an IPv4 /32 has none either.
            options = {"prefixlen": 128, "flags": IFA_F_NODAD | IFA_F_NOPREFIXROUTE}
        async with self._opening:
            if self._kernel is None:
                kernel = await self._stack.enter_async_context(AsyncIPRoute(ext_ack=True))
                await kernel.setup_endpoint()  # or each of several requests would do it, and one be closed
                self._kernel = kernel
        try:
            await self._kernel.addr(command, index=index, address=text, **options)
        except NetlinkError as error:
            return error.code, str(error.args[1])
        return None
