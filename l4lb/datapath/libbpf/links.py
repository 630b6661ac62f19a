"""Programs on the hooks of an interface: tcx, clsact and XDP.

Interfaces are those of the calling thread's network namespace.
"""

import errno
from ctypes import byref
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from l4lb.datapath.libbpf.library import (
    Handle,
    KernelLinkInfo,
    LibbpfError,
    LinkCreateOptions,
    TcHook,
    TcOptions,
    library,
    open_pin,
)
from l4lb.datapath.libbpf.programs import Program

_ATTACH_XDP = 37  # enum bpf_attach_type
_ATTACH_TCX_INGRESS = 46
_BEFORE = 1 << 3  # BPF_F_BEFORE: of no other program means of all
_XDP_IF_NONE = 1  # XDP_FLAGS_UPDATE_IF_NOEXIST
_XDP_MODES = {"generic": 1 << 1, "native": 1 << 2}  # XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE
_TC_INGRESS = 1  # enum bpf_tc_attach_point
_TC_REPLACE = 1  # BPF_TC_F_REPLACE

XdpMode = Literal["native", "generic"]


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What a link is between."""

    program_id: int
    ifindex: int  # 0 once the interface is gone


class Link(Handle):
    """A program on a hook of an interface: there as long as the link is open or pinned."""

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """The link that is pinned there. LibbpfError (errno ENOENT) if there is nothing."""
        return cls(open_pin(path))

    def info(self) -> LinkInfo:
        """The program and the interface."""
        info = KernelLinkInfo()
        self.read_info(info)
        return LinkInfo(info.prog_id, info.ifindex)

    def update(self, program: Program) -> None:
        """Puts another program in its place; every packet sees the one or the other.

        LibbpfError: ENOLINK once the interface is gone.
        """
        library().call(f"replace by {program.name}", "bpf_link_update", self.fd, program.fd, None)

    def detach(self) -> None:
        """Takes the program off the hook, also where the link is pinned."""
        library().call("detach", "bpf_link_detach", self.fd)


def attach_tcx(program: Program, ifindex: int) -> Link:
    """At TC ingress, before the programs there: one that lets a packet pass (TC_ACT_OK) ends the list.

    Linux 6.6 and later; LibbpfError (EINVAL) before.
    """
    what = f"attach {program.name} to interface {ifindex} (tcx)"
    options = byref(LinkCreateOptions(flags=_BEFORE))
    return Link(library().call(what, "bpf_link_create", program.fd, ifindex, _ATTACH_TCX_INGRESS, options))


def attach_xdp(program: Program, ifindex: int, mode: XdpMode) -> Link:
    """At XDP.

    LibbpfError: EBUSY with another program there, EOPNOTSUPP if the driver has no native XDP, others as the
    driver wants, with its reason.
    """
    what = f"attach {program.name} to interface {ifindex} ({mode} XDP)"
    flags = _XDP_MODES[mode]
    options = LinkCreateOptions(flags=flags)
    try:
        fd = library().call(what, "bpf_link_create", program.fd, ifindex, _ATTACH_XDP, byref(options))
    except LibbpfError:
        # Only through netlink does a driver say why: a peer's MTU, queues.
        library().call(what, "bpf_xdp_attach", ifindex, program.fd, flags | _XDP_IF_NONE, None)
        library().call(what, "bpf_xdp_detach", ifindex, flags, None)
        raise
    return Link(fd)


def attach_clsact(program: Program, ifindex: int, handle: int, priority: int) -> None:
    """At TC ingress as a filter of the clsact qdisc, which is made if need be, until detach_clsact.

    One with the same handle and priority is replaced; every packet sees the one or the other.
    """
    what = f"attach {program.name} to interface {ifindex} (clsact)"
    hook = TcHook(ifindex=ifindex, attach_point=_TC_INGRESS)
    try:
        library().call(what, "bpf_tc_hook_create", byref(hook))
    except LibbpfError as error:
        if error.errno != errno.EEXIST:
            raise
    options = TcOptions(prog_fd=program.fd, flags=_TC_REPLACE, handle=handle, priority=priority)
    library().call(what, "bpf_tc_attach", byref(hook), byref(options))


def detach_clsact(ifindex: int, handle: int, priority: int) -> None:
    """Removes what attach_clsact put there; the qdisc stays, for others may use it.

    LibbpfError: ENOENT, or EINVAL without the qdisc, if there is no such filter.
    """
    hook = TcHook(ifindex=ifindex, attach_point=_TC_INGRESS)
    options = TcOptions(handle=handle, priority=priority)
    what = f"detach filter {handle} from interface {ifindex} (clsact)"
    library().call(what, "bpf_tc_detach", byref(hook), byref(options))
