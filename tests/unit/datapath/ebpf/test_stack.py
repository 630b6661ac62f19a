"""The programs' stack, as Linux 5.15 counts it: this kernel's verifier may be content with more."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from collections import defaultdict

import pytest

from tests.unit.datapath.ebpf.kernel import CLANGS

ROOTS = [
    ("tc", "l4lb_tc"),
    ("xdp", "l4lb_xdp"),
    *(("sweep", name) for name in ("begin", "look4", "look6", "look_half_open4", "look_half_open6")),
    *(("query", name) for name in ("ask4", "ask6", "ask_half_open4", "ask_half_open6")),
]
LIMIT = 512
CALLS = 8  # MAX_CALL_FRAMES
FRAME = 32
"""What the frame of a function is rounded up to (check_max_stack_depth()). Later kernels take 16; that of
Ubuntu 24.04, 6.8, does not."""

FUNCTION = re.compile(r"^[0-9a-f]+ <(?!LBB)(\w+)>:")
CALL = re.compile(r"R_BPF_64_32\s+(\w+)")
ACCESS = re.compile(r"\(r10 - (0x[0-9a-f]+|\d+)\)")
ADDRESS = re.compile(r"(r\d) = r10$")
MOVED = re.compile(r"(r\d) \+= -(0x[0-9a-f]+|\d+)$")


def functions(disassembly):
    """What is on the stack of each function, in bytes, and whom it calls."""
    depths, calls = defaultdict(int), defaultdict(set)
    name, addresses = "", set()
    for line in disassembly.splitlines():
        if begin := FUNCTION.match(line):
            name, addresses = begin[1], set()
        elif call := CALL.search(line):
            calls[name].add(call[1])
        else:
            depths[name] = max(depths[name], *(int(each, 0) for each in ACCESS.findall(line)), 0)
            if address := ADDRESS.search(line):
                addresses.add(address[1])
            elif (moved := MOVED.search(line)) and moved[1] in addresses:
                depths[name] = max(depths[name], int(moved[2], 0))
                addresses.remove(moved[1])
    return depths, calls


def deepest(name, depths, calls):
    """The chain of calls that needs most: bytes, and each function with its own."""
    below = max((deepest(each, depths, calls) for each in calls[name]), default=(0, []))
    own = -(-max(depths[name], 1) // FRAME) * FRAME
    return own + below[0], [f"{name} {depths[name]}", *below[1]]


@pytest.fixture(scope="module")
def disassemble(compiled):
    if not shutil.which("llvm-objdump"):
        pytest.skip("no llvm-objdump: tools/setup installs it")

    @functools.cache
    def read(clang, name):
        command = ["llvm-objdump", "-d", "-r", "--no-show-raw-insn", compiled(clang, name)]
        return functions(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return read


@pytest.mark.parametrize("clang", ["clang", *CLANGS])
@pytest.mark.parametrize(("program", "root"), ROOTS)
def test_no_chain_of_calls_needs_more_than_there_is(disassemble, clang, program, root):
    if not shutil.which(clang):
        pytest.skip("no clang: tools/setup installs it")
    total, chain = deepest(root, *disassemble(clang, program))
    assert total > FRAME, "or nothing was read"
    assert total <= LIMIT, " > ".join(chain)
    assert len(chain) <= CALLS


def test_what_is_on_the_stack_is_seen():
    text = """
0000000000000000 <outer>:
       0:	*(u64 *)(r10 - 40) = r1
       1:	r2 = r10
       2:	r2 += -72
       3:	call -1
		0000000000000018:  R_BPF_64_32	inner
0000000000000020 <inner>:
       4:	*(u32 *)(r10 - 0x4) = r1
0000000000000028 <LBB1_2>:
       5:	exit
"""
    assert deepest("outer", *functions(text)) == (96 + 32, ["outer 72", "inner 4"])
