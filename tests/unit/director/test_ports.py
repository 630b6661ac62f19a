"""Which source port a translated connection gets."""

from random import Random

from l4lb.director.connection import Connection, Path, make_connection
from l4lb.director.conntrack import HANDSHAKE, ConnectionTable
from l4lb.director.ports import TRIES, allocate
from l4lb.model import (
    BackendPlan,
    DropReason,
    Endpoint,
    Limits,
    Nat,
    Protocol,
    State,
    Timeouts,
    Verdict,
)
from tests.unit.director.gateway import VIP as SERVICE
from tests.unit.director.gateway import Gateway, service
from tests.unit.director.packets import Sent

VIP, BACKEND = Endpoint.parse("192.0.2.1:80"), Endpoint.parse("10.0.0.1:80")
GATEWAY = Endpoint.parse("10.0.0.254:1").ip
PORTS = (20_000, 20_003)


def is_none(port):
    """Of a service."""
    return False


def table_with(states):
    """A connection in each of these states, on one port after the other."""
    table = ConnectionTable(0.0, Timeouts(), Limits())
    path = Path("web", VIP, Protocol.TCP, Nat.FULL, BackendPlan(BACKEND, snat=GATEWAY))
    for number, state in enumerate(states):
        client = Endpoint.parse(f"203.0.113.9:{40_000 + number}")
        table.add(make_connection(path, client, Endpoint(GATEWAY, 20_000 + number), state, 0.0), 0.0)
    return table


def ports(states, backend=BACKEND, now=0.0):
    """All that may come out, whatever port the search begins with."""
    table = table_with(states)

    def gives_way(connection):
        return table.gives_way(connection, now)

    found = [
        allocate(table.tcp, GATEWAY, backend, PORTS, Random(seed), gives_way, is_none) for seed in range(50)
    ]
    return {endpoint.port if endpoint else None for endpoint in found}


def test_a_port_is_chosen_at_random_among_the_free_ones():
    assert ports([]) == {20_000, 20_001, 20_002, 20_003}
    assert ports([State.ESTABLISHED, State.SYN_SENT]) == {20_002, 20_003}


def test_a_port_taken_towards_one_backend_is_free_towards_another():
    assert ports([State.ESTABLISHED] * 4, Endpoint.parse("10.0.0.2:80")) == set(range(20_000, 20_004))


def test_the_port_of_a_connection_that_is_over_is_the_last_resort():
    assert ports([State.ESTABLISHED, State.TIME_WAIT, State.ESTABLISHED]) == {20_003}
    assert ports([State.ESTABLISHED, State.TIME_WAIT, State.ESTABLISHED, State.CLOSED]) == {20_001, 20_003}


def test_connections_that_are_not_over_keep_theirs():
    states = [State.ESTABLISHED, State.SYN_SENT, State.CLIENT_FIN, State.BACKEND_FIN]
    assert ports(states, now=HANDSHAKE - 0.1) == {None}


def test_a_handshake_that_takes_too_long_gives_way_as_well():
    states = [State.ESTABLISHED, State.SYN_SENT, State.CLIENT_FIN, State.BACKEND_FIN]
    assert ports(states, now=HANDSHAKE) == {20_001}


def test_a_syn_flood_does_not_use_up_the_ports():
    """One of a thousand addresses a second is enough to hold 10,000 ports for the timeout of a SYN."""
    gateway = Gateway(service(nat=Nat.FULL), snat_ports=PORTS)
    for number in range(4):
        gateway.forwarded(Sent(Endpoint.parse(f"10.1.9.{number}:1"), SERVICE))
    gateway.tick(HANDSHAKE)
    ours, _ = gateway.open()
    assert gateway.connection(ours).state is State.ESTABLISHED
    assert gateway.director.table.evicted == 1
    for number in range(3):
        gateway.forwarded(Sent(Endpoint.parse(f"10.1.8.{number}:1"), SERVICE))
    assert gateway.send(Sent(Endpoint.parse("10.1.8.9:1"), SERVICE)) is Verdict.DROP
    assert gateway.director.drops == {DropReason.NO_FREE_PORT: 1}
    assert gateway.director.table.evicted == 4


def test_a_port_of_a_service_is_nobodys_source():
    table = table_with([State.ESTABLISHED, State.TIME_WAIT])
    for services, expected in (
        ({20_002}, {20_003}),
        ({20_002, 20_003}, {20_001}),
        (set(range(65_536)), {None}),
    ):
        found = {
            allocate(
                table.tcp,
                GATEWAY,
                BACKEND,
                PORTS,
                Random(seed),
                gives_way=lambda held: table.gives_way(held, 0.0),
                is_service=services.__contains__,
            )
            for seed in range(50)
        }
        assert {endpoint.port if endpoint else None for endpoint in found} == expected


def test_a_search_has_an_end():
    """All 22,528 ports are not looked at for one packet."""

    class Looked(dict[bytes, Connection]):
        looked = 0

        def get(self, key, default=None):
            self.looked += 1
            return next(iter(table))

    table = table_with([State.ESTABLISHED])
    flows = Looked()
    wide = (1024, 65_535)
    assert allocate(flows, GATEWAY, BACKEND, wide, Random(1), lambda held: False, is_none) is None
    assert flows.looked == TRIES
