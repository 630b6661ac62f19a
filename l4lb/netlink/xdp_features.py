"""What the drivers of interfaces can do with XDP, from the kernel's generic netlink family "netdev".

Linux 6.3 and later. Messages: include/uapi/linux/netdev.h and genetlink.h.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import Final

XDP_CAN_SEND: Final = 4
"""NETDEV_XDP_ACT_NDO_XMIT: takes frames that a program on another interface redirects to it."""

_NETLINK_GENERIC: Final = 16
_GENL_ID_CTRL: Final = 16
_CTRL_CMD_GETFAMILY: Final = 3
_CTRL_ATTR_FAMILY_ID: Final = 1
_CTRL_ATTR_FAMILY_NAME: Final = 2
_NETDEV_CMD_DEV_GET: Final = 1
_NETDEV_A_DEV_IFINDEX: Final = 1
_NETDEV_A_DEV_XDP_FEATURES: Final = 3
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2

_MESSAGE: Final = Struct("=IHHIIBBH")
"""struct nlmsghdr and genlmsghdr: length, type, flags, sequence, port; command, version, reserved."""
_ATTRIBUTE: Final = Struct("=HH")
_U16: Final = Struct("=H")
_U32: Final = Struct("=I")
_U64: Final = Struct("=Q")


def xdp_features(indices: Iterable[int]) -> dict[int, int]:
    """The features (NETDEV_XDP_ACT_*) of interfaces; none of those that the kernel does not tell."""
    found: dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC) as asking:
        asking.settimeout(1.0)
        family = _ask(asking, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, _CTRL_ATTR_FAMILY_NAME, b"netdev\0")
        if _CTRL_ATTR_FAMILY_ID not in family:
            return found
        (number,) = _U16.unpack(family[_CTRL_ATTR_FAMILY_ID])
        for index in indices:
            answer = _ask(asking, number, _NETDEV_CMD_DEV_GET, _NETDEV_A_DEV_IFINDEX, _U32.pack(index))
            if _NETDEV_A_DEV_XDP_FEATURES in answer:
                (found[index],) = _U64.unpack(answer[_NETDEV_A_DEV_XDP_FEATURES])
    return found


def _ask(
    asking: socket.socket, family: int, command: int, attribute: int, value: bytes
) -> dict[int, bytes]:
    """The attributes of the answer, by type; none of an error."""
    padded = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), attribute) + value + bytes(-len(value) % 4)
    length = _MESSAGE.size + len(padded)
    asking.send(_MESSAGE.pack(length, family, _NLM_F_REQUEST, 0, 0, command, 1, 0) + padded)
    answer = asking.recv(1 << 16)
    length, kind, *_ = _MESSAGE.unpack_from(answer)
    return {} if kind == _NLMSG_ERROR else dict(_attributes(answer[_MESSAGE.size : length]))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
