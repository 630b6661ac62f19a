"""What the fast path takes, and that it leaves the rest untouched for the clear way.

That both do the same is a property test (tests/property/test_fastpath.py).
"""

from dataclasses import replace

import pytest

from l4lb.director.connection import Hop
from l4lb.director.fastpath import fast_path
from l4lb.model import Nat, Protocol, State
from l4lb.wire.frame import FRAME_MAX
from tests.unit.director.gateway import (
    BACKEND,
    BACKEND6,
    BACKENDS,
    CLIENT,
    CLIENT6,
    CLIENTS,
    VIP,
    VIP6,
    Gateway,
    service,
)
from tests.unit.director.packets import ACK, FIN, PSH, RST, SYN, UDP, URG, Sent, read

FULL = replace(VIP, port=81)


class Fast:
    """A gateway with established connections, and its fast path."""

    def __init__(self):
        self.gateway = Gateway(
            service(),
            service(BACKEND6, name="six"),
            service(name="full", vip=FULL, nat=Nat.FULL),
            service(name="dns", protocol=Protocol.UDP),
            service(BACKEND6, name="dns six", protocol=Protocol.UDP),
        )
        self.forward = fast_path(self.gateway.director.table)
        self.tcp = self.gateway.open()
        self.tcp6 = self.gateway.open(CLIENT6)
        self.full = self.gateway.open(CLIENT, FULL)
        self.udp, self.udp6 = (self._exchange(*ends) for ends in ((CLIENT, VIP), (CLIENT6, VIP6)))
        self.buffer = bytearray(FRAME_MAX)

    def _exchange(self, client, vip):
        query = Sent(client, vip, protocol=UDP, payload=b"query")
        seen = self.gateway.forwarded(query)
        reply = Sent(seen.destination, seen.source, protocol=UDP, payload=b"reply")
        self.gateway.forwarded(reply)
        self.gateway.forwarded(query)
        return query, reply

    def send(self, sent):
        """The next hop, and the frame as it is afterwards; of garbage behind it nothing is read."""
        frame = sent.frame() if isinstance(sent, Sent) else sent
        self.buffer[:] = b"\x5a" * FRAME_MAX
        self.buffer[: len(frame)] = frame
        hop = self.forward(self.buffer, len(frame), self.gateway.now)
        assert not self.buffer[len(frame) :].strip(b"\x5a")
        return hop, bytes(self.buffer[: len(frame)])

    def taken(self, sent):
        """What came out of a packet that must be taken."""
        hop, frame = self.send(sent)
        assert hop is not None
        seen = read(frame)
        assert seen.right
        return hop, seen

    def state(self):
        """Everything that a packet could change."""
        director = self.gateway.director
        return (
            [(c.state, c.seen, c.acked_by_client, c.acked_by_backend) for c in director.table],
            [
                (path.packets_in, path.packets_out, path.bytes_in, path.bytes_out)
                for path in director.services.paths()
            ],
        )

    def left(self, sent):
        """Assert that a packet is left as it is, and so is everything else."""
        self.gateway.now += 1
        before = self.state()
        frame = bytes(sent.frame() if isinstance(sent, Sent) else sent)
        assert self.send(sent) == (None, frame)
        assert self.state() == before


@pytest.fixture
def fast():
    return Fast()


ALL = ["tcp", "tcp6", "full", "udp", "udp6"]


