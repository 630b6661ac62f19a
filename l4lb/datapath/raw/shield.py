"""The shield: keeps the host's stack from the packets that the raw datapath takes. Edge.

It has two parts in the kernel, loaded with ``nft`` and ``tc``:

- the nftables table ``netdev l4lb``, which drops claimed packets at the ingress hook, behind the
  packet sockets and before the stack;
- at the egress of every interface a filter that turns frames marked HAND_BACK_MARK round into the
  ingress of the same interface. That is the way back for a claimed packet that is not the balancer's:
  it goes through forwarding, connection tracking and the firewall as if it had just come in.

A socket that hands frames back sets SO_MARK, and must not set PACKET_QDISC_BYPASS: that would take
the frame past the filter and out onto the wire.

Both parts outlive the process. After a crash claimed packets stay dropped, so that no client is reset,
until the next start or ``remove``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from l4lb.datapath.base import DatapathError
from l4lb.datapath.raw.child import start_child
from l4lb.datapath.raw.claim import HAND_BACK_MARK, Claim
from l4lb.datapath.raw.claim_nft import NO_TABLE, TABLE

_PACKAGES: Final = {"nft": "nftables", "tc": "iproute2"}
_SYSTEM_DIRECTORIES: Final = ("/usr/sbin", "/sbin")

# A filter is known as ours by its preference and handle, also by a later process. The handle says
# besides whether the clsact qdisc was there before us: if so it stays.
_PREFERENCE: Final = "4"
_ON_OUR_QDISC: Final = f"{HAND_BACK_MARK:#x}"
_ON_FOUND_QDISC: Final = f"{HAND_BACK_MARK + 1:#x}"

# Accept if the mark (at SKF_AD_OFF + SKF_AD_MARK) is ours. Classic BPF, as cls_fw and u32's mark match
# are missing from small kernels.
_MARKED: Final = f"4,32 0 0 4294963220,21 0 1 {HAND_BACK_MARK},6 0 0 4294967295,6 0 0 0"

_NO_TABLE_THERE: Final = ("No such file or directory", "not supported")
"""What nft says when our table is not there, or nf_tables is not in the kernel."""


class _Result(NamedTuple):
    status: int
    output: str
    error: str  # its first line


class Shield:
    """The shield of this network namespace. There is one: a second object sees the first one's."""

    def __init__(self) -> None:
        self._shielded: set[str] = set()

    async def apply(self, claim: Claim, interfaces: Sequence[str]) -> tuple[str, ...]:
        """Make the claim true on these interfaces and on no others.

        One that is missing is left out; apply again when it is there. What was claimed before
        stays claimed until the new claim has taken its place in one step.

        Returns:
            The interfaces that are shielded now.

        Raises:
            DatapathError: the shield cannot be loaded; the one before, if any, is still there.
        """
        added: list[str] = []
        try:
            for interface in interfaces:
                if await _start_hand_back(interface):
                    added.append(interface)
            shielded = await self._load(claim, interfaces, None)
        except BaseException:
            for interface in added:
                await _stop_hand_back(interface)
            raise
        for interface in self._shielded.difference(shielded):
            await _stop_hand_back(interface)
        self._shielded = set(shielded)
        return shielded

    async def hold(self, claim: Claim, interfaces: Sequence[str], seconds: float) -> None:
        """Keep the stack silent for a while without any process: for a restart.

        Meanwhile nothing is handed back, so direct connections to backends wait too. After
        ``seconds`` the shield lets everything pass; what stays is an inert table, which the next
        ``apply`` replaces and ``remove`` takes away.

        Raises:
            DatapathError: the shield cannot be loaded.
        """
        self._shielded = set(await self._load(claim, interfaces, seconds))
        await _stop_handing_back()

    async def loaded(self) -> bool:
        """True unless a part of it is gone: rules of other programs come and go by ``flush ruleset``, and
        without its filter what is handed back on an interface would go out on the wire."""
        tables = await _run("nft", "list", "tables", "netdev")
        if not tables.status and "table netdev l4lb" not in tables.output.splitlines():
            return False
        present = [interface for interface in self._shielded if _exists(interface)]
        show = "".join(f"filter show dev {name} egress pref {_PREFERENCE}\n" for name in present)
        filters = await _run("tc", "-force", "-batch", "-", text=show)
        words = filters.output.split()
        return words.count(_ON_OUR_QDISC) + words.count(_ON_FOUND_QDISC) >= len(present)

    async def remove(self) -> bool:
        """Leave nothing of the shield in this network namespace, whoever loaded it.

        Does nothing where there is nothing, even without nft and tc: after a crash too.

        Returns:
            True if there was something.

        Raises:
            DatapathError: something is left, and why.
        """
        found = False
        if _find("nft") is not None:
            result = await _run("nft", "delete", "table", *TABLE.split())
            found = not result.status
            if not found and not any(words in result.error for words in _NO_TABLE_THERE):
                raise DatapathError(f"cannot remove the nftables table '{TABLE}': {result.error}")
        self._shielded.clear()
        return await _stop_handing_back() or found

    async def _load(
        self, claim: Claim, interfaces: Sequence[str], expires_in: float | None
    ) -> tuple[str, ...]:
        """Load the table for those interfaces that exist, and return them."""
        while True:
            present = tuple(interface for interface in dict.fromkeys(interfaces) if _exists(interface))
            gone = self._shielded.difference(present)
            try:
                ruleset = claim.nft_ruleset(present, gone=gone, expires_in=expires_in)
            except ValueError as error:
                raise DatapathError(str(error)) from None
            # A table that cannot be changed in place, of another version of l4lb, is replaced.
            for text in (ruleset, NO_TABLE + ruleset):
                result = await _run("nft", "-f", "-", text=text)
                if not result.status:
                    return present
            if all(_exists(interface) for interface in present):
                raise DatapathError(f"cannot load the shield with nft: {result.error}")


