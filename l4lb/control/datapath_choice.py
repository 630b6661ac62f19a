"""Which datapath a config gets."""

from __future__ import annotations

from pathlib import Path

from l4lb.control.config import Config
from l4lb.datapath.base import Datapath
from l4lb.netlink.watch import KernelWatch


def choose_datapath(config: Config, watch: KernelWatch, state_prefix: Path) -> Datapath:
    """A datapath that was not attached yet. Its files are named ``state_prefix`` and a suffix.

    Raises:
        DatapathError: the one the config names cannot run here.
    """
    from l4lb.datapath.raw import RawDatapath

    return RawDatapath(watch, state_prefix, config.gateway.hold)
