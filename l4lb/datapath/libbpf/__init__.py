"""libbpf through ctypes: objects, maps, programs and links of eBPF.

Works with libbpf 1.0 and later (libbpf.so.1: Debian 12 and 13, Ubuntu 24.04). Opening an object needs no
privileges; all else needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN. Nothing is printed: what libbpf has to
say ends in the errors. Handles are file descriptors: close() them; those of an object close with it. Not
for several threads at once.

Everything declared of the library is in library.py; the other files call it.
"""

from l4lb.datapath.libbpf.library import LibbpfError
from l4lb.datapath.libbpf.links import (
    Link,
    LinkInfo,
    XdpMode,
    attach_clsact,
    attach_tcx,
    attach_xdp,
    detach_clsact,
)
from l4lb.datapath.libbpf.maps import Map
from l4lb.datapath.libbpf.objects import Object
from l4lb.datapath.libbpf.programs import Program, ProgramInfo, TestRun, iterate

__all__ = [
    "LibbpfError",
    "Link",
    "LinkInfo",
    "Map",
    "Object",
    "Program",
    "ProgramInfo",
    "TestRun",
    "XdpMode",
    "attach_clsact",
    "attach_tcx",
    "attach_xdp",
    "detach_clsact",
    "iterate",
]