async def _stop_handing_back() -> bool:
    """Take our filters from all interfaces. True if there was one."""
    if _find("tc") is None:
        return False
    return any([await _stop_hand_back(interface) for interface in await _with_qdisc("clsact")])


async def _start_hand_back(interface: str) -> bool:
    """Set up the way back on an interface. False if it was there before, or the interface has vanished."""
    for handle in (_ON_OUR_QDISC, _ON_FOUND_QDISC):
        if not (await _filter("get", interface, handle)).status:
            return False
    if interface in await _with_qdisc("ingress"):
        raise DatapathError(
            f"{interface} has an ingress qdisc, which excludes the clsact qdisc that l4lb needs: "
            "move its filters to clsact, which has an ingress too"
        )
    handle = _ON_FOUND_QDISC
    if interface not in await _with_qdisc("clsact"):
        handle = _ON_OUR_QDISC
        result = await _run("tc", "qdisc", "add", "dev", interface, "clsact")
        if result.status:
            return _refused(interface, result)
    action = ("action", "mirred", "ingress", "redirect", "dev", interface)
    result = await _filter("replace", interface, handle, "bytecode", _MARKED, *action)
    if result.status:
        if handle is _ON_OUR_QDISC:
            await _run("tc", "qdisc", "delete", "dev", interface, "clsact")
        return _refused(interface, result)
    return True


def _refused(interface: str, result: _Result) -> bool:
    """What tc cannot do because the interface has vanished is no error."""
    if _exists(interface):
        raise DatapathError(f"cannot redirect packets on {interface} with tc: {result.error}")
    return False


async def _stop_hand_back(interface: str) -> bool:
    """Take our filter from an interface, and our clsact qdisc unless somebody else uses it by now.
    True if there was a filter."""
    if (await _filter("delete", interface, _ON_OUR_QDISC)).status:
        return not (await _filter("delete", interface, _ON_FOUND_QDISC)).status
    for direction in ("ingress", "egress"):
        if (await _run("tc", "filter", "show", "dev", interface, direction)).output.strip():
            return True
    await _run("tc", "qdisc", "delete", "dev", interface, "clsact")
    return True


async def _with_qdisc(kind: str) -> list[str]:
    """The interfaces that have a qdisc of this kind."""
    result = await _run("tc", "qdisc", "show")
    if result.status:
        raise DatapathError(f"cannot list the qdiscs with tc: {result.error}")
    lines = (line.split() for line in result.output.splitlines())
    return [words[words.index("dev") + 1] for words in lines if words[:2] == ["qdisc", kind]]


async def _filter(verb: str, interface: str, handle: str, *rest: str) -> _Result:
    where = ("dev", interface, "egress", "protocol", "all", "pref", _PREFERENCE)
    return await _run("tc", "filter", verb, *where, "handle", handle, "bpf", *rest)


async def _run(program: str, *arguments: str, text: str = "") -> _Result:
    path = _find(program)
    if path is None:
        raise DatapathError(f"{program} is not installed: install the package {_PACKAGES[program]}")
    try:
        process = await start_child(
            path,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as problem:  # memory, processes or descriptors have run out
        raise DatapathError(f"{program} cannot be started: {problem.strerror}") from None
    try:
        output, error = await process.communicate(text.encode())
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    line = next(iter(error.decode(errors="replace").splitlines()), "")
    return _Result(
        process.returncode, output.decode(errors="replace"), line.partition("Error: ")[2] or line
    )


def _find(program: str) -> str | None:
    """Where a program is. System programs are not on every PATH that root may have."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES))
    return shutil.which(program, path=path)


def _exists(interface: str) -> bool:
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True