@pytest.mark.parametrize("kind", ALL)
class TestTaken:
    def test_both_directions(self, fast, kind):
        ours, theirs = (replace(sent, payload=b"data") for sent in getattr(fast, kind))
        hop, seen = fast.taken(ours)
        assert hop.index == BACKENDS
        assert seen.destination == theirs.source
        assert seen.source == theirs.destination
        assert (seen.ttl, seen.payload) == (63, b"data")
        hop, seen = fast.taken(theirs)
        assert hop.index == CLIENTS
        assert (seen.source, seen.destination) == (ours.destination, ours.source)

    def test_the_ethernet_header_is_the_hops(self, fast, kind):
        ours, theirs = getattr(fast, kind)
        for sent in (ours, theirs):
            hop, frame = fast.send(sent)
            assert frame[10:24] == hop.header

    def test_it_counts_and_remembers(self, fast, kind):
        ours, _ = (replace(sent, payload=b"data") for sent in getattr(fast, kind))
        connection = fast.gateway.connection(ours)
        packets_in, bytes_in = connection.path.packets_in, connection.path.bytes_in
        fast.gateway.now += 7
        fast.taken(replace(ours, acknowledgement=99))
        assert connection.seen == fast.gateway.now
        assert connection.path.packets_in == packets_in + 1
        assert connection.path.bytes_in == bytes_in + len(ours.packet())
        assert connection.acked_by_client == (99 if ours.protocol == 6 else None)

    @pytest.mark.parametrize("sums", ["partial", "wrong"])
    def test_partial_and_wrong_checksums_stay_what_they_are(self, fast, kind, sums):
        for sent in getattr(fast, kind):
            hop, frame = fast.send(replace(sent, checksum=sums))
            assert hop is not None
            assert read(frame).transport_right == (sums == "partial")

    @pytest.mark.parametrize(
        "changes", [{"ttl": 1}, {"ttl": 0}, {"trailer": b"pad"}, {"payload": bytes(1500)}], ids=str
    )
    def test_left_to_the_clear_way(self, fast, kind, changes):
        for sent in getattr(fast, kind):
            fast.left(replace(sent, **changes))

    def test_left_where_the_neighbour_is_not_known(self, fast, kind):
        for hop in fast.gateway.hops.values():
            hop.header = None
        for sent in getattr(fast, kind):
            fast.left(sent)

    def test_left_where_the_backend_is_gone(self, fast, kind):
        for path in fast.gateway.director.services.paths():
            path.alive = False
        for sent in getattr(fast, kind):
            fast.left(sent)
        for path in fast.gateway.director.services.paths():
            path.reset_when_down = False
        for sent in getattr(fast, kind):
            fast.taken(sent)

    def test_fragments_are_left(self, fast, kind):
        for sent in getattr(fast, kind):
            for piece in replace(sent, payload=bytes(100)).fragments(48):
                fast.left(piece)

    def test_of_other_connections_it_knows_nothing(self, fast, kind):
        for sent in getattr(fast, kind):
            fast.left(replace(sent, source=replace(sent.source, port=9)))


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "full"])
class TestTcp:
    @pytest.mark.parametrize("flags", [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, PSH, FIN, URG])
    def test_what_may_change_the_state_is_left(self, fast, kind, flags):
        for sent in getattr(fast, kind):
            fast.left(replace(sent, flags=flags))

    @pytest.mark.parametrize("flags", [ACK, ACK | PSH, ACK | URG])
    def test_data_and_acknowledgements_are_taken(self, fast, kind, flags):
        for sent in getattr(fast, kind):
            fast.taken(replace(sent, flags=flags, options=bytes([1] * 40)))

    @pytest.mark.parametrize("state", [state for state in State if state is not State.ESTABLISHED])
    def test_in_other_states_all_is_left(self, fast, kind, state):
        for sent in getattr(fast, kind):
            fast.gateway.connection(sent).state = state
            fast.left(sent)

    @pytest.mark.parametrize("offset", [0x00, 0x40, 0xF0])
    def test_headers_that_are_too_short_or_long_are_left(self, fast, kind, offset):
        for sent in getattr(fast, kind):
            frame = sent.frame()
            frame[len(frame) - 8] = offset
            fast.left(frame)

    def test_large_frames_are_taken_if_their_segments_fit(self, fast, kind):
        ip = 20 if kind != "tcp6" else 40
        for sent in getattr(fast, kind):
            for options in (b"", bytes([1] * 12)):
                fits = 1500 - ip - 20 - len(options)
                large = replace(sent, payload=bytes(9000), options=options, checksum="partial")
                fast.taken(replace(large, gso_size=fits))
                fast.left(replace(large, gso_size=fits + 1))

    def test_a_large_frame_that_does_not_say_how_it_is_cut_is_left(self, fast, kind):
        for sent in getattr(fast, kind):
            frame = replace(sent, payload=bytes(9000), gso_size=1000, checksum="partial").frame()
            frame[4:6] = bytes(2)
            fast.left(frame)

    def test_the_largest_packet_that_fits_is_taken(self, fast, kind):
        ip = 20 if kind != "tcp6" else 40
        for sent in getattr(fast, kind):
            fast.taken(replace(sent, payload=bytes(1500 - ip - 20)))
            fast.left(replace(sent, payload=bytes(1501 - ip - 20)))


