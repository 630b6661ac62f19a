"""Keys from what terminals send."""

from __future__ import annotations

import pytest

from l4lb.cli.top.keys import decode


@pytest.mark.parametrize(
    ("data", "keys", "rest"),
    [
        (b"", [], b""),
        (b"jkq", ["j", "k", "q"], b""),
        (b"\x1b[A\x1b[B", ["up", "down"], b""),
        (b"\x1bOA\x1bOB", ["up", "down"], b""),  # after a program left the cursor keys in application mode
        (
            b"\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~",
            ["page up", "page down", "home", "end"] * 1 + ["home", "end"],
            b"",
        ),
        (b"\x1b[1;5A\x1b[15~\x1b[Zj", ["j"], b""),  # keys that mean nothing here
        (b"\x1b", [], b"\x1b"),
        (b"s\x1b[", ["s"], b"\x1b["),
        (b"\x1b[1;", [], b"\x1b[1;"),
        (b"\x1bq", ["escape", "q"], b""),
        (b"\x1b\x1b[A", ["escape", "up"], b""),
        (b"\x00\x03\xff\xc3\xa4d", ["d"], b""),
    ],
)
def test_decode(data, keys, rest):
    assert decode(data) == (keys, rest)
