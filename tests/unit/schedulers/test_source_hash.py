from zlib import crc32

from l4lb.model import Endpoint, Key
from l4lb.schedulers import Candidate
from l4lb.schedulers.source_hash import TABLE_SIZE, source_table
from tests.unit.schedulers.candidates import counts, owners, with_weights


def test_the_table_is_keyed_by_source_and_of_fixed_size() -> None:
    one, many = source_table(with_weights(5)), source_table(with_weights(*range(1, 30)))

    assert one.key is many.key is Key.SOURCE
    assert len(one.slots) == len(many.slots) == TABLE_SIZE == 65536
    assert set(one.slots) == {0}


def test_equal_backends_have_equal_shares_as_far_as_chance_goes() -> None:
    candidates = with_weights(*[1] * 16)
    held = counts(source_table(candidates), candidates)

    assert sum(held) == 65536
    assert all(abs(slots - 4096) < 5 * 62 for slots in held)  # 62: sqrt(65536 * 1/16 * 15/16)


def test_a_light_backend_beside_a_heavy_one_has_its_share() -> None:
    candidates = with_weights(99, 1)
    held = counts(source_table(candidates), candidates)

    assert abs(held[1] - 655) < 5 * 25.5  # sqrt(65536 * 0.01 * 0.99)


def test_the_table_is_the_same_in_every_release() -> None:
    """Two gateways of different versions, or one before and after an upgrade, must agree."""
    four = with_weights(1, 2, 3, 4)
    six = [Candidate(i, Endpoint.parse(f"[2001:db8::{i + 1}]:443"), 1) for i in range(4)]

    assert _fingerprint(four) == 3665512767
    assert _fingerprint(six) == 2308237191


def _fingerprint(candidates: list[Candidate]) -> int:
    return crc32("".join(map(str, owners(source_table(candidates, 1024), candidates))).encode())
