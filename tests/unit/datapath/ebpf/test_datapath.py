"""The datapath as a whole, where it cannot begin."""

from __future__ import annotations

import asyncio

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.ebpf.datapath import EbpfDatapath
from l4lb.datapath.ebpf.numbers import OutOfNumbers
from l4lb.model import Limits
from tests.unit.datapath.ebpf.kernel import file_system

CROWDED = "no place for 10.1.0.100:80 in the table of VIPs and backends: it is too crowded there"


def test_tables_that_cannot_be_taken_over_are_a_reason_to_fall_back(bpf_possible, monkeypatch):
    """And not the end of the daemon."""

    def crowded(maps):
        raise OutOfNumbers(CROWDED)

    async def load(directory):
        limits = Limits(half_open=1024, established=1024, affinity=1024, fragments=1024)
        EbpfDatapath(None, "tc", limits, file_system=directory).load()

    monkeypatch.setattr("l4lb.datapath.ebpf.datapath.Tables", crowded)
    with file_system() as directory, pytest.raises(DatapathError, match=CROWDED):
        asyncio.run(load(directory))


def test_tables_that_are_taken_over_keep_the_limits_they_were_made_for(bpf_possible):
    async def made_for(size):
        limits = Limits(half_open=size, established=size, affinity=size, fragments=size)
        datapath = EbpfDatapath(None, "tc", limits, file_system=directory)
        datapath.load()
        known = datapath.capabilities.made_for
        await datapath.close(hold=True)
        return known

    with file_system() as directory:
        assert asyncio.run(made_for(1024)) == asyncio.run(made_for(2048)) == Limits(1024, 1024, 1024, 1024)
