"""Figures for people."""

from __future__ import annotations

import pytest

from l4lb.cli.output import counted, duration, quantity


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.1, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h00m"),
        (7440, "2h04m"),
        (86399, "23h59m"),
        (86400, "1d0h"),
        (372000, "4d7h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.04, "0"),
        (0.5, "0.5"),
        (9.94, "9.9"),
        (9.96, "10"),
        (999.4, "999"),
        (999.5, "1k"),
        (1234, "1.2k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (4.5e9, "4.5G"),
        (12e15, "12000T"),
    ],
)
def test_quantity(value, text):
    assert quantity(value) == text


def test_counted():
    assert [counted(number, "backend") for number in (0, 1, 2)] == ["0 backends", "1 backend", "2 backends"]
