"""Which datapath a config gets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from l4lb import privileges
from l4lb.control.config.config import Config
from l4lb.datapath.base import Datapath, DatapathError
from l4lb.netlink.watch import KernelWatch
from l4lb.privileges import Capability

log = logging.getLogger(__name__)

AUTO: Final = ("tc", "raw")
"""What ``auto`` tries, the best first. The last one runs anywhere."""


def choose_datapath(config: Config, watch: KernelWatch, state_prefix: Path) -> Datapath:
    """A datapath that was not attached yet. Its files are named ``state_prefix`` and a suffix.

    What another datapath has left on the host goes when this one takes its place, and not before: a start
    that fails leaves it as it was. ``auto`` falls back in
    spite of programs that forward only where no others could ever be loaded: a load may fail for want of
    memory or descriptors, and their connections would end.

    Raises:
        DatapathError: the one the config names cannot run here, or not now.
    """
    wanted = config.gateway.datapath
    if wanted != "auto":
        return _make(wanted, config, watch, state_prefix)
    *better, last = AUTO
    for name in better:
        forwarding = attached_before()
        try:
            datapath = _make(name, config, watch, state_prefix)
        except DatapathError as error:
            if forwarding and not _is_hopeless():
                raise DatapathError(
                    f"datapath {name} cannot be loaded: {error}; the programs of the daemon before go on "
                    f"forwarding, so {last} does not take their place: start again once that is mended, or "
                    "end them and their connections with 'l4lb stop' first"
                ) from None
            log.warning("datapath %s cannot run here: %s", name, error)
        else:
            log.info("datapath auto: %s, the best that runs here", name)
            return datapath
    return _make(last, config, watch, state_prefix)


def mount_for(config: Config) -> None:
    """Mount the BPF file system if a datapath that the config may get pins to it: while there are still the
    capabilities for it. Why it could not be is told by the datapath that misses it."""
    from l4lb.datapath.ebpf import pins

    if config.gateway.datapath != "raw":
        with contextlib.suppress(DatapathError):
            pins.mount()


def attached_before() -> set[int]:
    """Indices of the interfaces on which pinned programs take packets, those of a daemon before if none is
    running; also one of another version."""
    from l4lb.datapath.ebpf import hooks, pins

    if not pins.is_mounted():
        return set()
    try:
        namespace = pins.namespace_directory()
    except DatapathError:  # a kernel that cannot have any
        return set()
    return {index for links in namespace.glob("*/links") for _, index in hooks.attached(links)}


def _is_hopeless() -> bool:
    """Whether no program can be loaded until somebody changes what this host gives us."""
    from l4lb.datapath.ebpf import programs
    from l4lb.datapath.libbpf.library import LibbpfError, library

    try:
        library()
    except LibbpfError:
        return True
    if not programs.are_installed():
        return True
    return privileges.missing((Capability.BPF, Capability.PERFMON), privileges.held()) is not None


def _make(name: str, config: Config, watch: KernelWatch, state_prefix: Path) -> Datapath:
    from l4lb.datapath.ebpf.datapath import EbpfDatapath
    from l4lb.datapath.raw.datapath import RawDatapath

    async def remove_programs() -> None:
        for line in await asyncio.to_thread(EbpfDatapath.clean_up):
            log.info("another datapath before: removed %s", line)

    if name == "raw":
        return RawDatapath(watch, state_prefix, config.gateway.hold, remove_others=remove_programs)
    datapath = EbpfDatapath(
        watch, name, config.gateway.limits, remove_others=lambda: RawDatapath.clean_up(state_prefix)
    )
    datapath.load()
    return datapath
