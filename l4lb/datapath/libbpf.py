"""libbpf through ctypes: objects, maps, programs and links of eBPF. All that is asked of libbpf is here.

Works with libbpf 1.0 and later (libbpf.so.1: Debian 12 and 13, Ubuntu 24.04). Opening an object needs no
privileges; all else needs CAP_BPF and CAP_NET_ADMIN. Nothing is printed: what libbpf has to say ends in
the errors. Handles are file descriptors: close() them; those of an object close with it.

Calls of the kernel are those of bpf(2); structures are those of <linux/bpf.h>, <bpf/bpf.h> and
<bpf/libbpf.h>, of which a function reads as much as their first member says.
"""

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

_ENOTSUPP = 524  # of the kernel alone: an operation that this kind of map does not have
_FIRST_OF_LIBBPF = 4000  # enum libbpf_errno
_LOG_LINES = 15

_MAP_ARRAY = 2
_PER_CPU_KINDS = (5, 6, 10)  # hash, array, LRU hash
_F_INNER_MAP = 0x1000
_ATTACH_XDP = 37
_ATTACH_TCX_INGRESS = 46
_XDP_MODES = {"generic": 1 << 1, "native": 1 << 2}  # XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE
_TC_INGRESS = 1
_TC_REPLACE = 1
_BTF_DATASEC = 15

_ROOM_TO_GROW = 4096  # bytes that a program under test may add to a packet
_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES

XdpMode = Literal["native", "generic"]


class LibbpfError(Exception):
    """What failed and why, in one line; after it the end of the verifier's log if it was the verifier.

    `errno` is the kernel's or libbpf's, 0 where it was neither.
    """

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_strerror": (c_int, (c_int, c_char_p, c_size_t)),
    "libbpf_num_possible_cpus": (c_int, ()),
    "bpf_object__open_file": (c_void_p, (c_char_p, c_void_p)),
    "bpf_object__load": (c_int, (c_void_p,)),
    "bpf_object__close": (None, (c_void_p,)),
    "bpf_object__btf": (c_void_p, (c_void_p,)),
    "bpf_object__next_map": (c_void_p, (c_void_p, c_void_p)),
    "bpf_object__next_program": (c_void_p, (c_void_p, c_void_p)),
    "bpf_map__name": (c_char_p, (c_void_p,)),
    "bpf_map__fd": (c_int, (c_void_p,)),
    "bpf_map__is_internal": (ctypes.c_bool, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_pin_path": (c_int, (c_void_p, c_char_p)),
    "bpf_map__initial_value": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "btf__find_by_name_kind": (c_int, (c_void_p, c_char_p, c_uint32)),
    "btf__type_by_id": (c_void_p, (c_void_p, c_uint32)),
    "btf__name_by_offset": (c_char_p, (c_void_p, c_uint32)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, POINTER(c_uint32))),
    "bpf_map_create": (c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_lookup_batch": (
        c_int,
        (c_int, c_void_p, c_void_p, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    ),
    "bpf_map_update_batch": (c_int, (c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_map_delete_batch": (c_int, (c_int, c_void_p, POINTER(c_uint32), c_void_p)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_link_detach": (c_int, (c_int,)),
    "bpf_tc_hook_create": (c_int, (c_void_p,)),
    "bpf_tc_attach": (c_int, (c_void_p, c_void_p)),
    "bpf_tc_detach": (c_int, (c_void_p, c_void_p)),
}


class _Options(ctypes.Structure):
    """An options structure of libbpf: its first member is its size."""

    def __init__(self, **members: Any) -> None:
        super().__init__(sz=ctypes.sizeof(self), **members)


class _MapCreateOptions(_Options):
    _fields_ = [
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
    ]


class _LinkCreateOptions(_Options):
    _fields_ = [("sz", c_size_t), ("flags", c_uint32), ("reserved", c_uint32)]


class _TcHook(_Options):
    _fields_ = [
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_uint32),
        ("parent", c_uint32),
        ("reserved", c_uint32),
    ]


class _TcOptions(_Options):
    _fields_ = [
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
        ("reserved", c_uint32),
    ]


class _TestRunOptions(_Options):
    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_char_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_char_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
    ]


class _MapInfo(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", c_char * 16),
    ]


