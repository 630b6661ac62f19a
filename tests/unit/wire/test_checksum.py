"""The Internet checksum, by the RFCs' own examples."""

import pytest

from l4lb.wire.checksum import checksum, delta, fold, ones_sum, pseudo_header, update, update_partial

RFC_1071 = bytes.fromhex("0001f203f4f5f6f7")


class TestSums:
    def test_example_of_rfc_1071(self):
        assert ones_sum(RFC_1071) == 0xDDF2
        assert checksum(RFC_1071) == 0x220D

    @pytest.mark.parametrize(
        ("data", "total"),
        [
            (b"", 0),
            (b"\0", 0),
            (b"\0\0\0\0", 0),
            (b"\x12", 0x1200),
            (b"\x12\x34\x56", 0x6834),
            (b"\xff\xff", 0xFFFF),
            (b"\xff\xff\xff\xff", 0xFFFF),
            (b"\xff\xfe\0\x01", 0xFFFF),
            (b"\xff\xff\0\x01", 0x0001),
        ],
    )
    def test_odd_lengths_and_both_zeros(self, data, total):
        assert ones_sum(data) == total

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_buffer(self, kind):
        assert ones_sum(kind(RFC_1071)) == 0xDDF2

    @pytest.mark.parametrize(
        ("total", "folded"),
        [(0, 0), (0xFFFF, 0xFFFF), (0x10000, 1), (0x1FFFE, 0xFFFF), (0xFFFF_FFFF, 0xFFFF)],
    )
    def test_carries_come_round(self, total, folded):
        assert fold(total) == folded

    def test_data_with_its_checksum_sums_to_all_ones(self):
        assert ones_sum(RFC_1071 + checksum(RFC_1071).to_bytes(2, "big")) == 0xFFFF

    def test_an_initial_sum_goes_in(self):
        assert checksum(RFC_1071[4:], ones_sum(RFC_1071[:4])) == checksum(RFC_1071)


class TestPseudoHeader:
    def test_of_ipv4(self):
        """UDP 192.0.2.1 -> 198.51.100.2, 8 bytes, word by word."""
        words = [0xC000, 0x0201, 0xC633, 0x6402, 17, 8]
        assert pseudo_header(bytes([192, 0, 2, 1]), bytes([198, 51, 100, 2]), 17, 8) == fold(sum(words))

    def test_of_ipv6_lengths_have_32_bits(self):
        source, destination = bytes(15) + b"\1", bytes(15) + b"\2"
        assert pseudo_header(source, destination, 6, 0x1_0002) == 1 + 2 + 6 + 1 + 2


class TestRepair:
    def test_example_of_rfc_1624(self):
        """Section 4: a field of 0xdd2f, a word that goes from 0x5555 to 0x3285: the field becomes 0,
        where equation 4 of RFC 1141 gave 0xffff."""
        assert update(0xDD2F, delta(b"\x55\x55", b"\x32\x85")) == 0x0000

    def test_a_change_and_its_opposite_cancel(self):
        old, new = b"\x0a\x00\x00\x01\x12\x34", b"\xc0\xa8\x01\x02\xff\xff"
        for field in (0x0000, 0x1234, 0xFFFE):
            assert update(update(field, delta(old, new)), delta(new, old)) == field

    def test_no_change_leaves_a_good_checksum(self):
        """0xffff is the one value that a sender does not compute (RFC 1624 3)."""
        for field in (0x0000, 0x0001, 0x8000, 0xFFFE):
            assert update(field, delta(b"same", b"same")) == field

    def test_zero_in_either_form_is_no_change(self):
        assert update(0x1234, 0) == update(0x1234, 0xFFFF) == 0x1234

    def test_a_partial_field_takes_addresses_in(self):
        old, new = bytes([192, 0, 2, 1]), bytes([10, 0, 0, 1])
        other = bytes([198, 51, 100, 2])
        field = pseudo_header(old, other, 6, 40)
        assert update_partial(field, delta(old, new)) == pseudo_header(new, other, 6, 40)
