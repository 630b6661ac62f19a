"""Next hops: what is known, what waits, and for how long."""

from dataclasses import replace

import pytest

from l4lb.datapath.raw import hops
from l4lb.datapath.raw.hops import ASK_AGAIN, PATIENCE, REFRESH, WAITING_ALL, WAITING_EACH, NextHops
from l4lb.datapath.raw.kernel_news import News
from l4lb.model import DropReason
from l4lb.netlink.routing import by_prefix
from l4lb.netlink.state import KernelState, Link, Neighbour, Route
from l4lb.wire.frame import ETHERTYPE_IPV4, ETHERTYPE_IPV6, new_frame

MAC = bytes.fromhex("0200000000fe")
OTHER_MAC = bytes.fromhex("0200000000fd")
LAN = Link(2, "lan", bytes.fromhex("020000000002"), 1500, True)
WAN = Link(3, "wan", bytes.fromhex("020000000003"), 1400, True)
TUNNEL = Link(4, "tun", b"", 1500, True)


def ip4(*last: int) -> bytes:
    return bytes([10, *([0] * (3 - len(last))), *last])


GATEWAY = ip4(0, 1)
KERNEL = KernelState(
    links=(LAN, WAN, TUNNEL),
    routes=(
        Route(ip4(0, 0, 0), 16, LAN.index),
        Route(bytes([10, 1, 0, 0]), 16, LAN.index, GATEWAY, mtu=1300),
        Route(bytes([10, 2, 0, 0]), 16, WAN.index),
        Route(bytes([10, 3, 0, 0]), 16, TUNNEL.index),
        Route(bytes(16), 0, WAN.index),
    ),
)
HOST = ip4(0, 5)
FRAME = bytes(new_frame(ETHERTYPE_IPV4, b"E packet"))


