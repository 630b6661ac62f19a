from zlib import crc32

from l4lb.model import Endpoint, Key
from l4lb.schedulers import Candidate
from l4lb.schedulers.hash import endpoint_bytes, murmur3
from l4lb.schedulers.maglev import OFFSET_SEED, SKIP_SEED, TABLE_SIZE, maglev_table
from tests.unit.schedulers.candidates import counts, owners, with_weights


def test_population_follows_the_pseudocode_of_the_paper() -> None:
    """Section 3.4: permutations written out in full, one slot a backend and round."""
    candidates = with_weights(1, 1, 1)
    size = 13
    permutation = []
    for candidate in candidates:
        name = endpoint_bytes(candidate.address)
        offset, skip = murmur3(name, OFFSET_SEED) % size, murmur3(name, SKIP_SEED) % (size - 1) + 1
        permutation.append([(offset + j * skip) % size for j in range(size)])
    entry: dict[int, int] = {}
    turn = 0
    while len(entry) < size:
        backend = turn % len(candidates)
        entry[next(slot for slot in permutation[backend] if slot not in entry)] = backend
        turn += 1

    assert maglev_table(candidates, size).slots == tuple(entry[slot] for slot in range(size))


def test_the_production_table_has_the_papers_size_and_is_keyed_by_flow() -> None:
    table = maglev_table(with_weights(1, 2))

    assert TABLE_SIZE == 65537
    assert table.key is Key.FLOW
    assert len(table.slots) == TABLE_SIZE


def test_equal_backends_differ_by_one_slot_at_most() -> None:
    candidates = with_weights(*[3] * 100)
    held = counts(maglev_table(candidates), candidates)

    assert max(held) - min(held) == 1  # 65537 is not a multiple of 100


def test_a_single_backend_has_every_slot() -> None:
    (candidate,) = with_weights(9)

    assert set(maglev_table([candidate], 1009).slots) == {candidate.index}


def test_ports_of_one_server_are_different_backends() -> None:
    candidates = [Candidate(i, Endpoint(bytes([10, 2, 0, 1]), 8080 + i), 1) for i in range(4)]

    assert counts(maglev_table(candidates, 4001), candidates) == [1001, 1000, 1000, 1000]


def test_the_table_is_the_same_in_every_release() -> None:
    """Two gateways of different versions, or one before and after an upgrade, must agree."""
    four = with_weights(1, 2, 3, 4)
    six = [Candidate(i, Endpoint.parse(f"[2001:db8::{i + 1}]:443"), 1) for i in range(4)]

    assert _fingerprint(four) == 3297823042
    assert _fingerprint(six) == 3116994128


def _fingerprint(candidates: list[Candidate]) -> int:
    return crc32("".join(map(str, owners(maglev_table(candidates, 1009), candidates))).encode())
