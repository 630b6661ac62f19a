"""VIPs on a real kernel, and what the link hears of them."""

import asyncio
import errno
import json
import socket
import subprocess
import sys

import pytest

from l4lb.netlink import announcer
from l4lb.netlink.vips import VipError, VipKeeper
from l4lb.wire.announce import gratuitous_arp, unsolicited_na
from netlab.command import inside as command_in
from netlab.namespace import entered
from tests.lab.gateway import (
    DEADLINE,
    GATEWAY,
    PEER,
    ip,
    packed,
    run,
    sysctl,
    two_namespaces,
    until,
)

pytestmark = pytest.mark.lab


@pytest.fixture
def lab():
    with two_namespaces():
        yield


VIP4, VIP6 = packed("10.70.0.100"), packed("2001:db8:70::100")


def held(namespace=GATEWAY):
    """The addresses of a namespace as text, with interface and prefix length. Not the link-local ones,
    which the kernel adds at a moment of its own."""
    listing = json.loads(subprocess.check_output(command_in(namespace, "ip", "-j", "addr")))
    return {
        (link["ifname"], f"{info['local']}/{info['prefixlen']}")
        for link in listing
        for info in link.get("addr_info", [])
        if info["scope"] != "link"
    }


class Listener:
    """Hears what arrives at a host of the other namespace."""

    def __init__(self, interface):
        with entered(PEER):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
            self.socket.bind((interface, 3))
        self.socket.setblocking(False)

    async def hears(self, *frames, times=1):
        """Wait until each of the frames has arrived that many times."""
        missing = dict.fromkeys(frames, times)
        async with asyncio.timeout(DEADLINE):
            while any(missing.values()):
                try:
                    frame = await asyncio.get_running_loop().sock_recv(self.socket, 2048)
                except OSError as error:
                    if error.errno != errno.ENETDOWN:  # told once when the link goes down
                        raise
                    continue
                if missing.get(frame, 0):
                    missing[frame] -= 1

    def forget(self):
        """What has arrived by now."""
        while True:
            try:
                self.socket.recv(2048)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # told once when the link goes down
                    raise

    def close(self):
        self.socket.close()


@pytest.fixture
def listener(lab):
    hears = Listener("peer0")
    yield hears
    hears.close()


def announcements(mac):
    return (
        gratuitous_arp(mac, VIP4),
        gratuitous_arp(mac, VIP4, reply=True),
        unsolicited_na(mac, VIP6),
    )


def test_vips_are_added_announced_and_removed(listener, tmp_path, monkeypatch):
    monkeypatch.setattr(announcer, "INTERVAL", 0.05)
    before = held()

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: None, VIP6: None, packed("192.0.2.1"): "wan0"})
        assert held() - before == {
            ("lan0", "10.70.0.100/32"),
            ("lan0", "2001:db8:70::100/128"),
            ("wan0", "192.0.2.1/32"),
        }
        await listener.hears(*announcements(watch.state.link("lan0").mac), times=announcer.ROUNDS)
        routes = subprocess.check_output(command_in(GATEWAY, "ip", "-6", "route", "show", "table", "main"))
        assert b"2001:db8:70::100" not in routes, "no route comes with a VIP"

        await keeper.keep({VIP4: "wan0"})
        assert held() - before == {("wan0", "10.70.0.100/32")}
        await keeper.clear()
        assert held() == before
        assert not (tmp_path / "vips.json").exists()
        await keeper.close()

    run(scenario)


