"""The three forms of the claim say the same. The fourth, nftables, is held against them in the lab."""

from hypothesis import assume, given
from hypothesis import strategies as st

from l4lb.datapath.raw.claim import HAND_BACK_MARK, Claim
from l4lb.director.parse import parse
from l4lb.wire.frame import PLAIN
from tests.property.claim_samples import LOCAL, claimed, frame, plans, samples
from tests.unit import bpf_machine


def parsed(sample):
    buffer = bytearray(PLAIN + frame(sample))
    return parse(buffer, len(buffer))


@given(plans(), samples())
def test_covers_agrees_with_the_rules_one_by_one(plan, sample):
    packet = parsed(sample)
    covered = Claim.of(plan).covers(packet, LOCAL)
    if packet.icmp_error and packet.quoted is None:
        assert covered or not claimed(sample, plan, LOCAL)  # a guess, on the safe side
    else:
        assert covered == claimed(sample, plan, LOCAL)


@given(plans(), samples())
def test_the_filter_accepts_what_is_covered_and_nothing_else(plan, sample):
    """It does not know which addresses are local, nor what is behind IPv6 extension headers."""
    claim = Claim.of(plan)
    packet = parsed(sample)
    assume(not packet.icmp_error or packet.quoted)
    accepted, _ = bpf_machine.run(bpf_machine.load(claim.packet_filter()), frame(sample))
    anywhere = claim.covers(packet, frozenset()) or claim.covers(packet, frozenset({packet.destination}))
    claims_version = any(len(ip) == len(sample.source) for ip in claim.vips)
    assert bool(accepted) == (anywhere or bool(sample.extensions and claims_version))


@given(plans(), samples(), st.integers(0, 6000))
def test_a_filter_with_little_room_accepts_all_that_is_covered(plan, sample, room):
    claim = Claim.of(plan)
    program = claim.packet_filter(option_memory=room)
    if claimed(sample, plan, LOCAL):
        assert bpf_machine.run(bpf_machine.load(program), frame(sample))[0] > 0xFFFF


@given(
    plans(), samples(), st.sampled_from([{"mark": HAND_BACK_MARK}, {"vlan": 0xA007}, {"packet_type": 3}])
)
def test_the_filter_rejects_what_is_handed_back_tagged_or_for_another_mac(plan, sample, beside):
    program = bpf_machine.load(Claim.of(plan).packet_filter())
    assert bpf_machine.run(program, frame(sample), **beside)[0] == 0


@given(plans(), samples(), st.integers(0, 7))
def test_a_priority_is_no_vlan(plan, sample, priority):
    program = bpf_machine.load(Claim.of(plan).packet_filter())
    without = bpf_machine.run(program, frame(sample))[0]
    assert bpf_machine.run(program, frame(sample), vlan=priority << 13)[0] == without


@given(plans(), st.binary(max_size=80))
def test_the_filter_takes_any_bytes(plan, data):
    bpf_machine.run(bpf_machine.load(Claim.of(plan).packet_filter()), data)
