"""The library: its functions and structures as ctypes sees them, what it says, its errors, its handles.

Functions and their options are those of <bpf/bpf.h>, <bpf/libbpf.h> and <bpf/btf.h>, structures of the
kernel those of <linux/bpf.h> and <linux/btf.h>. Of a structure only what is used is declared: each is
passed with its size, and what is beyond counts as 0.
"""

import ctypes
import errno
import functools
import os
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

NOT_SUPPORTED = 524  # ENOTSUPP, of the kernel alone: an operation that this kind of map does not have
_FIRST_OF_LIBBPF = 4000  # enum libbpf_errno
_LOG_LINES = 15
_LOG_BYTES = 16384  # of a verifier's log, which can have megabytes, the end

_count = POINTER(c_uint32)

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
    "bpf_map__is_internal": (c_bool, (c_void_p,)),
    "bpf_map__set_max_entries": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_type": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_map_flags": (c_int, (c_void_p, c_uint32)),
    "bpf_map__set_pin_path": (c_int, (c_void_p, c_char_p)),
    "bpf_map__initial_value": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "bpf_program__name": (c_char_p, (c_void_p,)),
    "bpf_program__fd": (c_int, (c_void_p,)),
    "btf__find_by_name_kind": (c_int, (c_void_p, c_char_p, c_uint32)),
    "btf__type_by_id": (c_void_p, (c_void_p, c_uint32)),
    "btf__name_by_offset": (c_char_p, (c_void_p, c_uint32)),
    "bpf_obj_get": (c_int, (c_char_p,)),
    "bpf_obj_pin": (c_int, (c_int, c_char_p)),
    "bpf_obj_get_info_by_fd": (c_int, (c_int, c_void_p, _count)),
    "bpf_map_create": (c_int, (c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p)),
    "bpf_map_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_prog_get_fd_by_id": (c_int, (c_uint32,)),
    "bpf_map_lookup_elem": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": (c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": (c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": (c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_lookup_batch": (c_int, (c_int, c_void_p, c_void_p, c_void_p, c_void_p, _count, c_void_p)),
    "bpf_map_update_batch": (c_int, (c_int, c_void_p, c_void_p, _count, c_void_p)),
    "bpf_map_delete_batch": (c_int, (c_int, c_void_p, _count, c_void_p)),
    "bpf_prog_test_run_opts": (c_int, (c_int, c_void_p)),
    "bpf_link_create": (c_int, (c_int, c_int, c_int, c_void_p)),
    "bpf_link_update": (c_int, (c_int, c_int, c_void_p)),
    "bpf_link_detach": (c_int, (c_int,)),
    "bpf_iter_create": (c_int, (c_int,)),
    "bpf_xdp_attach": (c_int, (c_int, c_int, c_uint32, c_void_p)),
    "bpf_xdp_detach": (c_int, (c_int, c_uint32, c_void_p)),
    "bpf_tc_hook_create": (c_int, (c_void_p,)),
    "bpf_tc_attach": (c_int, (c_void_p, c_void_p)),
    "bpf_tc_detach": (c_int, (c_void_p, c_void_p)),
}


def _u32(*names: str) -> list[tuple[str, Any]]:
    return [(name, c_uint32) for name in names]


class _Options(ctypes.Structure):
    """Options of a function of libbpf: the first member is the size."""

    def __init__(self, **members: Any) -> None:
        super().__init__(sz=ctypes.sizeof(self), **members)


class MapCreateOptions(_Options):
    """struct bpf_map_create_opts."""

    _fields_ = [
        ("sz", c_size_t),
        *_u32("btf_fd", "btf_key_type_id", "btf_value_type_id", "btf_vmlinux_value_type_id"),
        *_u32("inner_map_fd", "map_flags"),
    ]


class LinkCreateOptions(_Options):
    """struct bpf_link_create_opts; `iter_info` points to a union bpf_iter_link_info."""

    _fields_ = [
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        *_u32("iter_info_len", "target_btf_id"),
    ]


class TcHook(_Options):
    """struct bpf_tc_hook."""

    _fields_ = [("sz", c_size_t), ("ifindex", c_int), *_u32("attach_point", "parent", "reserved")]


class TcOptions(_Options):
    """struct bpf_tc_opts."""

    _fields_ = [
        ("sz", c_size_t),
        ("prog_fd", c_int),
        *_u32("flags", "prog_id", "handle", "priority", "reserved"),
    ]


class TestRunOptions(_Options):
    """struct bpf_test_run_opts."""

    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_char_p),
        ("data_out", c_void_p),
        *_u32("data_size_in", "data_size_out"),
        ("ctx_in", c_char_p),
        ("ctx_out", c_void_p),
        *_u32("ctx_size_in", "ctx_size_out", "retval"),
        ("repeat", c_int),
        *_u32("duration", "flags"),
    ]


class MapInfo(ctypes.Structure):
    """struct bpf_map_info."""

    _fields_ = [
        *_u32("type", "id", "key_size", "value_size", "max_entries", "map_flags"),
        ("name", c_char * 16),
    ]


