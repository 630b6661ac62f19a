"""Whose loss counts when: every transfer once, in the round after which it is gone."""

import io
import json
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark import BenchError
from benchmark.endurance import under_way
from benchmark.endurance.transfers import MARK, TOLL


def transfers(*reports: dict[str, Any]) -> under_way.Transfers:
    """A thousand, of which the client says this, mark by mark."""
    lines = io.StringIO("".join(json.dumps({"bytes": 1, "seconds": 1.0} | it) + "\n" for it in reports))
    return under_way.Transfers(SimpleNamespace(stdin=io.StringIO(), stdout=lines, stderr=None), 1_000)  # type: ignore[arg-type]


def report(still_open: int, silent: int = 0, *broken: str) -> dict[str, Any]:
    return {"open": still_open, "silent": silent, "broken": list(broken)}


def test_what_breaks_between_two_rounds_is_of_the_second():
    told = transfers(report(1_000), report(800, 0, "reset"), report(800))
    assert told.toll() == (0, ())
    told.mark()
    assert told.toll() == (200, ("reset",))
    assert told.intact == 800


def test_what_broke_before_the_first_mark_is_lost_too():
    assert transfers(report(999, 0, "refused")).toll() == (1, ("refused",))


def test_a_toll_is_another_command_than_a_mark():
    told = transfers(report(1_000), report(997, 0, *["nothing came"] * 3))
    told.mark()
    assert told.toll() == (3, ("nothing came",) * 3)
    assert told._process.stdin.getvalue() == MARK + TOLL  # type: ignore[union-attr]


def test_with_one_core_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(under_way, "OTHER_CORE", None)
    with pytest.raises(BenchError, match="may use one only"), under_way.under_way(None, "tc"):  # type: ignore[arg-type]
        pass
