"""Many VIPs: what is remembered of them is written once, before they are added. On real links:
tests/lab/test_vips.py."""

import asyncio
import errno

import pytest

from l4lb.netlink import ledger
from l4lb.netlink.ledger import Ledger
from l4lb.netlink.state import Address, KernelState, Link
from l4lb.netlink.vips import VipError, VipKeeper

LAN = Link(2, "lan", b"", 1500, True)
VIPS = {bytes([10, 1, 0, number]): None for number in range(1, 201)}
REFUSED = bytes([10, 1, 0, 7])


class Watch:
    """The kernel's configuration, which follows what is added."""

    def __init__(self):
        self.state = KernelState((LAN,), (Address(2, bytes([10, 1, 1, 1]), 16),))

    def subscribe(self, subscriber):
        return lambda: None

    async def wait_for(self, condition, timeout):
        return condition(self.state)


class Addresses:
    """The host's addresses; each that is added has been written down."""

    def __init__(self, watch, path):
        self.watch, self.path = watch, path
        self.refused = True
        self.there = set()
        self.under_way = self.most = 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        others = (Address(2, bytes(map(int, text.split("."))), 32) for text in self.there)
        self.watch.state = KernelState((LAN,), (self.watch.state.addresses[0], *others))

    async def _ask(self):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1

    async def add(self, index, text):
        await self._ask()
        ip = bytes(map(int, text.split(".")))
        assert Ledger(self.path).interface(ip) == "lan"
        if ip == REFUSED and self.refused:
            return errno.ENOBUFS, "No buffer space available"
        self.there.add(text)
        return None

    async def delete(self, index, text):
        await self._ask()
        if text not in self.there:
            return errno.EADDRNOTAVAIL, "Cannot assign requested address"
        self.there.remove(text)
        return None


@pytest.fixture
def writes(monkeypatch):
    """What is written of the ledger; raise what is put into it."""
    made, write = [], ledger.keep

    def keep(path, text):
        if made and isinstance(made[-1], OSError):
            raise made[-1]
        made.append(len(text))
        write(path, text)

    monkeypatch.setattr(ledger, "keep", keep)
    return made


@pytest.fixture
def keeper(tmp_path):
    watch, path = Watch(), tmp_path / "vips.json"
    keeper = VipKeeper(watch, path)
    keeper._addresses = Addresses(watch, path)
    return keeper


def test_what_is_remembered_is_written_once_a_pass(keeper, writes, tmp_path):
    async def scenario():
        with pytest.raises(VipError, match="cannot be put on lan: No buffer space available") as caught:
            await keeper.keep(VIPS)
        assert len(caught.value.problems) == 1
        assert len(writes) == 2  # before, and without the one that was refused
        assert set(Ledger(tmp_path / "vips.json")) == VIPS.keys() - {REFUSED}
        keeper._addresses.refused = False
        await keeper.keep(VIPS)
        assert len(writes) == 3
        await keeper.keep(VIPS)
        assert len(writes) == 3
        assert len(keeper._addresses.there) == 200
        await keeper.clear()
        assert len(writes) == 4
        assert not keeper._addresses.there
        assert not (tmp_path / "vips.json").exists()

    asyncio.run(scenario())


def test_nothing_is_added_that_cannot_be_remembered(keeper, writes):
    async def scenario():
        writes.append(OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(VipError) as caught:
            await keeper.keep(VIPS)
        assert len(caught.value.problems) == 200
        assert caught.value.problems[0].startswith("VIP 10.1.0.1 is not added: ")
        assert not keeper._addresses.there
        writes.clear()
        keeper._addresses.refused = False
        await keeper.keep(VIPS)
        assert len(keeper._addresses.there) == 200
        writes.append(OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(VipError, match=r"VIP 10\.1\.0\.1 stays remembered as ours: .*No space left"):
            await keeper.clear()
        assert not keeper._addresses.there
        writes.clear()
        await keeper.clear()

    asyncio.run(scenario())


def test_the_kernel_is_asked_for_many_in_one_go(keeper):
    """What it says of them then comes together, and is gone through once."""

    async def scenario():
        addresses = keeper._addresses
        addresses.refused = False
        await keeper.keep(VIPS)
        assert addresses.most >= 32
        addresses.most = 0
        await keeper.clear()
        assert addresses.most >= 32
        assert not addresses.there

    asyncio.run(scenario())
