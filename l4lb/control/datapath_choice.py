"""Which datapath a config gets."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from l4lb.control.config import Config
from l4lb.datapath.base import Datapath, DatapathError
from l4lb.netlink.watch import KernelWatch

log = logging.getLogger(__name__)

AUTO: Final = ("tc", "raw")
"""What ``auto`` tries, the best first. The last one runs anywhere."""


def choose_datapath(config: Config, watch: KernelWatch, state_prefix: Path) -> Datapath:
    """A datapath that was not attached yet. Its files are named ``state_prefix`` and a suffix.

    What another datapath has left on the host goes when this one takes its place.

    Raises:
        DatapathError: the one the config names cannot run here.
    """
    wanted = config.gateway.datapath
    if wanted != "auto":
        return _make(wanted, config, watch, state_prefix)
    *better, last = AUTO
    for name in better:
        try:
            datapath = _make(name, config, watch, state_prefix)
        except DatapathError as error:
            log.warning("datapath %s cannot run here: %s", name, error)
        else:
            log.info("datapath auto: %s, the best that runs here", name)
            return datapath
    return _make(last, config, watch, state_prefix)


def _make(name: str, config: Config, watch: KernelWatch, state_prefix: Path) -> Datapath:
    from l4lb.datapath.ebpf.datapath import EbpfDatapath
    from l4lb.datapath.raw import RawDatapath

    if name == "raw":
        for line in EbpfDatapath.clean_up():
            log.info("another datapath before: removed %s", line)
        return RawDatapath(watch, state_prefix, config.gateway.hold)
    datapath = EbpfDatapath(
        watch, name, config.gateway.limits, remove_others=lambda: RawDatapath.clean_up(state_prefix)
    )
    datapath.load()
    return datapath