class _ProgramInfo(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", c_uint32),
        ("xlated_prog_len", c_uint32),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        ("created_by_uid", c_uint32),
        ("nr_map_ids", c_uint32),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
    ]


class _LinkInfo(ctypes.Structure):
    """Of a link to XDP or tcx, whose parts of the union begin alike."""

    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("reserved", c_uint32),
        ("ifindex", c_uint32),
    ]


class _BtfType(ctypes.Structure):
    _fields_ = [("name_off", c_uint32), ("info", c_uint32), ("size", c_uint32)]


class _BtfVariable(ctypes.Structure):
    """struct btf_var_secinfo: a variable's place in its section."""

    _fields_ = [("type", c_uint32), ("offset", c_uint32), ("size", c_uint32)]


class Libbpf:
    """The library. Its functions are attributes by their own names.

    Raises LibbpfError where there is no libbpf.so.1.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libbpf.so.1", use_errno=True)
        except OSError:
            raise LibbpfError(
                "libbpf.so.1 is not installed: install libbpf1 (libbpf.so.0 of Ubuntu 22.04 is too old)"
            ) from None
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self._said: list[str] = []
        self._capture()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not declared")

    def _capture(self) -> None:
        """Has libbpf's warnings put into `_said`, where it would print them."""
        libc = ctypes.CDLL(None)
        libc.vasprintf.argtypes = (POINTER(c_void_p), c_char_p, c_void_p)
        libc.free.argtypes = (c_void_p,)

        # A va_list is handed on as a pointer on every machine with Linux: an array (x86-64), a structure
        # passed by reference (arm64) or a pointer by itself.
        def keep(level: int, form: bytes, arguments: int | None) -> int:
            text = c_void_p()
            if level == 0 and (length := libc.vasprintf(byref(text), form, arguments)) >= 0:
                # A verifier's log can have megabytes: only its end matters.
                begin = max(0, length - 16384)
                kept = ctypes.string_at((text.value or 0) + begin, length - begin)
                libc.free(text)
                self._said.append(kept.decode(errors="replace"))
            return 0

        self._keep = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)(keep)  # must outlive the library
        self._library.libbpf_set_print(self._keep)

    def call(self, what: str, name: str, *arguments: Any) -> int:
        """Calls a function whose result is negative or NULL when it fails: then raises LibbpfError."""
        self._said.clear()
        result = getattr(self, name)(*arguments)
        if result is None or result < 0:
            raise self.error(what, ctypes.get_errno() if result is None else -result)
        return int(result)

    def error(self, what: str, number: int) -> LibbpfError:
        """The error for an errno, with what libbpf said since its last call."""
        said, self._said = self._said, []
        for text in said:
            if "-- BEGIN PROG LOAD LOG --" in text or "-- END PROG LOAD LOG --" in text:
                lines = [line for line in text.splitlines() if " PROG LOAD LOG --" not in line]
                log = "\n".join(lines[-_LOG_LINES:])
                return LibbpfError(
                    f"{what}: the kernel's verifier refuses it; its log ends:\n{log}", number
                )
        details = [text.removeprefix("libbpf: ").strip() for text in said]
        if number == errno.EPERM or not details:
            return LibbpfError(f"{what}: {self.reason(number)}", number)
        return LibbpfError(f"{what}: {self.reason(number)} ({'; '.join(details)})", number)

    def reason(self, number: int) -> str:
        """An errno of the kernel or of libbpf in words."""
        if number == errno.EPERM:
            return "not permitted: it needs root, with CAP_BPF and CAP_NET_ADMIN"
        if number == _ENOTSUPP:
            return "this kernel does not support it"
        if number >= _FIRST_OF_LIBBPF:
            buffer = ctypes.create_string_buffer(128)
            self.libbpf_strerror(number, buffer, len(buffer))
            return buffer.value.decode()
        return os.strerror(number)


@functools.cache
def library() -> Libbpf:
    """The library, loaded once a process. Raises LibbpfError where it is not installed."""
    return Libbpf()


