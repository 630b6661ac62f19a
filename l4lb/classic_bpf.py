"""An assembler for classic BPF, the language of socket filters: labels in, jump offsets out.

Pure: bytes come out, nobody attaches them here. Classic BPF only jumps forward, and a conditional
jump reaches 255 instructions; the assembler bridges longer ones. Opcodes and limits are those of
linux/bpf_common.h and net/core/filter.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

INSTRUCTION: Final = Struct("=HBBI")
"""``struct sock_filter``: code, jt, jf, k."""

INSTRUCTIONS_MAX: Final = 4096
"""BPF_MAXINSNS: the kernel refuses longer programs."""

LOAD: Final = 0x20  # A = 4 bytes at k, network byte order
LOAD_HALF: Final = 0x28
LOAD_BYTE: Final = 0x30
LOAD_INDIRECT: Final = 0x40  # A = 4 bytes at X + k
LOAD_HALF_INDIRECT: Final = 0x48
LOAD_BYTE_INDIRECT: Final = 0x50
LOAD_IMMEDIATE: Final = 0x00  # A = k
LOAD_MEMORY: Final = 0x60  # A = M[k]
LOAD_X_IMMEDIATE: Final = 0x01  # X = k
LOAD_X_HEADER_LENGTH: Final = 0xB1  # X = 4 * (byte at k & 15): the length of an IPv4 header
STORE: Final = 0x02  # M[k] = A
ADD: Final = 0x04  # A += k
A_TO_X: Final = 0x07
X_TO_A: Final = 0x87
JUMP: Final = 0x05
IF_EQUAL: Final = 0x15  # A == k
IF_GREATER: Final = 0x25  # A > k, unsigned
IF_AT_LEAST: Final = 0x35  # A >= k, unsigned
IF_ANY_BIT: Final = 0x45  # A & k
RETURN: Final = 0x06  # accept the first k bytes; 0 rejects

ANCILLARY_PACKET_TYPE: Final = 0xFFFF_F000 + 4
ANCILLARY_MARK: Final = 0xFFFF_F000 + 20
ANCILLARY_VLAN_TAG: Final = 0xFFFF_F000 + 44
ANCILLARY_VLAN_TAG_PRESENT: Final = 0xFFFF_F000 + 48
"""Offsets to LOAD what the kernel knows of a packet beside its bytes (linux/filter.h, SKF_AD_*)."""

_REACH: Final = 255

# eBPF instructions that one classic one becomes, at most (net/core/filter.c: bpf_convert_filter,
# convert_bpf_ld_abs). Loads from the packet carry their own bounds check and slow path.
_EXPANSION: Final = {
    LOAD: 14,
    LOAD_HALF: 14,
    LOAD_BYTE: 14,
    LOAD_INDIRECT: 9,
    LOAD_HALF_INDIRECT: 9,
    LOAD_BYTE_INDIRECT: 9,
    LOAD_X_HEADER_LENGTH: 20,
    RETURN: 2,
}
_PROLOGUE: Final = 16  # and struct bpf_prog, counted in instructions


class Instruction(NamedTuple):
    """One ``struct sock_filter``."""

    code: int
    jt: int
    jf: int
    k: int


class Label:
    """A place in the program, known by identity."""

    __slots__ = ()


class _Branch(NamedTuple):
    code: int
    k: int
    then: Label | None  # None: the next instruction
    otherwise: Label | None


class Assembler:
    """Takes a program from front to back. Every label must be placed behind the jumps to it."""

    def __init__(self) -> None:
        self._items: list[Instruction | _Branch | Label] = []

    def emit(self, code: int, k: int = 0) -> None:
        """An instruction that does not jump."""
        self._items.append(Instruction(code, 0, 0, k))

    def branch(self, code: int, k: int, then: Label | None = None, otherwise: Label | None = None) -> None:
        """A conditional jump; None is the next instruction."""
        self._items.append(_Branch(code, k, then, otherwise))

    def jump(self, target: Label) -> None:
        """An unconditional jump."""
        self._items.append(_Branch(JUMP, 0, target, None))

    def place(self, label: Label) -> None:
        """Give ``label`` to the instruction that comes next."""
        self._items.append(label)

    def assemble(self) -> list[Instruction]:
        """The program.

        It is built from its end, so that the place of every target is known when a jump to it is
        met. A conditional jump that cannot reach its target gets a stub, an unconditional jump, in
        reach; jumps further up share the stub.
        """
        reverse: list[Instruction] = []
        places: dict[Label, int] = {}  # index into reverse
        stubs: dict[Label, int] = {}

        def reached(target: int, source: int) -> bool:
            return source - target - 1 <= _REACH

        for item in reversed(self._items):
            if isinstance(item, Label):
                places[item] = len(reverse) - 1
            elif isinstance(item, Instruction):
                reverse.append(item)
            elif item.code == JUMP:
                assert item.then is not None
                if distance := len(reverse) - 1 - places[item.then]:
                    reverse.append(Instruction(JUMP, 0, 0, distance))
            else:
                targets = (item.then, item.otherwise)
                following = len(reverse) - 1
                for label in targets:
                    # The branch moves up to two stubs away from here.
                    source = len(reverse) + 2
                    if label is None or reached(places[label], source):
                        continue
                    if label not in stubs or not reached(stubs[label], source):
                        reverse.append(Instruction(JUMP, 0, 0, len(reverse) - 1 - places[label]))
                        stubs[label] = len(reverse) - 1
                source = len(reverse)
                offsets = []
                for label in targets:
                    place = following if label is None else places[label]
                    if label is not None and not reached(place, source):
                        place = stubs[label]
                    offsets.append(source - place - 1)
                reverse.append(Instruction(item.code, offsets[0], offsets[1], item.k))
        reverse.reverse()
        return reverse


def pack(program: Iterable[Instruction]) -> bytes:
    """The program as the kernel's array of ``struct sock_filter``."""
    return b"".join(INSTRUCTION.pack(*instruction) for instruction in program)


def kernel_bytes(program: Iterable[Instruction]) -> int:
    """An upper bound of what the kernel charges to the socket's option memory for a filter.

    It charges its own translation into eBPF, 8 bytes an instruction.
    """
    count = _PROLOGUE
    for code, jt, jf, k in program:
        count += _EXPANSION.get(code, 1)
        if code in (IF_EQUAL, IF_GREATER, IF_AT_LEAST, IF_ANY_BIT):
            # An operand with the sign bit set needs a register; two targets need two jumps, and so
            # does a test that has no inverse.
            count += (k > 0x7FFF_FFFF) + ((jt > 0 and jf > 0) or code == IF_ANY_BIT)
    return count * 8
