"""Compiled objects: constants and sizes set, loaded into the kernel."""

import ctypes
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from ctypes import byref, c_size_t
from pathlib import Path
from typing import Literal, Self

from l4lb.datapath.libbpf.library import BtfType, BtfVariable, LibbpfError, library
from l4lb.datapath.libbpf.maps import ARRAY, MMAPABLE, Map
from l4lb.datapath.libbpf.programs import Program

_DATASEC = 15  # BTF_KIND_DATASEC


class Object:
    """A compiled object: open() and then load(). `maps` and `programs` by name are there after load()."""

    def __init__(self, path: Path, pointer: int) -> None:
        self._path = path
        self._pointer: int | None = pointer
        self._pins: Path | None = None
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
        in_memory: Collection[str] = (),
    ) -> Self:
        """Reads an object from a file.

        `rodata` sets `const volatile` integers, `max_entries` sizes of maps, both by name. `in_memory` are
        arrays that Map.memory() is to show; of a per-CPU one all CPUs then share the values. With `pins`,
        a directory of a BPF file system, load() takes the maps that are pinned there by their names and
        pins the others: then maps must agree in type and sizes.
        """
        pointer = library().call(f"open {path}", "bpf_object__open_file", os.fsencode(path), None)
        opened = cls(path, pointer)
        try:
            opened._prepare(rodata or {}, pins, dict(max_entries or {}), in_memory)
        except BaseException:
            opened.close()
            raise
        return opened

    def _prepare(
        self,
        rodata: Mapping[str, int],
        pins: Path | None,
        max_entries: dict[str, int],
        in_memory: Collection[str],
    ) -> None:
        call = library().call
        self._pins = pins
        for name, pointer in self._listed("map"):
            if library().bpf_map__is_internal(pointer):
                continue
            if name in max_entries:
                entries = max_entries.pop(name)
                call(f"size {name}", "bpf_map__set_max_entries", pointer, entries)
            if name in in_memory:
                call(f"change {name}", "bpf_map__set_type", pointer, ARRAY)
                call(f"change {name}", "bpf_map__set_map_flags", pointer, MMAPABLE)
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

    def _constants(self) -> dict[str, BtfVariable]:
        """Names and places of what is in .rodata, from BTF, whose offsets libbpf fills in when opening."""
        btf = library().bpf_object__btf(self._pointer)
        number = library().btf__find_by_name_kind(btf, b".rodata", _DATASEC)
        if number < 0:
            return {}
        at = library().btf__type_by_id(btf, number)
        count = BtfType.from_address(at).info & 0xFFFF
        variables = (BtfVariable * count).from_address(at + ctypes.sizeof(BtfType))
        places = {}
        for variable in variables:
            declared = BtfType.from_address(library().btf__type_by_id(btf, variable.type))
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
        """Makes its maps, with the directory for their pins, and gives its programs to the kernel.

        LibbpfError ends with the end of the verifier's log when it was the verifier that refused.
        """
        if self._pins is not None:
            try:
                self._pins.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                message = (
                    f"cannot make {self._pins}: {error.strerror} (is a BPF file system mounted there?)"
                )
                raise LibbpfError(message, error.errno or 0) from None
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
