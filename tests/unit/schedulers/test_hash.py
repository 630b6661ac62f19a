import struct

import pytest

from l4lb.model import Endpoint
from l4lb.schedulers.hash import SEED, endpoint_bytes, flow_hash, murmur3, source_hash


@pytest.mark.parametrize(
    ("data", "seed", "expected"),
    [
        # I. Boyd, stackoverflow.com/a/31929528, checked against SMHasher.
        (b"", 0, 0),
        (b"", 1, 0x514E28B7),
        (b"", 0xFFFFFFFF, 0x81F16F39),
        (b"\xff\xff\xff\xff", 0, 0x76293B50),
        (b"\x21\x43\x65\x87", 0, 0xF55B516B),
        (b"\x21\x43\x65\x87", 0x5082EDEE, 0x2362F9DE),
        (b"\x00\x00\x00\x00", 0, 0x2362F9DE),
        (b"aaaa", 0x9747B28C, 0x5A97808A),
        (b"abcd", 0x9747B28C, 0xF0478627),
        # google/guava, Murmur3Hash32Test.testKnownLongInputs: eight bytes.
        (struct.pack("<q", 0), 0, 1669671676),
        (struct.pack("<q", -42), 0, -846261623 % 2**32),
        (struct.pack("<q", 42), 0, 1871679806),
        (struct.pack("<q", -(2**63)), 0, 1366273829),
        (struct.pack("<q", 2**63 - 1), 0, -2106506049 % 2**32),
        # The lengths of addresses and tuples, from mmh3 5 (the reference code in C).
        (bytes(range(1, 13)), 0x9747B28C, 0x7A6C648C),
        (bytes(range(16)), 0x9747B28C, 0x816F3764),
        (bytes(range(36)), 0x9747B28C, 0xB7BB4C0D),
    ],
)
def test_murmur3_agrees_with_published_vectors(data: bytes, seed: int, expected: int) -> None:
    assert murmur3(data, seed) == expected


def test_murmur3_refuses_half_words() -> None:
    with pytest.raises(struct.error, match="multiple of 4"):
        murmur3(b"abc", 0)


def test_source_and_flow_hash_use_the_documented_seed() -> None:
    client = Endpoint.parse("10.1.0.7:1").ip
    flow = client + Endpoint.parse("10.1.0.100:80").ip + struct.pack("!HH", 40000, 80)

    assert SEED.to_bytes(4, "big") == b"l4lb"
    assert source_hash(client) == murmur3(client, SEED)
    assert flow_hash(flow) == murmur3(flow, SEED)


def test_endpoint_bytes_are_whole_words_and_tell_ports_apart() -> None:
    assert endpoint_bytes(Endpoint.parse("10.2.0.11:8080")).hex() == "0a02000b00001f90"
    assert len(endpoint_bytes(Endpoint.parse("[2001:db8::1]:80"))) == 20