def test_an_address_that_was_there_before_is_used_and_left(lab, tmp_path):
    ip(GATEWAY, "addr add 10.70.0.100/24 dev lan0")
    before = held()

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: None})
        await keeper.keep({})
        assert held() == before
        await keeper.keep({VIP4: None})
        assert keeper.withdrawn == set()
        # Its owner takes it away, a keepalived that has become the backup: it goes to another gateway.
        ip(GATEWAY, "addr del 10.70.0.100/24 dev lan0")
        await until(watch, lambda state: not any(each.ip == VIP4 for each in state.addresses))
        await keeper.keep({VIP4: None})
        assert held() == before - {("lan0", "10.70.0.100/24")}
        assert keeper.withdrawn == {VIP4}
        ip(GATEWAY, "addr add 10.70.0.100/24 dev lan0")
        await until(watch, lambda state: any(each.ip == VIP4 for each in state.addresses))
        await keeper.keep({VIP4: None})
        assert keeper.withdrawn == set()
        await keeper.clear()
        await keeper.close()
        assert held() == before

    run(scenario)


def test_a_vip_whose_interface_is_not_named_any_more_goes_where_a_new_one_would(lab, tmp_path):
    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: "wan0", VIP6: None})
        assert ("wan0", "10.70.0.100/32") in held()
        await keeper.keep({VIP4: None, VIP6: None})
        assert ("lan0", "10.70.0.100/32") in held()
        assert ("wan0", "10.70.0.100/32") not in held()
        await keeper.clear()
        await keeper.close()

    run(scenario)


def test_vips_that_cannot_be_placed_are_named_and_come_when_they_can(lab, tmp_path):
    elsewhere = packed("192.0.2.1")

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        with pytest.raises(VipError) as refusal:
            await keeper.keep({elsewhere: None, VIP4: "lan7", VIP6: None})
        text = str(refusal.value)
        assert "VIP 192.0.2.1: no interface has a subnet that contains it" in text
        assert "VIP 10.70.0.100: there is no interface lan7" in text
        assert "\n" not in text
        assert ("lan0", "2001:db8:70::100/128") in held(), "the others are placed all the same"

        ip(GATEWAY, "addr add 192.0.2.9/28 dev wan0")
        await until(watch, lambda state: ("wan0", "192.0.2.1/32") in held())
        ip(GATEWAY, "link add lan7 type veth peer name peer7")
        await until(watch, lambda state: ("lan7", "10.70.0.100/32") in held())
        await keeper.clear()
        await keeper.close()

    run(scenario)


def test_what_the_kernel_refuses_is_told_in_its_words(lab, tmp_path):
    sysctl(GATEWAY, ipv6__conf__wan0__disable_ipv6=1)

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        with pytest.raises(
            VipError, match=r"VIP 2001:db8:70::100 cannot be put on wan0: .*IPv6 is disabled"
        ):
            await keeper.keep({VIP6: "wan0"})
        assert not (tmp_path / "vips.json").exists()
        await keeper.close()

    run(scenario)


def test_vips_return_with_their_interface_and_are_announced_again(listener, tmp_path, monkeypatch):
    monkeypatch.setattr(announcer, "ROUNDS", 1)  # so that what is heard later is of another occasion
    ip(GATEWAY, "route add default via 10.71.0.2")  # must not attract the VIP meanwhile

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: None, VIP6: None})
        await listener.hears(*announcements(watch.state.link("lan0").mac))

        ip(GATEWAY, "link set lan0 down")  # takes the IPv6 address with it
        await until(watch, lambda state: not state.link("lan0").up)
        listener.forget()
        ip(GATEWAY, "link set lan0 up")
        await until(watch, lambda state: {VIP4, VIP6} <= {address.ip for address in state.addresses})
        await listener.hears(*announcements(watch.state.link("lan0").mac))

        ip(PEER, "link set peer0 down")  # the carrier goes, and comes back
        await until(watch, lambda state: not state.link("lan0").up)
        listener.forget()
        ip(PEER, "link set peer0 up")
        await listener.hears(*announcements(watch.state.link("lan0").mac))

        ip(GATEWAY, "link set lan0 address 02:00:00:00:00:77")
        await listener.hears(*announcements(bytes.fromhex("020000000077")))

        ip(GATEWAY, "link del lan0")
        await until(watch, lambda state: state.link("lan0") is None)
        ip(GATEWAY, f"link add lan0 type veth peer name peer0 netns {PEER}\nlink set lan0 up")
        await until(watch, lambda state: VIP4 in {address.ip for address in state.addresses})
        ip(PEER, "link set peer0 up")  # an IPv6 address waits for the carrier
        await until(watch, lambda state: {VIP4, VIP6} <= {address.ip for address in state.addresses})
        assert {("lan0", "10.70.0.100/32"), ("lan0", "2001:db8:70::100/128")} <= held()

        for vip, prefix in ((VIP4, "10.70.0.100/32"), (VIP6, "2001:db8:70::100/128")):
            ip(GATEWAY, f"addr del {prefix} dev lan0")
            await until(watch, lambda state, vip=vip: all(a.ip != vip for a in state.addresses))
            await until(watch, lambda state, vip=vip: any(a.ip == vip for a in state.addresses))
        await keeper.clear()
        await keeper.close()

    run(scenario)


