"""The benchmark's own BPF programs: compiled when it runs, loaded, and run on the hosts.

All in this process: it enters a host's network namespace for a moment, because the kernel takes the
interfaces of programs from there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Final, Literal

from benchmark import BenchError
from build_bpf import CannotCompileError, SourceError, compile_object
from l4lb.datapath.libbpf import LibbpfError, Object, Program, attach_tcx, attach_xdp
from netlab.namespace import entered

_SOURCES: Final = Path(__file__).parent
Hook = Literal["xdp", "tc"]

# data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
_XDP_MD: Final = Struct("=6I")
# To be followed by zeros; before it length, packet type, mark, queue, protocol and VLAN, which are not
# for the caller to set. ingress_ifindex is the interface that the frame came in by, and so is ifindex.
_SK_BUFF: Final = Struct("=36xII148x")


@contextmanager
def loaded(name: str, directory: Path) -> Iterator[Object]:
    """The programs and maps of a source file, in the kernel.

    Raises:
        BenchError: they do not compile or load.
    """
    target = directory / f"{name}.bpf.o"
    try:
        compile_object(_SOURCES / f"{name}.c", target)
        program = Object.open(target)
        program.load()
    except (CannotCompileError, SourceError, LibbpfError) as error:
        raise BenchError(f"{name}.c: {error}") from None
    try:
        yield program
    finally:
        program.close()


@contextmanager
def attached(program: Program, hook: Hook, namespace: str, name: str) -> Iterator[None]:
    """With a program on an interface: at XDP, native, or at TC ingress.

    Raises:
        BenchError: the interface does not take it.
    """
    try:
        with entered(namespace):
            index = socket.if_nametoindex(name)
            link = attach_xdp(program, index, "native") if hook == "xdp" else attach_tcx(program, index)
    except LibbpfError as error:
        raise BenchError(str(error)) from None
    try:
        yield
    finally:
        link.detach()
        link.close()


def context(frame: int, interface: int) -> bytes:
    """A struct xdp_md: a frame of so many bytes came in at an interface."""
    return _XDP_MD.pack(0, frame, 0, interface, 0, 0)


def sk_buff(interface: int) -> bytes:
    """A struct __sk_buff: a frame came in at an interface."""
    return _SK_BUFF.pack(interface, interface)
