"""Which source port a translated connection gets."""

from random import Random

from l4lb.director.connection import Path, make_connection
from l4lb.director.conntrack import ConnectionTable
from l4lb.director.ports import allocate
from l4lb.model import BackendPlan, Endpoint, Limits, Nat, Protocol, State, Timeouts

VIP, BACKEND = Endpoint.parse("192.0.2.1:80"), Endpoint.parse("10.0.0.1:80")
GATEWAY = Endpoint.parse("10.0.0.254:1").ip
PORTS = (20_000, 20_003)


def table_with(states):
    """A connection in each of these states, on one port after the other."""
    table = ConnectionTable(0.0, Timeouts(), Limits())
    path = Path("web", VIP, Protocol.TCP, Nat.FULL, BackendPlan(BACKEND, snat=GATEWAY))
    for number, state in enumerate(states):
        client = Endpoint.parse(f"203.0.113.9:{40_000 + number}")
        table.add(make_connection(path, client, Endpoint(GATEWAY, 20_000 + number), state, 0.0), 0.0)
    return table


def ports(states, backend=BACKEND):
    """All that may come out, whatever port the search begins with."""
    table = table_with(states)
    found = [allocate(table.tcp, GATEWAY, backend, PORTS, Random(seed)) for seed in range(50)]
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
    assert ports([State.ESTABLISHED, State.SYN_SENT, State.CLIENT_FIN, State.BACKEND_FIN]) == {None}
