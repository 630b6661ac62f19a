"""What explain says of a client against what the director then does with its connection."""

from __future__ import annotations

from random import Random

import pytest

from l4lb.control.explain import Known, explain
from l4lb.datapath.raw.reports import loads
from l4lb.director.director import Director
from l4lb.director.parse import parse
from l4lb.director.select import ServiceState, select
from l4lb.model import Backend, BackendPlan, Endpoint, Plan, Protocol, Selection, Service, ServicePlan
from l4lb.schedulers import Candidate, adaptive, compile_selection
from l4lb.schedulers.adaptive import Pool
from l4lb.schedulers.measured import Measured
from tests.unit.director.gateway import VIP, VIP6
from tests.unit.director.packets import TCP, UDP, Sent

ROUNDS = 40


class Compared:
    """A service of seven backends in a director, and what explain is given of it."""

    def __init__(self, scheduler: str, version: int, protocol: Protocol, random: Random) -> None:
        self.random, self.version, self.protocol = random, version, protocol
        self.vip = VIP if version == 4 else VIP6
        prefix = b"\x0a\2\0" if version == 4 else bytes.fromhex("20010db8 00020000") + bytes(7)
        backends = tuple(
            Backend(Endpoint(prefix + bytes((11 + number,)), 8080), random.randint(1, 4))
            for number in range(7)
        )
        candidates = [Candidate(index, each.address, each.weight) for index, each in enumerate(backends)]
        selection = (
            adaptive.costs(candidates, self._pool(backends), 10.0)
            if scheduler == adaptive.SCHEDULER.name
            else compile_selection(scheduler, candidates)
        )
        self.service = Service("web", self.vip, protocol, scheduler, backends=backends)
        self.plan = self._plan(selection)
        self.director = Director(0.0, lambda address: None, random)
        self.director.configure(Plan((self.plan,)))

    def _pool(self, backends: tuple[Backend, ...]) -> Pool:
        """Of some that are slow, some that are hot and connections that are kept."""
        pool, random = Pool(), self.random
        usual = {each.address: random.choice((0.1, 0.3, 1.0)) for each in backends}
        hot = set(random.sample(sorted(usual), 2))
        weights = {each.address: each.weight for each in backends}
        for look in range(100):
            seen = {
                address: Measured(
                    opened=weights[address], idle=2, answers=3, answer_time=3 * each, hot=address in hot
                )
                for address, each in usual.items()
            }
            pool = adaptive.observe(pool, seen, look / 10)
        return pool

    def _plan(self, selection: Selection) -> ServicePlan:
        backends = tuple(BackendPlan(each.address) for each in self.service.backends)
        return ServicePlan("web", self.vip, self.protocol, selection, backends)

    @property
    def state(self) -> ServiceState:
        state = self.director.services.at(self.protocol, self.vip.ip, self.vip.port)
        assert state is not None
        return state

    def be_busy(self) -> None:
        """Other connections on each backend, at random; few, so that some backends are alike."""
        for path in self.state.choices:
            path.half_open, path.outstanding = self.random.randrange(3), self.random.randrange(3)
            path.closed = self.random.randrange(3)
            path.established = path.outstanding + path.closed + self.random.randrange(4)

    def said(self, client: Endpoint) -> dict:
        found = loads(self.director, {"web"}, 0.0)
        known = {address: load for (_, address), load in found.items()}
        return explain(Known(self.service, self.plan, known, {}, {}, {}), client)

    def got(self, client: Endpoint) -> str:
        frame = Sent(client, self.vip, TCP if self.protocol is Protocol.TCP else UDP).frame()
        packet = parse(frame, len(frame))
        assert packet is not None
        path, _ = select(self.state, packet, 0.0, self.random)
        assert path is not None
        return str(path.address)

    def client(self) -> Endpoint:
        prefix = b"\x0a\1" if self.version == 4 else bytes.fromhex("20010db8 0001") + bytes(8)
        return Endpoint(prefix + self.random.randbytes(2), self.random.randint(1_024, 65_535))


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.UDP])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    ("scheduler", "certain"),
    [
        ("maglev", "always"),
        ("source_hash", "always"),
        ("least_connection", "often"),
        ("adaptive", "often"),
        ("round_robin", "never"),
        ("random", "never"),
    ],
)
def test_a_client_gets_the_backend_that_was_named(scheduler, certain, version, protocol):
    compared = Compared(scheduler, version, protocol, Random(f"{scheduler} {version} {protocol}"))
    named, turns = 0, set()
    for _ in range(ROUNDS):
        compared.be_busy()
        client = compared.client()
        answer = compared.said(client)
        backend, candidates = answer["backend"], answer["candidates"]
        if backend is not None:
            named += 1
            assert compared.got(client) == backend
        elif "price" in candidates[0]:
            least = [each["address"] for each in candidates if each["price"] == candidates[0]["price"]]
            assert compared.got(client) in least
        else:
            turns.add(compared.got(client))
            assert turns <= {each["address"] for each in candidates if each["share"]}
    assert {"always": named == ROUNDS, "often": ROUNDS / 4 < named < ROUNDS, "never": not named}[certain]
    assert (len(turns) > 1) == (certain == "never")