def test_a_vip_stays_where_it_was_while_its_interface_has_no_subnet(lab, tmp_path):
    """Any change of the kernel has VIPs looked after at once, and the default route leaves elsewhere."""
    ip(GATEWAY, "route add default via 10.71.0.2")

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: None})
        ip(GATEWAY, "addr flush dev lan0")
        await until(watch, lambda state: VIP4 not in {address.ip for address in state.addresses})
        await keeper.keep({VIP4: None})
        assert ("lan0", "10.70.0.100/32") in held()
        assert ("wan0", "10.70.0.100/32") not in held()

        ip(GATEWAY, "link del lan0")
        await until(watch, lambda state: state.link("lan0") is None)
        with pytest.raises(VipError, match=r"VIP 10.70.0.100: there is no interface lan0"):
            await keeper.keep({VIP4: None})
        assert ("wan0", "10.70.0.100/32") not in held()
        ip(GATEWAY, "link add lan0 type veth peer name peer0")
        await until(watch, lambda state: ("lan0", "10.70.0.100/32") in held())
        await keeper.clear()
        await keeper.close()

    run(scenario)


@pytest.mark.parametrize(
    ("named", "routes"),
    [(False, "\nroute add default via 10.71.0.2"), (True, "\nroute add default via 10.71.0.2"), (True, "")],
    ids=["booting", "named", "named-without-a-route"],
)
def test_a_vip_moves_to_its_subnet_when_that_comes_late(lab, tmp_path, named, routes):
    """At boot l4lb may be there before the addresses: then there is only the default route's interface. The
    same where another one was named before, and is not any more."""
    ip(GATEWAY, "addr flush dev lan0" + routes)

    async def scenario(watch):
        await until(watch, lambda state: not any(link == "lan0" for link, _ in held()))
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        if named:
            await keeper.keep({VIP4: "wan0"})
        await keeper.keep({VIP4: None})
        assert ("wan0", "10.70.0.100/32") in held()
        ip(GATEWAY, "addr add 10.70.0.1/24 dev lan0")
        await until(watch, lambda state: any(each.ip == packed("10.70.0.1") for each in state.addresses))
        await keeper.keep({VIP4: None})
        assert ("lan0", "10.70.0.100/32") in held()
        assert ("wan0", "10.70.0.100/32") not in held()
        await keeper.clear()
        await keeper.close()

    run(scenario)


def test_a_vip_with_two_interfaces_in_its_subnet_stays_with_the_first(lab, tmp_path):
    """Also while that one has no address, and though the default route leaves by it."""
    ip(GATEWAY, "addr add 10.70.0.9/24 dev wan0\nroute add default via 10.70.0.2 dev lan0")

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: "lan0"})
        await keeper.keep({VIP4: None})
        ip(GATEWAY, "addr del 10.70.0.1/24 dev lan0")
        await until(
            watch, lambda state: not any(each.ip == packed("10.70.0.1") for each in state.addresses)
        )
        await keeper.keep({VIP4: None})
        assert ("lan0", "10.70.0.100/32") in held()
        await keeper.clear()
        await keeper.close()

    run(scenario)


