"""Maps: entries one by one and in batches."""

import ctypes
import errno
import mmap
from collections.abc import Iterable, Iterator
from ctypes import byref, c_char, c_uint32
from pathlib import Path
from typing import Any, Self

from l4lb.datapath.libbpf.library import (
    NOT_SUPPORTED,
    Handle,
    LibbpfError,
    MapCreateOptions,
    MapInfo,
    library,
    open_pin,
)

ARRAY = 2  # BPF_MAP_TYPE_*
MMAPABLE = 0x400  # BPF_F_MMAPABLE
_PER_CPU_KINDS = (5, 6, 10)  # hash, array, LRU hash
_INNER_MAP = 0x1000  # BPF_F_INNER_MAP


class Map(Handle):
    """A map. Keys and values are bytes of exactly its sizes: ValueError otherwise.

    A value of a per-CPU map is one for each possible CPU, joined, each rounded up to 8 bytes.
    """

    def __init__(self, fd: int, name: str = "", *, owned: bool = True) -> None:
        super().__init__(fd, owned=owned)
        info = MapInfo()
        self.read_info(info)
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
        return cls(open_pin(path), path.name)

    @classmethod
    def from_id(cls, number: int) -> Self:
        """The map with an id: what looking up a map of maps gives."""
        return cls(library().call(f"open map {number}", "bpf_map_get_fd_by_id", number))

    @classmethod
    def create_array(cls, value_size: int, entries: int, *, inner: bool = False) -> Self:
        """A new array; `inner`: for a map of maps whose maps may differ in size."""
        options = MapCreateOptions(map_flags=_INNER_MAP if inner else 0)
        arguments = (ARRAY, b"array", 4, value_size, entries, byref(options))
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
        """The values of a key in a per-CPU map, one a possible CPU; none where the key is not there. In
        another map it has one for all CPUs."""
        value = self.lookup(key) or b""
        step = self._per_cpu or self.value_size
        return [value[at : at + self.value_size] for at in range(0, len(value), step)]

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
        if result == -NOT_SUPPORTED:
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
            if result == -NOT_SUPPORTED:
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
            if result == -NOT_SUPPORTED and cursor is None:
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

    def values(self) -> Iterator[bytes]:
        """The values of all entries."""
        return (value for _, value in self.items())

    def memory(self) -> memoryview:
        """All values of an array that was made with BPF_F_MMAPABLE, shared with the programs: each takes a
        multiple of 8 bytes. Is there for longer than the map is open.

        Raises:
            LibbpfError: it was not.
        """
        try:
            return memoryview(mmap.mmap(self.fd, self.max_entries * (-(-self.value_size // 8) * 8)))
        except OSError as error:
            raise library().error(f"map the memory of {self.name}", error.errno or 0) from None

    def _check(self, data: bytes, length: int) -> None:
        if len(data) != length:
            raise ValueError(f"{self.name} takes {length} bytes here, not {len(data)}")

    def _error(self, what: str, result: int) -> LibbpfError:
        what = f"{what} the map {self.name}"
        if result == -errno.E2BIG:
            return LibbpfError(f"{what}: it is full, with {self.max_entries} entries", errno.E2BIG)
        return library().error(what, -result)


def _cut(buffer: Any, size: int, count: int) -> list[bytes]:
    joined = ctypes.string_at(buffer, size * count)
    return [joined[at : at + size] for at in range(0, size * count, size)]
