"""What is remembered of connections that are not ours."""

import pytest

from l4lb.director import direct
from l4lb.director.direct import DirectConnections
from l4lb.model import Endpoint

VIP, OTHER = Endpoint.parse("192.0.2.1:80"), Endpoint.parse("192.0.2.1:81")


@pytest.fixture
def known():
    return DirectConnections()


def test_a_noted_one_is_direct(known):
    known.note(b"reply")
    assert b"reply" in known
    assert b"other" not in known


def test_denials_add_up_and_do_not_make_it_direct(known):
    assert known.denied(b"reply") == set()
    known.deny(b"reply", VIP)
    known.deny(b"reply", OTHER)
    assert known.denied(b"reply") == {VIP, OTHER}
    assert b"reply" not in known


def test_one_that_turns_out_direct_is_denied_no_more(known):
    known.deny(b"reply", VIP)
    known.note(b"reply")
    assert b"reply" in known
    assert known.denied(b"reply") == set()


def test_the_one_used_least_recently_is_forgotten(known, monkeypatch):
    monkeypatch.setattr(direct, "LIMIT", 2)
    known.note(b"first")
    known.note(b"second")
    assert b"first" in known  # which uses it
    known.deny(b"third", VIP)
    assert len(known) == 2
    assert b"second" not in known
    assert b"first" in known
    assert known.denied(b"third") == {VIP}
