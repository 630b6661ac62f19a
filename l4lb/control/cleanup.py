"""Removes what a killed daemon left on the host, without starting one."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import ip_address
from pathlib import Path

from l4lb.control.lock import AnotherDaemon, Refused, answers, lock_namespace, remove_stale_socket
from l4lb.control.state_files import down_file, drain_file, state_prefix, vip_file
from l4lb.datapath.ebpf.datapath import EbpfDatapath
from l4lb.datapath.raw.datapath import RawDatapath
from l4lb.netlink.ledger import Ledger
from l4lb.netlink.vips import VipKeeper
from l4lb.netlink.watch import KernelWatch


class DaemonAnswers(Refused):
    """A daemon answers at the socket, maybe one that has just begun to."""


def clean_up(socket_path: Path) -> list[str]:
    """Remove the VIPs, the datapath's leftovers and the state files of this network namespace.

    Returns:
        What was removed, one line each; empty if nothing was left.

    Raises:
        DaemonAnswers: a daemon is running here, which has to be asked.
        Refused: one is that does not answer there, or the socket's path is something else's.
        VipError, DatapathError: something could not be removed.
        OSError: a file could not be removed.
    """
    try:
        lock = lock_namespace()
    except AnotherDaemon:
        if answers(socket_path):
            raise DaemonAnswers(f"a daemon is running, and answers at {socket_path}") from None
        raise Refused(
            f"a daemon is running in this network namespace, but not at {socket_path}: "
            "name its socket with --socket"
        ) from None
    with contextlib.closing(lock):
        return asyncio.run(_clean_up(socket_path))


async def _clean_up(socket_path: Path) -> list[str]:
    removed = []
    problem: OSError | None = None
    try:
        if remove_stale_socket(socket_path):
            removed.append(f"the control socket {socket_path}")
        for file in (drain_file, down_file):
            file(socket_path).unlink(missing_ok=True)
    except OSError as error:
        problem = error  # a file is less than what is still on the host
    removed += EbpfDatapath.clean_up()
    removed += await RawDatapath.clean_up(state_prefix(socket_path))
    async with KernelWatch() as watch:
        vips = tuple(Ledger(vip_file(socket_path)))
        keeper = VipKeeper(watch, vip_file(socket_path))
        try:
            await keeper.clear()
        finally:
            await keeper.close()
    removed += [f"VIP {ip_address(ip)}" for ip in sorted(vips, key=lambda ip: (len(ip), ip))]
    if problem is not None:
        raise problem
    return removed
