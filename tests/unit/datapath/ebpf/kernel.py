"""Programs and maps in the kernel, for tests that look into them."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import build_bpf
from l4lb.datapath.ebpf import layout
from l4lb.datapath.ebpf.ends import Ends
from l4lb.datapath.ebpf.established import place_of
from l4lb.datapath.ebpf.layout import SLOT_SIZE, SLOT_TAKEN, TABLE_STEPS, word
from l4lb.datapath.libbpf import LibbpfError, Map, Object, Program

SIZES = {
    **{f"{name}{version}": 1024 for name in ("connections", "reverse") for version in (4, 6)},
    **{
        f"{name}{version}": 1024
        for name in ("half_open", "half_open_reverse", "direct", "affinities", "newcomers")
        for version in (4, 6)
    },
    "blocks": 1024 // layout.BLOCK_PAIRS,
}


DISPLACED = 35  # in the first slot of a pair

CLANGS = [name for name in (f"clang-{version}" for version in range(13, 30)) if shutil.which(name)]
"""Compilers beside the one that is clang here."""


def reason(problem):
    """An error as the reason to skip. That the verifier refuses programs is none: they are wrong, and a
    test that skipped would hide it."""
    if "verifier refuses" in str(problem):
        raise problem
    return f"no eBPF: {problem}"


def why_not():
    """What keeps programs from being loaded here; None if nothing does."""
    if os.geteuid() != 0:
        return "needs root for eBPF"
    try:
        build_bpf.build()
        probe = Object.open(build_bpf.FOLDER / "sweep.bpf.o", max_entries=SIZES)
        try:
            probe.load()
        finally:
            probe.close()
    except (build_bpf.CannotCompileError, LibbpfError) as error:
        return reason(error)
    return None


@contextlib.contextmanager
def file_system():
    """A BPF file system of one's own."""
    with tempfile.TemporaryDirectory(prefix="l4lb-bpf-") as directory:
        subprocess.run(["mount", "-t", "bpf", "bpf", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


@contextlib.contextmanager
def loaded(*names, **rodata):
    """Objects that share small maps, with a clock of their own; by name."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(file_system())
        objects = {}
        for name in names:
            opened = Object.open(
                build_bpf.FOLDER / f"{name}.bpf.o",
                rodata={"own_clock": 1, **rodata},
                pins=directory,
                max_entries=SIZES,
            )
            stack.callback(opened.close)
            opened.load()
            objects[name] = opened
        yield objects


@pytest.fixture(scope="session")
def bpf_possible():
    """Skip where there is no eBPF, and say why."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """``compiled(clang, name)``: the object of a program as that compiler makes it, made once."""

    @functools.cache
    def compile_by(clang, name):
        target = tmp_path_factory.mktemp(clang) / f"{name}.bpf.o"
        build_bpf.compile_object(build_bpf.FOLDER / f"{name}.c", target, clang=clang)
        return target

    return compile_by


@pytest.fixture
def maps(bpf_possible):
    """Maps without packets."""
    opened = Object.open(build_bpf.FOLDER / "sweep.bpf.o", rodata={"own_clock": 1}, max_entries=SIZES)
    try:
        opened.load()
        yield opened.maps
    finally:
        opened.close()


def home_of(maps, key):
    """The pair of connections4 in which the search for a key begins, and the key as it is in a slot: as
    established.h."""
    settings = layout.SETTINGS.unpack(maps["settings"].lookup(word(0)))
    home, taken = place_of(settings, key)
    return home, int.from_bytes(taken, sys.byteorder)


def slots(maps):
    """The slots of connections4, shared with the programs, as bytes: the first 8 are the key."""
    memory = maps["connections4"].memory()
    return [memory[at : at + SLOT_SIZE] for at in range(0, len(memory), SLOT_SIZE)]


def put_established(maps, key, connection):
    """An entry of an established connection, as the programs put one."""
    if layout.version_of(key) == 6:
        maps["connections6"].update(key, connection)
        return
    home, taken = home_of(maps, key)
    every = slots(maps)
    for step in range(TABLE_STEPS):
        at = (home + step) * 2 % len(every)
        for slot in every[at : at + 2]:
            if slot_key(slot) in (0, taken):
                others = slot[DISPLACED]
                slot[8:] = connection
                slot[DISPLACED] = others
                every[2 * home][DISPLACED] += step > 0
                slot[:8] = taken.to_bytes(8, sys.byteorder)
                return
    raise AssertionError("no free slot")


def slot_key(slot):
    """What is in a slot: 0 if nothing is."""
    return int.from_bytes(slot[:8], sys.byteorder)


def established_keys(maps):
    """Of all entries."""
    taken = filter(None, map(slot_key, slots(maps)))
    ours = [(key & ~SLOT_TAKEN).to_bytes(8, sys.byteorder) for key in taken]
    return ours + list(maps["connections6"].keys())


def by_end(maps, key, kind):
    """The service or backend that the programs find for an end; None if they find none."""
    name, struct = {
        layout.END_SERVICE: ("services", layout.SERVICE),
        layout.END_BACKEND: ("backends", layout.BACKEND),
    }[kind]
    size = layout.SETTINGS.unpack(maps["settings"].lookup(word(0))).ends
    for at, wanted in Ends(maps["ends"], size).places(key, kind, 0):
        slot = int.from_bytes(maps["ends"].lookup(word(size + at)), sys.byteorder)
        if not slot:
            return None
        if slot & ~(0xFFFF << layout.END_NUMBER) == wanted:
            found = struct.unpack(maps[name].lookup(word(slot >> layout.END_NUMBER & 0xFFFF)))
            if (found.end, found.version) == (layout.wide_end(key), layout.version_of(key)):
                return found
    return None


def selection(maps, number):
    """The words that a service chooses from; None without any."""
    found = maps["selections"].lookup(word(number))
    if found is None:
        return None
    inner = Map.from_id(int.from_bytes(found, sys.byteorder))
    try:
        words = [int.from_bytes(value, sys.byteorder) for _, value in sorted(inner.items())]
    finally:
        inner.close()
    assert words[0] == len(words) - 1
    return words[1:]


@pytest.fixture
def processors():
    """Two of them."""
    found = sorted(os.sched_getaffinity(0))[:2]
    if len(found) < 2:
        pytest.skip("needs two processors")
    return found


def run_together(processors, programs, frame, times):
    """Each of the programs on its processor, all at a time, again and again."""

    def work(processor, number):
        os.sched_setaffinity(0, {processor})
        handle = Program.from_id(number)
        try:
            handle.test_run(frame, repeat=times)
        finally:
            handle.close()

    numbers = [program.info().id for program in programs]
    threads = [threading.Thread(target=work, args=pair) for pair in zip(processors, numbers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