def test_a_vip_follows_its_subnet_to_another_interface_when_its_own_is_gone(lab, tmp_path):
    """As to a bridge that takes over its address."""

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: None})
        ip(GATEWAY, "link del lan0\nlink add br9 type bridge")
        await until(watch, lambda state: state.link("lan0") is None)
        with pytest.raises(VipError, match="there is no interface lan0"):
            await keeper.keep({VIP4: None})
        ip(GATEWAY, "addr add 10.70.0.1/24 dev br9\nlink set br9 up")
        await until(watch, lambda state: ("br9", "10.70.0.100/32") in held())
        await keeper.clear()
        await keeper.close()

    run(scenario)


RENAME = (
    "link set lan0 down\nlink set lan0 name lan9\nlink set lan9 up\naddr replace 2001:db8:70::1/64 dev lan9"
)


def test_vips_on_an_interface_that_is_renamed_are_still_ours(lab, tmp_path):
    """That it goes down takes the addresses of IPv6 along."""
    vips = {("lan9", "10.70.0.100/32"), ("lan9", "2001:db8:70::100/128")}

    async def scenario(watch):
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.keep({VIP4: None, VIP6: None})
        ip(GATEWAY, RENAME)
        await until(watch, lambda state: state.link("lan9") is not None)
        await keeper.keep({VIP4: None, VIP6: None})
        assert vips <= held()
        await keeper.close()
        ip(GATEWAY, "link set lan9 name lan8")
        await until(watch, lambda state: state.link("lan8") is not None)
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        await keeper.clear()
        assert not {(link, ip) for link, ip in held() if ip in ("10.70.0.100/32", "2001:db8:70::100/128")}
        await keeper.close()

    run(scenario)


def test_a_vip_on_a_link_that_is_down_works_when_it_comes_up(lab, tmp_path):
    ip(GATEWAY, "link set wan0 down")

    async def scenario(watch):
        await until(watch, lambda state: not state.link("wan0").up)
        keeper = VipKeeper(watch, tmp_path / "vips.json")
        for _ in range(2):  # the second finds it there, though nothing was heard of it
            await keeper.keep({VIP6: "wan0"})
            assert ("wan0", "2001:db8:70::100/128") in held()
        ip(GATEWAY, "link set wan0 up")
        await until(watch, lambda state: any(a.ip == VIP6 for a in state.addresses))

        ip(GATEWAY, "addr del 2001:db8:70::100/128 dev wan0")
        await until(watch, lambda state: all(a.ip != VIP6 for a in state.addresses))
        await until(watch, lambda state: any(a.ip == VIP6 for a in state.addresses))
        await keeper.clear()
        await keeper.close()

    run(scenario)


KILLED = """
import asyncio, pathlib, sys
from l4lb.netlink.vips import VipKeeper
from l4lb.netlink.watch import KernelWatch

async def main():
    async with KernelWatch() as watch:
        vips = {bytes.fromhex(ip): None for ip in sys.argv[2:]}
        await VipKeeper(watch, pathlib.Path(sys.argv[1])).keep(vips)
        print("placed", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_what_a_killed_keeper_left_is_adopted_or_removed(lab, tmp_path):
    ip(GATEWAY, "addr add 10.70.0.50/24 dev lan0")
    before = held()
    path = tmp_path / "vips.json"
    command = [sys.executable, "-c", KILLED, str(path), VIP4.hex(), VIP6.hex(), packed("10.70.0.50").hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        try:
            assert killed.stdout.readline() == "placed\n"
        finally:
            killed.kill()
    assert held() - before == {("lan0", "10.70.0.100/32"), ("lan0", "2001:db8:70::100/128")}

    async def scenario(watch):
        keeper = VipKeeper(watch, path)
        await keeper.keep({VIP6: None})
        assert held() - before == {("lan0", "2001:db8:70::100/128")}
        await keeper.close()

        await VipKeeper(watch, path).clear()
        assert held() == before

    run(scenario)
