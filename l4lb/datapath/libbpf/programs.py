"""Programs that the kernel has taken: tried on packets, run over maps."""

import ctypes
import os
from collections.abc import Iterator
from ctypes import byref, c_char, c_uint32
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from l4lb.datapath.libbpf.library import (
    Handle,
    KernelProgramInfo,
    LinkCreateOptions,
    TestRunOptions,
    library,
    open_pin,
)
from l4lb.datapath.libbpf.maps import Map

_ROOM_TO_GROW = 4096  # bytes that a program under test may add to a packet
_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES
_ATTACH_ITERATOR = 28  # BPF_TRACE_ITER


class TestRun(NamedTuple):
    """What a program did with a packet."""

    retval: int  # unsigned: TC_ACT_UNSPEC is 0xffffffff
    data: bytes
    ctx: bytes
    duration_ns: int  # a run, the mean of all repetitions


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the kernel knows a program by."""

    name: str  # cut to 15 characters
    id: int
    tag: str  # SHA of its instructions, 16 hexadecimal digits
    map_ids: tuple[int, ...]


class Program(Handle):
    """A program that the kernel has taken."""

    def __init__(self, fd: int, name: str = "", *, owned: bool = True) -> None:
        super().__init__(fd, owned=owned)
        self.name = name or self.info().name
        self._room: Any = (c_char * _ROOM_TO_GROW)()
        self._options = TestRunOptions()

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """The program that is pinned there. LibbpfError (errno ENOENT) if there is nothing."""
        return cls(open_pin(path))

    @classmethod
    def from_id(cls, number: int) -> Self:
        """The program with an id: what a link tells. LibbpfError (errno ENOENT) if it is gone."""
        return cls(library().call(f"open program {number}", "bpf_prog_get_fd_by_id", number))

    def info(self) -> ProgramInfo:
        """Its name, id, tag and the ids of its maps."""
        info = KernelProgramInfo()
        self.read_info(info)
        count = info.nr_map_ids
        ids = (c_uint32 * count)()
        info = KernelProgramInfo(nr_map_ids=count, map_ids=ctypes.addressof(ids))
        self.read_info(info)
        return ProgramInfo(info.name.decode(), info.id, bytes(info.tag).hex(), tuple(ids))

    def test_run(
        self, data: bytes, *, ctx: bytes = b"", repeat: int = 1, flags: int = 0, ctx_out_size: int = 0
    ) -> TestRun:
        """Runs it on an Ethernet frame by BPF_PROG_TEST_RUN.

        `ctx` is a struct __sk_buff or xdp_md. The second of several runs sees the packet that the first
        has left. LibbpfError also where it makes the packet more than 4,096 bytes longer. Of live frames
        (BPF_F_TEST_XDP_LIVE_FRAMES), which go where the program sends them, no data comes back. Not for
        two threads at a time.
        """
        live = flags & _LIVE_FRAMES
        size = len(data) + _ROOM_TO_GROW
        if size > len(self._room):
            self._room = (c_char * size)()
        context = (c_char * ctx_out_size)()
        # Made once for all runs: making it anew takes as long as the kernel with a short packet.
        options = self._options
        options.data_in = data
        options.data_size_in = len(data)
        options.data_out = None if live else ctypes.addressof(self._room)
        options.data_size_out = 0 if live else size
        options.ctx_in = ctx or None
        options.ctx_size_in = len(ctx)
        options.ctx_out = ctypes.addressof(context) if ctx_out_size else None
        options.ctx_size_out = ctx_out_size
        options.repeat = repeat
        options.flags = flags
        if (result := library().bpf_prog_test_run_opts(self.fd, byref(options))) < 0:
            raise library().error(f"run {self.name}", -result)
        return TestRun(
            options.retval,
            b"" if live else ctypes.string_at(self._room, options.data_size_out),
            ctypes.string_at(context, options.ctx_size_out),
            options.duration,
        )


def iterate(program: Program, over: Map, step: int = 4096) -> Iterator[bytes]:
    """Runs a program of the section iter/bpf_map_elem on each entry of a map; gives what it writes, up to
    `step` bytes at a time. It pauses where it has written as many, and ends when nothing is asked of it.
    """
    what = f"run {program.name} over the map {over.name}"
    target = c_uint32(over.fd)
    options = LinkCreateOptions(iter_info=ctypes.addressof(target), iter_info_len=ctypes.sizeof(target))
    link = library().call(what, "bpf_link_create", program.fd, 0, _ATTACH_ITERATOR, byref(options))
    try:
        descriptor = library().call(what, "bpf_iter_create", link)
    finally:
        os.close(link)
    try:
        while written := os.read(descriptor, step):
            yield written
    finally:
        os.close(descriptor)