class KernelProgramInfo(ctypes.Structure):
    """struct bpf_prog_info; `map_ids` points to room for `nr_map_ids` numbers of 32 bits."""

    _fields_ = [
        *_u32("type", "id"),
        ("tag", ctypes.c_uint8 * 8),
        *_u32("jited_prog_len", "xlated_prog_len"),
        ("jited_prog_insns", c_uint64),
        ("xlated_prog_insns", c_uint64),
        ("load_time", c_uint64),
        *_u32("created_by_uid", "nr_map_ids"),
        ("map_ids", c_uint64),
        ("name", c_char * 16),
    ]


class KernelLinkInfo(ctypes.Structure):
    """struct bpf_link_info of a link to XDP or tcx, whose parts of the union begin alike."""

    _fields_ = _u32("type", "id", "prog_id", "reserved", "ifindex", "attach_type")


class BtfType(ctypes.Structure):
    """struct btf_type."""

    _fields_ = _u32("name_off", "info", "size")


class BtfVariable(ctypes.Structure):
    """struct btf_var_secinfo: a variable's place in its section."""

    _fields_ = _u32("type", "offset", "size")


class LibbpfError(Exception):
    """What failed and why, in one line; after it the end of the verifier's log if it was the verifier.

    `errno` is the kernel's or libbpf's, 0 where it was neither.
    """

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class Libbpf:
    """The library. Its functions are attributes by their own names.

    Raises LibbpfError where there is no libbpf.so.1.
    """

    def __init__(self) -> None:
        try:
            loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
        except OSError:
            raise LibbpfError(
                "libbpf.so.1 is not installed: install libbpf1 (libbpf.so.0 of Ubuntu 22.04 is too old)"
            ) from None
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self._said: list[str] = []
        self._print = _printer(self._said)  # as long as the library may call it
        loaded.libbpf_set_print(self._print)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not in _SIGNATURES")

    def call(self, what: str, name: str, *arguments: Any) -> int:
        """Calls a function whose result is negative or NULL when it fails: then raises LibbpfError."""
        self._said.clear()
        result = getattr(self, name)(*arguments)
        if result is None or result < 0:
            raise self.error(what, ctypes.get_errno() if result is None else -result)
        return int(result)

    def error(self, what: str, number: int) -> LibbpfError:
        """The error for an errno, with what libbpf has said during the last call."""
        said = [text.removeprefix("libbpf: ").strip() for text in self._said]
        self._said.clear()
        for text in said:
            if text.endswith("-- END PROG LOAD LOG --"):
                log = "\n".join(text.splitlines()[:-1][-_LOG_LINES:])
                return LibbpfError(
                    f"{what}: the kernel's verifier refuses it; its log ends:\n{log}", number
                )
        reason = self._reason(number)
        # Without privileges libbpf guesses at many reasons; some of its words only repeat the reason.
        more = [text for text in said if number != errno.EPERM and not text.endswith(reason)]
        if more:
            reason += f" ({'; '.join(more)})"
        return LibbpfError(f"{what}: {reason}", number)

    def _reason(self, number: int) -> str:
        if number == errno.EPERM:
            return "not permitted: it needs root, with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
        if number == NOT_SUPPORTED:
            return "this kernel does not support it"
        if number >= _FIRST_OF_LIBBPF:
            buffer = ctypes.create_string_buffer(128)
            self.libbpf_strerror(number, buffer, len(buffer))
            return buffer.value.decode()
        return os.strerror(number)


def _printer(said: list[str]) -> Any:
    """A libbpf_print_fn_t that adds warnings to a list."""
    libc = ctypes.CDLL(None)
    libc.vasprintf.argtypes = (POINTER(c_void_p), c_char_p, c_void_p)
    libc.free.argtypes = (c_void_p,)

    # A va_list is handed on as one pointer by the ABIs of Linux: an array on x86-64, a structure passed by
    # reference on arm64, a pointer by itself on others.
    def take(level: int, form: bytes, arguments: int | None) -> int:
        text = c_void_p()
        if level == 0 and (length := libc.vasprintf(byref(text), form, arguments)) >= 0:
            begin = max(0, length - _LOG_BYTES)
            said.append(
                ctypes.string_at((text.value or 0) + begin, length - begin).decode(errors="replace")
            )
            libc.free(text)
        return 0

    return ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)(take)


@functools.cache
def library() -> Libbpf:
    """The library, loaded once a process. Raises LibbpfError where it is not installed."""
    return Libbpf()


class Handle:
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

    def read_info(self, info: ctypes.Structure) -> None:
        """Has the kernel fill in a bpf_map_info, bpf_prog_info or bpf_link_info."""
        size = c_uint32(ctypes.sizeof(info))
        library().call("read about it", "bpf_obj_get_info_by_fd", self.fd, byref(info), byref(size))


def open_pin(path: Path) -> int:
    """A descriptor of what is pinned under a path. LibbpfError (errno ENOENT) if there is nothing."""
    return library().call(f"open {path}", "bpf_obj_get", os.fsencode(path))