class Outside:
    """Everything around the next hops: what they sent, asked and counted."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.asked: list[tuple[int, bytes]] = []
        self.drops: list[DropReason] = []
        self.shut: set[int] = set()
        self.broken = False
        self.hops = NextHops(lambda *question: self.asked.append(question), self.egress, self.drops.append)
        self.kernel = KernelState()
        self.follow(KERNEL)

    def follow(self, kernel):
        gone = dict.fromkeys(by_prefix(self.kernel.routes), ())
        self.kernel = kernel
        self.hops.learn(kernel.neighbours)
        self.hops.follow(News(kernel.links, None, gone | by_prefix(kernel.routes)))

    def egress(self, index):
        def send(frame):
            if self.broken:
                raise OSError
            self.sent.append((index, bytes(frame)))
            return len(frame)

        return None if index in self.shut else send


@pytest.fixture
def outside():
    return Outside()


class TestRoute:
    def test_neighbour_on_the_link(self, outside):
        hop = outside.hops.route(HOST)
        assert (hop.index, hop.address, hop.mtu, hop.header) == (LAN.index, HOST, 1500, None)

    def test_hosts_behind_one_gateway_share_a_hop(self, outside):
        one, two = (outside.hops.route(bytes([10, 1, 0, last])) for last in (1, 2))
        assert one is two
        assert (one.address, one.mtu) == (GATEWAY, 1300)

    def test_two_mtus_through_one_gateway_are_two_hops(self, outside):
        direct = outside.hops.route(GATEWAY)
        behind = outside.hops.route(bytes([10, 1, 0, 1]))
        assert (direct.mtu, behind.mtu) == (1500, 1300)
        outside.hops.learn([Neighbour(LAN.index, GATEWAY, MAC)])
        assert direct.header == behind.header == MAC + LAN.mac + ETHERTYPE_IPV4.to_bytes(2, "big")

    def test_ipv4_through_an_ipv6_gateway_keeps_its_ethertype(self, outside):
        gateway6 = bytes(15) + b"\1"
        via6 = Route(bytes([10, 9, 0, 0]), 16, LAN.index, gateway6)
        six = Route(bytes.fromhex("20010db8") + bytes(12), 32, LAN.index, gateway6)
        outside.follow(replace(KERNEL, routes=(via6, six)))
        outside.hops.learn([Neighbour(LAN.index, gateway6, MAC)])
        headers = [
            outside.hops.route(address).header
            for address in (bytes([10, 9, 0, 1]), bytes.fromhex("20010db8") + bytes(12))
        ]
        assert [header[12:] for header in headers] == [
            ETHERTYPE_IPV4.to_bytes(2, "big"),
            ETHERTYPE_IPV6.to_bytes(2, "big"),
        ]

    @pytest.mark.parametrize(
        "address", [bytes([192, 0, 2, 1]), bytes([10, 3, 0, 1])], ids=["none", "tunnel"]
    )
    def test_none_without_a_route_or_ethernet(self, outside, address):
        assert outside.hops.route(address) is None

    def test_none_while_an_interface_cannot_be_used(self, outside):
        outside.shut.add(LAN.index)
        assert outside.hops.route(HOST) is None
        outside.shut.clear()
        assert outside.hops.route(HOST) is not None

    def test_neighbours_of_the_snapshot_are_known(self, outside):
        outside.follow(replace(KERNEL, neighbours=(Neighbour(LAN.index, HOST, MAC),)))
        assert outside.hops.route(HOST).header.startswith(MAC + LAN.mac)


class TestFollow:
    def test_only_what_has_changed(self, outside):
        outside.hops.follow(News(None, None, {(bytes([10, 1, 0, 0]), 16): ()}))
        assert outside.hops.route(bytes([10, 1, 0, 1])) is None
        assert outside.hops.route(HOST).index == LAN.index
        outside.hops.follow(News((replace(LAN, up=False), WAN), None, {}))
        assert outside.hops.route(HOST) is None
        assert outside.hops.route(bytes([10, 2, 0, 1])).index == WAN.index

    def test_addresses_leave_the_hops_as_they_are(self, outside):
        hop = outside.hops.route(HOST)
        outside.hops.follow(News(None, (), {}))
        assert outside.hops.route(HOST) is hop
        assert not hop.stale

    def test_hops_of_before_are_stale_and_let_nothing_through(self, outside):
        old = outside.hops.route(HOST)
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        outside.follow(KERNEL)
        assert old.stale
        assert old.header is None
        assert outside.hops.route(HOST) is not old

    @pytest.mark.parametrize("routes", [KERNEL.routes, ()])
    def test_frames_that_wait_go_on_waiting_for_their_neighbour(self, outside, routes):
        """At the start of a daemon its VIPs are routes that appear while the first packets wait."""
        outside.hops.wait(outside.hops.route(HOST), FRAME, 0.0)
        outside.follow(replace(KERNEL, routes=routes))
        outside.hops.tick(0.1)
        assert len(outside.asked) == 1
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        assert len(outside.sent) == 1
        assert not outside.drops

    def test_but_no_longer_than_before(self, outside):
        outside.hops.wait(outside.hops.route(HOST), FRAME, 0.0)
        outside.follow(KERNEL)
        outside.hops.tick(PATIENCE)
        assert outside.drops == [DropReason.NEIGHBOUR_UNREACHABLE]

    def test_they_go_out_where_the_neighbour_is_known_by_then(self, outside):
        outside.hops.wait(outside.hops.route(HOST), FRAME, 0.0)
        outside.follow(replace(KERNEL, neighbours=(Neighbour(LAN.index, HOST, MAC),)))
        assert [index for index, _ in outside.sent] == [LAN.index]
        assert not outside.drops

    @pytest.mark.parametrize("gone", ["link", "socket"])
    def test_they_are_counted_where_the_interface_is_gone(self, outside, gone):
        outside.hops.wait(outside.hops.route(HOST), FRAME, 0.0)
        if gone == "socket":
            outside.shut.add(LAN.index)
        outside.follow(replace(KERNEL, links=(WAN,)) if gone == "link" else KERNEL)
        assert outside.drops == [DropReason.NO_ROUTE]
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        outside.hops.tick(PATIENCE)
        assert outside.drops == [DropReason.NO_ROUTE]

    def test_all_together_they_are_as_many_as_before(self, outside):
        for last in range(WAITING_ALL // WAITING_EACH):
            for _ in range(WAITING_EACH):
                outside.hops.wait(outside.hops.route(ip4(1, last)), FRAME, 0.0)
        outside.follow(KERNEL)
        outside.hops.wait(outside.hops.route(HOST), FRAME, 0.0)
        assert outside.drops == [DropReason.NEIGHBOUR_QUEUE_FULL]

    def test_other_sockets_are_asked_for_anew(self, outside):
        hop = outside.hops.route(HOST)
        outside.hops.renew()
        assert hop.stale
        assert outside.hops.route(HOST) is not hop

    def test_new_routes_hold_at_once(self, outside):
        outside.hops.route(HOST)
        outside.follow(replace(KERNEL, routes=(Route(ip4(0, 0, 0), 16, WAN.index),)))
        assert outside.hops.route(HOST).index == WAN.index


class TestWaiting:
    def test_frames_go_out_in_order_when_the_neighbour_answers(self, outside):
        hop = outside.hops.route(HOST)
        for last in b"abc":
            outside.hops.wait(hop, FRAME + bytes([last]), 0.0)
        assert outside.asked == [(LAN.index, HOST)]
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        head = FRAME[:10] + MAC + LAN.mac + FRAME[22:]
        assert outside.sent == [(LAN.index, head + bytes([last])) for last in b"abc"]
        assert not outside.drops
        outside.hops.learn([Neighbour(LAN.index, HOST, OTHER_MAC)])
        assert len(outside.sent) == 3
        assert hop.header.startswith(OTHER_MAC)

    def test_the_question_is_repeated_until_patience_ends(self, outside):
        hop = outside.hops.route(HOST)
        outside.hops.wait(hop, FRAME, 100.0)
        now = 100.0
        while now < 100.0 + PATIENCE - 0.05:
            now += 0.1
            outside.hops.tick(now)
        assert len(outside.asked) == PATIENCE / ASK_AGAIN
        assert not outside.drops
        outside.hops.tick(100.0 + PATIENCE)
        assert outside.drops == [DropReason.NEIGHBOUR_UNREACHABLE]
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        assert not outside.sent

    def test_many_frames_are_one_question_a_second(self, outside):
        hop = outside.hops.route(HOST)
        for step in range(10):
            outside.hops.wait(hop, FRAME, 50.0 + step * 0.1)
        assert len(outside.asked) == 1
        outside.hops.wait(hop, FRAME, 51.0)
        assert len(outside.asked) == 2

    def test_one_neighbour_holds_only_so_many(self, outside):
        hop = outside.hops.route(HOST)
        for _ in range(WAITING_EACH + 2):
            outside.hops.wait(hop, FRAME, 0.0)
        assert outside.drops == [DropReason.NEIGHBOUR_QUEUE_FULL] * 2
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        assert len(outside.sent) == WAITING_EACH

    def test_all_together_hold_only_so_many_until_some_leave(self, outside):
        all_hops = [outside.hops.route(ip4(1, last)) for last in range(WAITING_ALL // WAITING_EACH)]
        for hop in all_hops:
            for _ in range(WAITING_EACH):
                outside.hops.wait(hop, FRAME, 0.0)
        late = outside.hops.route(HOST)
        outside.hops.wait(late, FRAME, 0.0)
        assert outside.drops == [DropReason.NEIGHBOUR_QUEUE_FULL]
        assert outside.asked[-1] == (LAN.index, HOST), "a healthy neighbour is found all the same"
        outside.hops.learn([Neighbour(LAN.index, ip4(1, 0), MAC)])
        outside.hops.wait(late, FRAME, 0.0)
        assert len(outside.drops) == 1
        outside.hops.tick(PATIENCE)
        assert len(outside.drops) == 1 + WAITING_ALL - WAITING_EACH + 1

    def test_a_neighbour_that_is_said_to_be_gone(self, outside):
        hop = outside.hops.route(HOST)
        outside.hops.wait(hop, FRAME, 0.0)
        outside.hops.learn([Neighbour(LAN.index, HOST, None)])
        assert outside.drops == [DropReason.NEIGHBOUR_UNREACHABLE]
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        outside.hops.learn([Neighbour(LAN.index, HOST, None)])
        assert hop.header is None
        outside.follow(KERNEL)
        assert outside.hops.route(HOST).header is None

    def test_an_interface_that_refuses(self, outside):
        outside.hops.wait(outside.hops.route(HOST), FRAME, 0.0)
        outside.broken = True
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        assert outside.drops == [DropReason.SEND_FAILED]

    def test_what_others_ask_about_is_none_of_ours(self, outside):
        outside.hops.learn([Neighbour(WAN.index, HOST, MAC), Neighbour(LAN.index, ip4(0, 9), MAC)])
        assert outside.hops.route(HOST).header is None
        assert outside.hops.route(ip4(0, 9)).header is not None


class TestRefresh:
    def test_a_known_neighbour_is_confirmed_now_and_then(self, outside):
        outside.hops.route(HOST)
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        for second in range(100, 100 + 3 * int(REFRESH)):
            outside.hops.tick(float(second))
        assert outside.asked == [(LAN.index, HOST)] * 2

    def test_many_are_confirmed_some_at_a_time(self, outside, monkeypatch):
        monkeypatch.setattr(hops, "REFRESH_AT_ONCE", 3)
        for last in range(10):
            outside.hops.route(ip4(1, last))
            outside.hops.learn([Neighbour(LAN.index, ip4(1, last), MAC)])
        outside.hops.tick(100.0)
        for second in range(4):
            outside.hops.tick(100.0 + REFRESH + second)
            assert len(outside.asked) == min(10, 3 * (second + 1))

    def test_an_unknown_one_is_asked_for_only_when_something_waits(self, outside):
        outside.hops.route(HOST)
        for second in range(100, 200):
            outside.hops.tick(float(second))
        assert not outside.asked


class TestBounds:
    """Whoever sends from all the addresses of a large network on a link makes a hop of each."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr(hops, "NEIGHBOURS", 8)

    def test_hops_are_forgotten_when_there_are_too_many(self, outside):
        for number in range(100):
            outside.hops.route(ip4(number, 1))
            assert len(outside.hops) <= 8

    def test_a_forgotten_hop_is_asked_for_anew(self, outside):
        hop = outside.hops.route(HOST)
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        for number in range(8):
            outside.hops.route(ip4(number, 1))
        assert hop.stale
        assert hop.header is None, "the fast path looks at nothing else"
        assert outside.hops.route(HOST).header.startswith(MAC)

    def test_who_is_waited_for_stays(self, outside):
        hop = outside.hops.route(HOST)
        outside.hops.wait(hop, FRAME, 0.0)
        for number in range(20):
            outside.hops.route(ip4(number, 1))
        assert not hop.stale
        outside.hops.learn([Neighbour(LAN.index, HOST, MAC)])
        assert len(outside.sent) == 1


def test_the_memory_of_addresses_is_bounded(outside, monkeypatch):
    monkeypatch.setattr(hops, "CACHED_ADDRESSES", 8)
    for number in range(100):
        outside.hops.route(bytes([10, 1, 0, number]))
        assert len(outside.hops._by_address) <= 8
    assert len(outside.hops) == 1