class _Handle:
    """A file descriptor; `owned` unless libbpf closes it with its object."""

    def __init__(self, fd: int, *, owned: bool = True) -> None:
        self.fd = fd
        self._owned = owned

    def close(self) -> None:
        """Gives the descriptor back; what is pinned or attached stays. Can be called twice."""
        fd, self.fd = self.fd, -1
        if self._owned and fd >= 0:
            os.close(fd)

    def pin(self, path: Path) -> None:
        """Keeps it under a path of a BPF file system. LibbpfError (errno EEXIST) if it is taken."""
        library().call(f"pin {path}", "bpf_obj_pin", self.fd, os.fsencode(path))

    def _read_info(self, info: ctypes.Structure) -> None:
        size = c_uint32(ctypes.sizeof(info))
        library().call("read about it", "bpf_obj_get_info_by_fd", self.fd, byref(info), byref(size))


def _open_pin(path: Path) -> int:
    return library().call(f"open {path}", "bpf_obj_get", os.fsencode(path))


class Map(_Handle):
    """A map. Keys and values are bytes of exactly its sizes: ValueError otherwise.

    A value of a per-CPU map is one for each possible CPU, joined, each rounded up to 8 bytes.
    """

    def __init__(self, fd: int, name: str = "", *, owned: bool = True) -> None:
        super().__init__(fd, owned=owned)
        info = _MapInfo()
        self._read_info(info)
        self.id: int = info.id
        self.name: str = name or info.name.decode()
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self._per_cpu = -(-self.value_size // 8) * 8 if info.type in _PER_CPU_KINDS else 0
        cpus = library().call("count CPUs", "libbpf_num_possible_cpus")
        self._length = self._per_cpu * cpus or self.value_size
        self._in_batches = True

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """The map that is pinned there. LibbpfError (errno ENOENT) if there is nothing."""
        return cls(_open_pin(path), path.name)

    @classmethod
    def from_id(cls, number: int) -> Self:
        """The map with an id: what looking up a map of maps gives."""
        return cls(library().call(f"open map {number}", "bpf_map_get_fd_by_id", number))

    @classmethod
    def create_array(cls, value_size: int, entries: int, *, inner: bool = False) -> Self:
        """A new array; `inner`: for a map of maps whose maps may differ in size."""
        options = _MapCreateOptions(map_flags=_F_INNER_MAP if inner else 0)
        arguments = (_MAP_ARRAY, b"array", 4, value_size, entries, byref(options))
        return cls(library().call(f"make an array of {entries} entries", "bpf_map_create", *arguments))

    def lookup(self, key: bytes) -> bytes | None:
        """The value of a key, or None. In a map of maps: the id of the map."""
        self._check(key, self.key_size)
        value = ctypes.create_string_buffer(self._length)
        result = library().bpf_map_lookup_elem(self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise self._error("look up in", result)
        return value.raw

    def lookup_percpu(self, key: bytes) -> list[bytes]:
        """The values of a key in a per-CPU map, one a possible CPU; none where the key is not there."""
        if not self._per_cpu:
            raise ValueError(f"{self.name} is not a map with values per CPU")
        value = self.lookup(key) or b""
        return [value[at : at + self.value_size] for at in range(0, len(value), self._per_cpu)]

    def update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Writes. `flags`: BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2. In a map of maps the value is an fd."""
        self._check(key, self.key_size)
        self._check(value, self._length)
        if (result := library().bpf_map_update_elem(self.fd, key, value, flags)) < 0:
            raise self._error("write to", result)

    def delete(self, key: bytes) -> bool:
        """Deletes; False if it was not there."""
        self._check(key, self.key_size)
        result = library().bpf_map_delete_elem(self.fd, key)
        if result < 0 and result != -errno.ENOENT:
            raise self._error("delete from", result)
        return bool(result == 0)

    def update_batch(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Writes pairs of key and value; those before one that fails have been written."""
        pairs = list(pairs)
        keys, values = b"".join(key for key, _ in pairs), b"".join(value for _, value in pairs)
        self._check(keys, self.key_size * len(pairs))
        self._check(values, self._length * len(pairs))
        if not pairs:
            return
        count = c_uint32(len(pairs))
        result = library().bpf_map_update_batch(self.fd, keys, values, byref(count), None)
        if result == -_ENOTSUPP:
            for key, value in pairs:
                self.update(key, value)
        elif result < 0:
            raise self._error(f"write number {count.value + 1} of {len(pairs)} to", result)

    def delete_batch(self, keys: Iterable[bytes]) -> int:
        """Deletes keys; those that are not there are skipped. Returns how many were there."""
        keys = list(keys)
        joined = b"".join(keys)
        self._check(joined, self.key_size * len(keys))
        begin = deleted = 0
        while begin < len(keys):
            count = c_uint32(len(keys) - begin)
            rest = joined[begin * self.key_size :]
            result = library().bpf_map_delete_batch(self.fd, rest, byref(count), None)
            if result == -_ENOTSUPP:
                return sum(self.delete(key) for key in keys)
            if result < 0 and result != -errno.ENOENT:
                raise self._error("delete from", result)
            deleted += count.value
            begin += count.value + 1  # it stops at the first that is not there
        return deleted

    def lookup_batch(
        self, cursor: bytes | None, count: int
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """Some entries from a cursor on (None: the beginning), and the cursor for the next (None: the end).

        About `count` of them: as many as fit of whole buckets of a hash, more where one bucket holds more.
        What is written meanwhile may or may not be among them; what stands still is there once.
        """
        if not self._in_batches:
            return self._lookup_each(cursor, count)
        following = ctypes.create_string_buffer(max(4, self.key_size))
        while True:
            keys = (c_char * (count * self.key_size))()
            values = (c_char * (count * self._length))()
            filled = c_uint32(count)
            result = library().bpf_map_lookup_batch(
                self.fd, cursor, following, keys, values, byref(filled), None
            )
            if result == -_ENOTSUPP and cursor is None:
                self._in_batches = False
                return self._lookup_each(cursor, count)
            if result != -errno.ENOSPC:
                break
            count *= 2  # a hash gives whole buckets only
        if result < 0 and result != -errno.ENOENT:
            raise self._error("read", result)
        entries = list(
            zip(
                _cut(keys, self.key_size, filled.value),
                _cut(values, self._length, filled.value),
                strict=True,
            )
        )
        return entries, following.raw if result == 0 else None

    def _lookup_each(
        self, cursor: bytes | None, count: int
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """lookup_batch for kinds of maps that have no batches in this kernel. The cursor is a key."""
        entries: list[tuple[bytes, bytes]] = []
        for _ in range(count):
            following = ctypes.create_string_buffer(self.key_size)
            result = library().bpf_map_get_next_key(self.fd, cursor, following)
            if result == -errno.ENOENT:
                return entries, None
            if result < 0:
                raise self._error("read", result)
            cursor = following.raw
            if (value := self.lookup(cursor)) is not None:
                entries.append((cursor, value))
        return entries, cursor

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, read in batches as they are asked for."""
        cursor: bytes | None = None
        while True:
            entries, cursor = self.lookup_batch(cursor, 4096)
            yield from entries
            if cursor is None:
                return

    def keys(self) -> Iterator[bytes]:
        """The keys of all entries."""
        return (key for key, _ in self.items())

    def _check(self, data: bytes, length: int) -> None:
        if len(data) != length:
            raise ValueError(f"{self.name} takes {length} bytes here, not {len(data)}")

    def _error(self, what: str, result: int) -> LibbpfError:
        return library().error(f"{what} the map {self.name}", -result)


def _cut(buffer: Any, size: int, count: int) -> list[bytes]:
    joined = ctypes.string_at(buffer, size * count)
    return [joined[at : at + size] for at in range(0, size * count, size)]


@dataclass(frozen=True, slots=True)
class TestRun:
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


class Program(_Handle):
    """A program that the kernel has taken."""

    def __init__(self, fd: int, name: str = "", *, owned: bool = True) -> None:
        super().__init__(fd, owned=owned)
        self.name = name or self.info().name

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """The program that is pinned there. LibbpfError (errno ENOENT) if there is nothing."""
        return cls(_open_pin(path))

    def info(self) -> ProgramInfo:
        """Its name, id, tag and the ids of its maps."""
        info = _ProgramInfo()
        self._read_info(info)
        count = info.nr_map_ids
        ids = (c_uint32 * count)()
        info = _ProgramInfo(nr_map_ids=count, map_ids=ctypes.addressof(ids))
        self._read_info(info)
        return ProgramInfo(info.name.decode(), info.id, bytes(info.tag).hex(), tuple(ids))

    def test_run(
        self, data: bytes, *, ctx: bytes = b"", repeat: int = 1, flags: int = 0, ctx_out_size: int = 0
    ) -> TestRun:
        """Runs it on an Ethernet frame by BPF_PROG_TEST_RUN.

        `ctx` is a struct __sk_buff or xdp_md. The second of several runs sees the packet that the first
        has left. LibbpfError also where it makes the packet more than 4,096 bytes longer. Of live frames
        (BPF_F_TEST_XDP_LIVE_FRAMES), which go where the program sends them, no data comes back.
        """
        live = flags & _LIVE_FRAMES
        packet = (c_char * (0 if live else len(data) + _ROOM_TO_GROW))()
        context = (c_char * ctx_out_size)()
        options = _TestRunOptions(
            data_in=data,
            data_out=None if live else ctypes.addressof(packet),
            data_size_in=len(data),
            data_size_out=len(packet),
            ctx_in=ctx or None,
            ctx_out=ctypes.addressof(context) if ctx_out_size else None,
            ctx_size_in=len(ctx),
            ctx_size_out=ctx_out_size,
            repeat=repeat,
            flags=flags,
        )
        library().call(f"run {self.name}", "bpf_prog_test_run_opts", self.fd, byref(options))
        return TestRun(
            options.retval,
            ctypes.string_at(packet, options.data_size_out),
            ctypes.string_at(context, options.ctx_size_out),
            options.duration,
        )


class Link(_Handle):
    """A program on a hook of an interface: there as long as the link is open or pinned."""

    @classmethod
    def from_pin(cls, path: Path) -> Self:
        """The link that is pinned there. LibbpfError (errno ENOENT) if there is nothing."""
        return cls(_open_pin(path))

    @property
    def ifindex(self) -> int:
        """The interface; 0 once it is gone."""
        info = _LinkInfo()
        self._read_info(info)
        return int(info.ifindex)

    def update(self, program: Program) -> None:
        """Puts another program in its place; every packet sees the one or the other."""
        library().call(f"replace by {program.name}", "bpf_link_update", self.fd, program.fd, None)

    def detach(self) -> None:
        """Takes the program off the hook, also where the link is pinned."""
        library().call("detach", "bpf_link_detach", self.fd)


def attach_tcx(program: Program, ifindex: int) -> Link:
    """At TC ingress, behind the programs there. Linux 6.6 and later: LibbpfError (EINVAL) before."""
    what = f"attach {program.name} to interface {ifindex} (tcx)"
    return Link(library().call(what, "bpf_link_create", program.fd, ifindex, _ATTACH_TCX_INGRESS, None))


def attach_xdp(program: Program, ifindex: int, mode: XdpMode) -> Link:
    """At XDP. LibbpfError: EBUSY with another program there, EOPNOTSUPP if the driver has no native XDP."""
    what = f"attach {program.name} to interface {ifindex} ({mode} XDP)"
    options = _LinkCreateOptions(flags=_XDP_MODES[mode])
    return Link(library().call(what, "bpf_link_create", program.fd, ifindex, _ATTACH_XDP, byref(options)))


def attach_clsact(program: Program, ifindex: int, handle: int, priority: int) -> None:
    """At TC ingress as a filter of the clsact qdisc, which is made if need be; replaces the one with the
    same handle and priority. It stays until detach_clsact.
    """
    what = f"attach {program.name} to interface {ifindex} (clsact)"
    hook = _TcHook(ifindex=ifindex, attach_point=_TC_INGRESS)
    try:
        library().call(what, "bpf_tc_hook_create", byref(hook))
    except LibbpfError as error:
        if error.errno != errno.EEXIST:
            raise
    options = _TcOptions(prog_fd=program.fd, flags=_TC_REPLACE, handle=handle, priority=priority)
    library().call(what, "bpf_tc_attach", byref(hook), byref(options))


def detach_clsact(ifindex: int, handle: int, priority: int) -> None:
    """Removes what attach_clsact put there; the qdisc stays, for others may use it."""
    hook = _TcHook(ifindex=ifindex, attach_point=_TC_INGRESS)
    options = _TcOptions(handle=handle, priority=priority)
    what = f"detach filter {handle} from interface {ifindex} (clsact)"
    library().call(what, "bpf_tc_detach", byref(hook), byref(options))


class Object:
    """A compiled object: open() and then load(). `maps` and `programs` by name are there after load()."""

    def __init__(self, path: Path, pointer: int) -> None:
        self._path = path
        self._pointer: int | None = pointer
        self.maps: dict[str, Map] = {}
        self.programs: dict[str, Program] = {}

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        rodata: Mapping[str, int] | None = None,
        pins: Path | None = None,
        max_entries: Mapping[str, int] | None = None,
    ) -> Self:
        """Reads an object from a file.

        `rodata` sets `const volatile` integers, `max_entries` sizes of maps, both by name. With `pins`, a
        directory of a BPF file system, load() takes the maps that are pinned there by their names and pins
        the others: then maps must agree in type and sizes.
        """
        pointer = library().call(f"open {path}", "bpf_object__open_file", os.fsencode(path), None)
        opened = cls(path, pointer)
        try:
            opened._prepare(rodata or {}, pins, dict(max_entries or {}))
        except BaseException:
            opened.close()
            raise
        return opened

    def _prepare(self, rodata: Mapping[str, int], pins: Path | None, max_entries: dict[str, int]) -> None:
        call = library().call
        for name, pointer in self._listed("map"):
            if library().bpf_map__is_internal(pointer):
                continue
            if name in max_entries:
                entries = max_entries.pop(name)
                call(f"size {name}", "bpf_map__set_max_entries", pointer, entries)
            if pins is not None:
                call(f"pin {name}", "bpf_map__set_pin_path", pointer, os.fsencode(pins / name))
        if max_entries:
            raise LibbpfError(f"{self._path} has no map {', '.join(max_entries)}")
        if rodata:
            self._set_constants(rodata)

    def _set_constants(self, values: Mapping[str, int]) -> None:
        """Writes into the memory that load() makes the .rodata map from."""
        places = self._constants()
        if unknown := values.keys() - places.keys():
            raise LibbpfError(f"{self._path} has no constant {', '.join(sorted(unknown))}")
        section = next(pointer for name, pointer in self._listed("map") if name.endswith(".rodata"))
        size = c_size_t()
        memory = library().bpf_map__initial_value(section, byref(size))
        for name, value in values.items():
            place = places[name]
            data = value.to_bytes(place.size, sys.byteorder, signed=value < 0)
            ctypes.memmove(memory + place.offset, data, place.size)

    def _constants(self) -> dict[str, _BtfVariable]:
        """Names and places of what is in .rodata, from BTF, whose offsets libbpf fills in when opening."""
        btf = library().bpf_object__btf(self._pointer)
        number = library().btf__find_by_name_kind(btf, b".rodata", _BTF_DATASEC)
        if number < 0:
            return {}
        at = library().btf__type_by_id(btf, number)
        count = _BtfType.from_address(at).info & 0xFFFF
        variables = (_BtfVariable * count).from_address(at + ctypes.sizeof(_BtfType))
        places = {}
        for variable in variables:
            declared = _BtfType.from_address(library().btf__type_by_id(btf, variable.type))
            places[library().btf__name_by_offset(btf, declared.name_off).decode()] = variable
        return places

    def _listed(self, kind: Literal["map", "program"]) -> Iterator[tuple[str, int]]:
        following = getattr(library(), f"bpf_object__next_{kind}")
        name_of = getattr(library(), f"bpf_{kind}__name")
        pointer = following(self._pointer, None)
        while pointer is not None:
            yield name_of(pointer).decode(), pointer
            pointer = following(self._pointer, pointer)

    def load(self) -> None:
        """Makes its maps and gives its programs to the kernel.

        LibbpfError ends with the end of the verifier's log when it was the verifier that refused.
        """
        library().call(f"load {self._path}", "bpf_object__load", self._pointer)
        for name, pointer in self._listed("map"):
            if not library().bpf_map__is_internal(pointer):
                self.maps[name] = Map(library().bpf_map__fd(pointer), name, owned=False)
        for name, pointer in self._listed("program"):
            self.programs[name] = Program(library().bpf_program__fd(pointer), name, owned=False)

    def close(self) -> None:
        """Closes it, its maps and its programs; what is pinned or attached stays. Can be called twice."""
        pointer, self._pointer = self._pointer, None
        for handle in (*self.maps.values(), *self.programs.values()):
            handle.close()
        if pointer is not None:
            library().bpf_object__close(pointer)
