"""A machine that runs classic BPF, written from linux/bpf_common.h and net/core/filter.c."""

from l4lb import classic_bpf as bpf

WORD = 0xFFFF_FFFF
LOADS = {  # bytes, and whether X counts
    bpf.LOAD: (4, False),
    bpf.LOAD_HALF: (2, False),
    bpf.LOAD_BYTE: (1, False),
    bpf.LOAD_INDIRECT: (4, True),
    bpf.LOAD_HALF_INDIRECT: (2, True),
    bpf.LOAD_BYTE_INDIRECT: (1, True),
}
TESTS = {
    bpf.IF_EQUAL: lambda a, k: a == k,
    bpf.IF_GREATER: lambda a, k: a > k,
    bpf.IF_AT_LEAST: lambda a, k: a >= k,
    bpf.IF_ANY_BIT: lambda a, k: a & k != 0,
}


class BadProgram(Exception):
    """The kernel would refuse this program."""


def load(program):
    """The instructions of a packed program, checked as ``bpf_check_classic`` does.

    Load once, run often.
    """
    instructions = [bpf.Instruction(*fields) for fields in bpf.INSTRUCTION.iter_unpack(program)]
    if not 0 < len(instructions) <= 4096:
        raise BadProgram(f"{len(instructions)} instructions")
    for at, (code, jt, jf, k) in enumerate(instructions):
        far = k if code == bpf.JUMP else max(jt, jf)
        if code & 7 == bpf.JUMP and at + 1 + far >= len(instructions):
            raise BadProgram(f"instruction {at} jumps outside")
    if instructions[-1].code != bpf.RETURN:
        raise BadProgram("no return at the end")
    return instructions


def run(instructions, frame, *, mark=0, vlan=None, packet_type=0):
    """Bytes of ``frame`` that a program accepts, and the number of instructions it ran; ``vlan`` is the tag
    that the kernel took out."""
    ancillary = {
        bpf.ANCILLARY_MARK: mark,
        bpf.ANCILLARY_VLAN_TAG: vlan or 0,
        bpf.ANCILLARY_VLAN_TAG_PRESENT: int(vlan is not None),
        bpf.ANCILLARY_PACKET_TYPE: packet_type,
    }
    a = x = at = steps = 0
    memory = {}
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        steps += 1
        if code == bpf.LOAD and k in ancillary:
            a = ancillary[k]
        elif code in LOADS:
            size, indirect = LOADS[code]
            offset = k + x if indirect else k
            if offset + size > len(frame):
                return 0, steps
            a = int.from_bytes(frame[offset : offset + size], "big")
        elif code in TESTS:
            at += jt if TESTS[code](a, k) else jf
        elif code == bpf.JUMP:
            at += k
        elif code == bpf.RETURN:
            return k, steps
        elif code == bpf.LOAD_X_HEADER_LENGTH:
            if k >= len(frame):
                return 0, steps
            x = 4 * (frame[k] & 15)
        elif code == bpf.LOAD_IMMEDIATE:
            a = k
        elif code == bpf.LOAD_X_IMMEDIATE:
            x = k
        elif code == bpf.LOAD_MEMORY:
            a = memory[k]  # KeyError: the kernel refuses a load before a store
        elif code == bpf.STORE:
            memory[k] = a
        elif code == bpf.ADD:
            a = a + k & WORD
        elif code == bpf.A_TO_X:
            x = a
        elif code == bpf.X_TO_A:
            a = x
        else:
            raise BadProgram(f"unknown code {code:#x}")
