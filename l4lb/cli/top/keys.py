"""From the bytes that a terminal sends to names of keys. Pure."""

from __future__ import annotations

import re

# ESC [ or ESC O, what goes with it, and the letter or ~ that ends it (ECMA-48 5.4, xterm's ctlseqs).
_SEQUENCE = re.compile(rb"\x1b[\[O]([0-9;]*)([@-~])")
_UNFINISHED = re.compile(rb"\x1b([\[O][0-9;]*)?\Z")

_NAMES = {
    (b"", b"A"): "up",
    (b"", b"B"): "down",
    (b"", b"H"): "home",
    (b"", b"F"): "end",
    (b"1", b"~"): "home",
    (b"4", b"~"): "end",
    (b"5", b"~"): "page up",
    (b"6", b"~"): "page down",
}


def decode(data: bytes) -> tuple[list[str], bytes]:
    """The keys in what was read, and a rest that may be the beginning of one. Letters are their own
    names; keys that nobody knows are left out."""
    keys: list[str] = []
    at = 0
    while at < len(data):
        if found := _SEQUENCE.match(data, at):
            at = found.end()
            if name := _NAMES.get((found[1], found[2])):
                keys.append(name)
        elif _UNFINISHED.match(data, at):
            return keys, data[at:]
        else:
            if data[at] == 0x1B:
                keys.append("escape")
            elif 0x20 <= data[at] < 0x7F:
                keys.append(chr(data[at]))
            at += 1
    return keys, b""
