"""The packet process is told what is new, and of nothing twice."""

from dataclasses import replace

from l4lb.datapath.raw.kernel_news import Known, News
from l4lb.netlink.state import Address, KernelState, Link, Neighbour, Route

ETH0 = Link(2, "eth0", bytes(6), 1500, True)
DEFAULT, LAN, SECOND = (
    Route(bytes(4), 0, 2),
    Route(bytes([10, 0, 0, 0]), 8, 2),
    Route(bytes(4), 0, 2, metric=9),
)
STATE = KernelState((ETH0,), (Address(2, bytes([10, 0, 0, 1]), 8),), (DEFAULT, LAN))


def known():
    knows = Known()
    knows.learn(STATE)
    return knows


def test_everything_at_first():
    routes = {(bytes(4), 0): (DEFAULT,), (bytes([10, 0, 0, 0]), 8): (LAN,)}
    assert Known().learn(STATE) == News(STATE.links, STATE.addresses, routes)


def test_then_only_what_has_changed():
    knows = known()
    assert knows.learn(replace(STATE, routes=(DEFAULT, LAN, SECOND))) == News(
        None, None, {(bytes(4), 0): (DEFAULT, SECOND)}
    )
    assert knows.learn(replace(STATE, routes=(DEFAULT,))) == News(
        None, None, {(bytes(4), 0): (DEFAULT,), (bytes([10, 0, 0, 0]), 8): ()}
    )
    assert knows.learn(replace(STATE, links=())) == News((), None, {(bytes([10, 0, 0, 0]), 8): (LAN,)})
    assert knows.learn(replace(STATE, addresses=())) == News(STATE.links, (), {})


def test_nothing_of_what_is_known_or_of_neighbours():
    knows = known()
    assert knows.learn(KernelState(STATE.links, STATE.addresses, STATE.routes)) is None
    assert knows.learn(replace(STATE, neighbours=(Neighbour(2, bytes(4), bytes(6)),))) is None
