"""What the programs have to know of the interfaces that frames come and leave by. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from l4lb.datapath.ebpf.hooks import GENERIC, NATIVE
from l4lb.datapath.ebpf.layout import HOP_PEER, HOP_XDP, Interface
from l4lb.netlink.state import Link
from l4lb.netlink.xdp_features import XDP_CAN_SEND

_ETHERNET: Final = 6  # bytes of an address


def known_interfaces(
    links: Iterable[Link], hooks: Collection[tuple[str, int]], features: Mapping[int, int]
) -> dict[int, Interface]:
    """By index, those that have Ethernet addresses; where the programs are, first.

    Args:
        links: all there are.
        hooks: what is attached, as (hook, interface).
        features: NETDEV_XDP_ACT_* by interface, of those that the kernel tells.
    """
    kinds = {hook for hook, _ in hooks}
    ours = {index for _, index in hooks}

    def takes_redirected(link: Link) -> bool:
        """A frame from native XDP needs the driver's help, and is lost without it; one from generic
        XDP is a socket buffer."""
        if not kinds & {NATIVE, GENERIC}:
            return False
        if NATIVE not in kinds:
            return True
        if link.index in features:
            return bool(features[link.index] & XDP_CAN_SEND)
        # Linux before 6.3: drivers with native XDP can send, but a veth only if its other end can take.
        return (NATIVE, link.index) in hooks and not link.paired

    return {
        link.index: Interface(HOP_PEER * link.paired | HOP_XDP * takes_redirected(link), link.mac)
        for link in sorted(links, key=lambda link: link.index not in ours)
        if len(link.mac) == _ETHERNET
    }


def missing(link: Link) -> str:
    """Why frames of native XDP cannot leave by an interface, and what to do."""
    if link.paired:
        return "TC sends for XDP here: no GRO at the other end ('ethtool -K DEVICE gro on' there)"
    return "TC sends for XDP here: the driver takes no redirected frames"
