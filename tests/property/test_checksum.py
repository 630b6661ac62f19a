"""Repairing a checksum gives what summing everything anew gives."""

from hypothesis import given
from hypothesis import strategies as st

from l4lb.wire.checksum import checksum, delta, fold, ones_sum, pseudo_header, update, update_partial
from tests.property.effort import examples
from tests.unit.director import packets

data = st.binary(max_size=200)
# Words near both zeros of one's complement, where arithmetic goes wrong.
edgy = st.lists(st.sampled_from([b"\0\0", b"\0\1", b"\xff\xfe", b"\xff\xff", b"\x80\0"]), max_size=12)
bytes_of_words = st.one_of(edgy.map(b"".join), st.binary(max_size=24).map(lambda some: some + some[::-1]))
addresses = st.one_of(
    st.tuples(*[st.binary(min_size=4, max_size=4)] * 2),
    st.tuples(*[st.binary(min_size=16, max_size=16)] * 2),
)


@examples(300)
@given(data | bytes_of_words)
def test_one_division_sums_as_word_by_word_does(some):
    assert ones_sum(some) == packets.words_sum(some)
    assert checksum(some) == packets.checksum(some)


@examples(300)
@given(bytes_of_words, bytes_of_words, bytes_of_words)
def test_a_repaired_checksum_is_the_one_computed_anew(before, old, after):
    """Data that is not all zero, as no packet is: only the sum of zeros is 0."""
    new = old[::-1]
    whole, changed = b"\0\1" + before + old + after, b"\0\1" + before + new + after
    assert update(checksum(whole), delta(old, new)) == checksum(changed)


@examples(300)
@given(st.integers(0, 0xFFFF), bytes_of_words)
def test_a_wrong_checksum_stays_as_wrong_as_it_was(error, old):
    """Damage on the way to us must be found by the receiver."""
    new = old[::-1]
    whole, changed = b"\0\1" + old, b"\0\1" + new
    damaged = fold(checksum(whole) + error)
    repaired = update(damaged, delta(old, new))
    verifies = packets.words_sum(changed + repaired.to_bytes(2, "big")) == 0xFFFF
    assert verifies == (packets.words_sum(whole + damaged.to_bytes(2, "big")) == 0xFFFF)


@examples(200)
@given(addresses, addresses, st.sampled_from([6, 17, 58]), st.integers(0, 0xFFFF))
def test_a_partial_field_follows_addresses(old, new, protocol, length):
    if len(old[0]) != len(new[0]):
        new = old[::-1]
    field = pseudo_header(*old, protocol, length)
    assert field == packets.words_sum(packets.pseudo_header(*old, protocol, length))
    followed = update_partial(field, delta(b"".join(old), b"".join(new)))
    assert followed % 0xFFFF == pseudo_header(*new, protocol, length) % 0xFFFF


@examples(200)
@given(st.integers(min_value=0, max_value=1 << 80))
def test_folding_keeps_the_value(total):
    assert 0 <= fold(total) <= 0xFFFF
    assert fold(total) % 0xFFFF == total % 0xFFFF
    assert (fold(total) == 0) == (total == 0)
