"""Who is measured when."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.compare import comparison
from benchmark.compare.loads import Outcome
from benchmark.peers.peers import Peer

PEERS = ["ours", "theirs", "third"]


class Site:
    def __init__(self) -> None:
        self.alone = False

    @contextmanager
    def one_core(self) -> Iterator[None]:
        self.alone = True
        try:
            yield
        finally:
            self.alone = False

    def check_clean(self) -> None:
        pass

    def next_client(self) -> str:
        return ""

    def wait_serving(self, frontend: object) -> None:
        pass


def test_of_a_load_all_peers_take_their_turns_one_after_the_other(monkeypatch: pytest.MonkeyPatch):
    running: list[str] = []
    happened: list[tuple[str, str]] = []

    def peer(name: str) -> Peer:
        @contextmanager
        def serve(hosts: object) -> Iterator[Any]:
            running.append(name)
            yield SimpleNamespace()
            running.remove(name)

        return Peer(name, name, serve)

    def load(name: str) -> Any:
        def run(site: object, frontend: object, seconds: int) -> Outcome:
            (alone,) = running
            happened.append((name, alone))
            return Outcome({name: 1.0})

        return run

    monkeypatch.setattr(comparison, "PEERS", {name: peer(name) for name in PEERS})
    monkeypatch.setattr(comparison, "LOADS", {name: load(name) for name in ("bulk", "requests")})
    told: list[str] = []
    measured = list(comparison.compare(Site(), PEERS, ["bulk", "requests"], 2, 1, told.append))  # type: ignore[arg-type]
    assert len(told) == comparison.steps(PEERS, ["bulk", "requests"], 2)
    first, second = ("ours", "theirs", "third"), ("theirs", "third", "ours")
    expected = [
        (load, name) for order in (first, second) for load in ("bulk", "requests") for name in order
    ]
    assert happened == expected
    assert [(it.load, it.peer) for it in measured] == expected
    assert [it.round for it in measured] == [1] * 6 + [2] * 6


def test_for_requests_a_balancer_is_started_on_the_core_that_all_share(monkeypatch: pytest.MonkeyPatch):
    started: list[tuple[str, bool]] = []
    site, names = Site(), ["bulk_upload", "keepalive", "connections", "ping_pong"]

    @contextmanager
    def serve(hosts: Any) -> Iterator[Any]:
        started.append((names[len(started)], hosts.alone))
        yield SimpleNamespace()

    monkeypatch.setattr(comparison, "PEERS", {"ours": Peer("ours", "ours", serve)})
    monkeypatch.setattr(comparison, "LOADS", dict.fromkeys(names, lambda *_: Outcome()))
    list(comparison.compare(site, ["ours"], names, 1, 1, lambda _: None))  # type: ignore[arg-type]
    assert dict(started) == {
        "bulk_upload": False,
        "keepalive": True,
        "connections": True,
        "ping_pong": True,
    }
    assert not site.alone
