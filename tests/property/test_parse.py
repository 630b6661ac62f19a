"""Whatever the bytes: no exception, and offsets that later steps can rely on."""

from hypothesis import given
from hypothesis import strategies as st

from l4lb.director.parse import parse, segment_length
from tests.property.effort import examples
from tests.property.moves import flags, odd, plain
from tests.unit.director import packets
from tests.unit.director.gateway import CLIENT, CLIENT6, VIP, VIP6
from tests.unit.director.packets import ICMP, ICMPV6, TCP, UDP, Sent

IP = packets.IP
HEADERS = {TCP: 20, UDP: 8, ICMP: 8, ICMPV6: 8}

ends = st.sampled_from([(CLIENT, VIP), (CLIENT6, VIP6)])
valid = st.builds(
    lambda ends, protocol, flags, shape: Sent(*ends, protocol=protocol, flags=flags, **shape),
    ends,
    st.sampled_from([TCP, UDP]),
    flags,
    plain | odd,
)
pieces = st.builds(
    lambda sent, which: sent.fragments(64)[which % len(sent.fragments(64))], valid, st.integers(0, 99)
)
errors = st.builds(
    lambda sent, length, kind: packets.icmp_error(
        sent.destination.ip, sent.source.ip, sent.packet()[:length], kind=kind
    ),
    valid,
    st.integers(0, 100),
    st.integers(1, 12),
)
good = valid.map(Sent.frame) | pieces | errors
noise = st.builds(
    lambda start, data: bytearray(start + data),
    st.sampled_from([bytes(22), bytes(22) + b"\x08\x00", bytes(22) + b"\x86\xdd"]),
    st.binary(max_size=120),
)
damage = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4)


def check(frame, end):
    before = bytes(frame)
    packet = parse(frame, end)
    assert frame == before
    if packet is None or packet.error is not None:
        return packet
    assert IP + 20 <= packet.transport <= packet.end <= end
    assert len(packet.source) == len(packet.destination) == (4 if packet.version == 4 else 16)
    if packet.fragment_offset:
        assert packet.key == b""
        assert packet.quoted is None
    elif packet.protocol in (TCP, UDP):
        assert packet.transport + HEADERS[packet.protocol] <= packet.end
        assert packet.key[-4:] == frame[packet.transport : packet.transport + 4]
        assert packet.payload >= 0
        assert 0 < segment_length(frame, packet) <= packet.end - IP
    if packet.icmp_error:
        quoted = packet.quoted
        assert packet.transport + 8 == quoted.at
        assert quoted.at + 20 <= quoted.transport <= quoted.end <= packet.end
        if quoted.sport >= 0:
            assert quoted.transport + 8 <= quoted.end
    return packet


@examples(400)
@given(good, damage, st.integers(0, 60))
def test_damaged_packets(frame, damage, cut):
    for at, value in damage:
        frame[packets.VNET + at % (len(frame) - packets.VNET)] = value
    check(frame, max(0, len(frame) - cut))


@examples(200)
@given(noise)
def test_any_bytes(frame):
    check(frame, len(frame))


@examples(200)
@given(valid)
def test_good_packets_are_read_as_they_were_built(sent):
    packet = check(sent.frame(), len(sent.frame()))
    assert packet.error is None
    assert (packet.source, packet.sport) == (sent.source.ip, sent.source.port)
    assert (packet.destination, packet.dport) == (sent.destination.ip, sent.destination.port)
    assert (packet.key, packet.ttl) == (sent.key, sent.ttl)
    assert packet.end == len(sent.frame()) - len(sent.trailer)
    if sent.protocol == TCP:
        assert packet.payload == len(sent.payload)
        assert (packet.sequence, packet.acknowledgement) == (sent.sequence, sent.acknowledgement)
