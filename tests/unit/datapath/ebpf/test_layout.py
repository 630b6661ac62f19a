"""The structs of Python against those of layout.h, as clang lays them out."""

import re
import shutil
import subprocess
from pathlib import Path
from struct import calcsize

import pytest

import l4lb.datapath
from l4lb.datapath.ebpf import layout
from l4lb.model import DECISIONS_APART, DECISIONS_KEPT, WHOLE, DropReason, Key, Rule, State, Verdict
from l4lb.times import BUCKETS, LONGEST, UNIT
from tests.unit.datapath.ebpf import kernel

HEADER = Path(l4lb.datapath.__file__).with_name("bpf") / "layout.h"

C_STATES = {State.UDP: "UDP_STREAM"}  # elsewhere the names are the same


def assertions():
    """C that compiles only if both sides agree."""
    yield f"LAYOUT_VERSION == {layout.LAYOUT_VERSION}"
    for struct in layout.LAYOUTS:
        at = 0
        for name, code in struct.fields.items():
            yield f"offsetof(struct {struct.name}, {name}) == {at}"
            yield f"sizeof(((struct {struct.name} *)0)->{name}) == {calcsize('=' + code)}"
            at += calcsize("=" + code)
        yield f"sizeof(struct {struct.name}) == {at}"
    yield f"sizeof(struct hop) == {layout.HOP_SIZE}"
    yield f"sizeof(struct end) == {len(layout.end_key(bytes(16), 0, 0))}"
    yield f"sizeof(struct end) - END4_OFFSET == {len(layout.end_key(bytes(4), 0, 0))}"
    yield f"sizeof(struct slot) == {layout.SLOT_SIZE}"
    yield f"sizeof(struct slots) == {2 * layout.SLOT_SIZE}"
    yield f"offsetof(struct slot, connection.displaced) == {kernel.DISPLACED}"
    yield f"SLOT_TAKEN == {layout.SLOT_TAKEN}ull"
    yield f"TABLE_STEPS == {layout.TABLE_STEPS}"
    yield f"BLOCK_PAIRS == {layout.BLOCK_PAIRS}"
    yield f"END_MULTIPLIER == {layout.END_MULTIPLIER}ull"
    yield f"sizeof(struct times) == {layout.TIMES.size}"
    yield f"TIME_BUCKETS == {BUCKETS}"
    yield f"LONGEST_AVERAGED == {round(LONGEST / UNIT)}"
    yield f"WHOLE == {WHOLE}"
    for state in State:
        yield f"{C_STATES.get(state, state.name)} == {state.value}"
    yield f"STATES == {len(State)}"
    for verdict in Verdict:
        yield f"{verdict.name} == {verdict.value}"
    yield f"VERDICTS == {layout.VERDICTS}"
    for reason in DropReason:
        yield f"{reason.name} == {reason.value}"
    yield f"REASONS == {layout.REASONS}"
    for key in Key:
        yield f"KIND_{key.name} == {key.value}"
    yield f"RULE_AFFINITY == {Rule.AFFINITY.value}"
    yield f"KIND_COSTS == {Rule.COSTS.value}"
    yield f"DECISIONS_KEPT == {DECISIONS_KEPT}"
    yield f"DECISIONS_APART == {round(DECISIONS_APART * 1e9)}"
    for name, value in vars(layout).items():
        if re.match(
            "PATH_|BACKEND_|SERVICE_|KIND_|HOP_PEER|SEEN_BY|REVERSED|OTHER_SOURCE|RESTED|HOT|NO_PATH|TIME_SHIFT|END_(BITS|FACTOR|PROTOCOL|PROBES|KIND|SERVICE|BACKEND|REMOVED|IPV6|NUMBER|STEP|REST)",
            name,
        ):
            yield f"{name} == {value}{'u' * (value >= 1 << 31)}"


@pytest.fixture(scope="module")
def clang():
    program = shutil.which("clang")
    if program is None:
        pytest.skip("needs clang")
    return program


def complaints(clang, source):
    command = [clang, "-target", "bpf", "-fsyntax-only", "-I/usr/include/x86_64-linux-gnu", "-xc", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False).stderr


def source(checks):
    lines = [f'_Static_assert({check}, "{check}");' for check in checks]
    return "\n".join([f'#include <stddef.h>\n#include "{HEADER}"', *lines])


def test_python_and_c_agree_on_every_field_flag_and_number(clang):
    checks = list(assertions())
    assert len(checks) > 150
    assert complaints(clang, source(checks)) == ""


def test_a_difference_would_be_found(clang):
    assert "static_assert" in complaints(clang, source(["sizeof(struct path) == 1"])).lower()


def test_as_many_backends_are_compared_as_python_says():
    (number,) = re.findall(
        r"^#define MOST_COSTS (\d+)", HEADER.with_name("select.h").read_text(), re.MULTILINE
    )
    assert int(number) == layout.MOST_COSTS


def test_every_struct_that_c_defines_is_known_here_or_stays_in_the_programs():
    theirs = {
        "end",
        "hop",
        "datagram",
        "fragment",
        "prefix",
        "rested",
        "slot",
        "slots",
        "times",
    }
    defined = set(re.findall(r"^struct (\w+) \{", HEADER.read_text(), re.MULTILINE))
    assert defined == {struct.name for struct in layout.LAYOUTS} | theirs


def test_values_come_back_as_they_were_packed():
    connection = layout.Connection(7, 5, 1, 2, 65_535, b"\x04\xd2", State.TIME_WAIT, 0x21, layout.REVERSED)
    assert layout.CONNECTION.unpack(layout.CONNECTION.pack(connection)) == connection
    path = layout.Path(
        layout.NO_HOP, layout.wide(b"abcd"), bytes(16), bytes(16), b"\0P", b"\0P", 1, 2, 6, 4, 5
    )
    assert layout.PATH.unpack(layout.PATH.pack(path)) == path


@pytest.mark.parametrize("ip", [b"\x0a\x01\x00\x0a", bytes(range(16))])
def test_the_key_of_an_end(ip):
    key = layout.end_key(ip, 0x1234, 6)
    assert key.startswith(ip + b"\x12\x34")
    assert layout.read_end(key) == (ip, 0x1234, 6)
    assert layout.narrow(layout.wide(ip), 4 if len(ip) == 4 else 6) == ip