@pytest.mark.parametrize("kind", ["udp", "udp6"])
class TestUdp:
    def test_a_checksum_that_becomes_zero_is_sent_as_ffff(self, fast, kind):
        for sent in getattr(fast, kind):
            _, seen = fast.taken(replace(sent, payload=b"\0\0"))
            # With the checksum of that as payload the sum is all ones, and its complement zero.
            field = (seen.packet[20:] if kind == "udp" else seen.packet[40:])[6:8]
            hop, frame = fast.send(replace(sent, payload=field))
            assert hop is not None
            assert frame[-4:-2] == b"\xff\xff"
            assert read(frame).right

    def test_without_a_checksum_it_stays_without(self, fast, kind):
        for sent in getattr(fast, kind):
            hop, frame = fast.send(replace(sent, checksum="none", payload=b"data"))
            assert hop is not None
            assert frame[-6:-4] == b"\0\0"

    @pytest.mark.parametrize("length", [0, 7, 14, 0xFFFF])
    def test_lengths_that_are_wrong_are_left(self, fast, kind, length):
        for sent in getattr(fast, kind):
            frame = sent.frame()
            frame[len(frame) - 9 : len(frame) - 7] = length.to_bytes(2, "big")
            fast.left(frame)

    @pytest.mark.parametrize("state", [State.UDP_NEW, State.UDP_ANSWERED])
    def test_a_flow_that_has_just_begun_is_left(self, fast, kind, state):
        for sent in getattr(fast, kind):
            fast.gateway.connection(sent).state = state
            fast.left(sent)


class TestOddPackets:
    @pytest.mark.parametrize(
        "change", [{"ip_options": b"\1\1\1\0"}, {"extensions": ((60, b"\0\1\4\0\0\0\0"),)}], ids=str
    )
    def test_with_options_or_extension_headers_are_left(self, fast, change):
        ours, _ = fast.tcp if "ip_options" in change else fast.tcp6
        fast.left(replace(ours, **change))

    @pytest.mark.parametrize("ethertype", [b"\x08\x06", b"\x81\x00", b"\x86\xdd"])
    def test_with_another_ethertype_are_left(self, fast, ethertype):
        frame = fast.tcp[0].frame()
        frame[22:24] = ethertype
        fast.left(frame)

    @pytest.mark.parametrize("end", [0, 10, 24, 43, 44, 63])
    def test_cut_off_are_left(self, fast, end):
        fast.left(fast.tcp[0].frame()[:end])
        fast.left(fast.tcp6[0].frame()[:end])

    def test_the_version_in_the_header_must_be_the_ethertypes(self, fast):
        for sent in (fast.tcp[0], fast.tcp6[0]):
            frame = sent.frame()
            frame[24] ^= 0x20
            fast.left(frame)


def test_what_the_hop_becomes_holds_at_once(fast):
    """Neighbours move, and routes change, without the connections being told."""
    ours, _ = fast.tcp
    hop = fast.gateway.hops[BACKENDS, 4]
    hop.header = bytes(14)
    assert fast.send(ours)[1][10:24] == bytes(14)
    fast.gateway.director.services.paths()[0].hop = new = Hop(9, BACKEND.ip, 1500)
    new.header = b"\2" * 14
    assert fast.send(ours)[0] is new
