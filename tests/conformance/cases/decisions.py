"""Which choices are kept for people, and what of them (l4lb.model.Decision)."""

from l4lb.model import WHOLE, Costs, Key, Rule, Table
from tests.conformance.case import Decided, decisions, packet_case, wait
from tests.conformance.cases.errors_sent import time_exceeded
from tests.conformance.exchanges import from_client, handshake, syn
from tests.conformance.packets import tcp
from tests.conformance.plans import plan, service


@packet_case()
def the_first_of_a_busy_service(net):
    """One in a tenth of a second, of each service: they are alike."""
    other = net.vip.at(81)
    first, second = Decided(net.client, net.web1, Rule.TURN), Decided(net.second, net.web1, Rule.TURN)
    third = Decided(net.client.at(40_003), net.web2, Rule.TURN)
    return plan(service(net), service(net, vip=other)), [
        decisions(),
        syn(net, net.web1),
        syn(net, net.web2, net.client.at(40_001)),
        syn(net, net.web1, net.second, vip=other),
        decisions(first, second),
        wait(0.05),
        syn(net, net.web1, net.client.at(40_002)),
        decisions(first, second),
        wait(0.06),
        syn(net, net.web2, net.client.at(40_003)),
        decisions(first, second, third),
    ]


@packet_case()
def by_costs(net):
    """What the chosen backend asked, and the second best, with their connections at that moment."""
    costs = Costs(((0, 300), (1, 200), (2, 1_000)), idle=64)
    backends = (net.web1, net.web2, net.slim)
    one, two, three = (net.client.at(41_000 + number) for number in range(3))
    return plan(service(net, *backends, selection=costs)), [
        syn(net, net.web2, one),
        decisions(
            Decided(
                *(one, net.web2, Rule.COSTS, 3),
                (net.web2, False, 200 * WHOLE, 200, 0, 0),
                (net.web1, False, 300 * WHOLE, 300, 0, 0),
            )
        ),
        handshake(net, net.web1, two),
        from_client(net, net.web1, "PA", two, data=b"question"),
        wait(0.2),
        syn(net, net.web2, three),
        decisions(
            Decided(
                *(one, net.web2, Rule.COSTS, 3),
                (net.web2, False, 200 * WHOLE, 200, 0, 0),
                (net.web1, False, 300 * WHOLE, 300, 0, 0),
            ),
            Decided(
                *(three, net.web2, Rule.COSTS, 3),
                (net.web2, False, 200 * 2 * WHOLE, 200, 1, 0),
                (net.web1, False, 300 * 2 * WHOLE, 300, 1, 0),
            ),
        ),
    ]


@packet_case()
def among_the_hot(net):
    """That all were hot is to be seen, and of one backend alone there is no second."""
    costs = Costs(((0, 100), (1, 300)), hot=frozenset({0, 1}))
    alone = Costs(((1, 7),), hot=frozenset())
    other = net.vip.at(81)
    return plan(service(net, selection=costs), service(net, selection=alone, vip=other)), [
        syn(net, net.web1),
        syn(net, net.web2, net.second, vip=other),
        decisions(
            Decided(
                *(net.client, net.web1, Rule.COSTS, 2),
                (net.web1, True, 100 * WHOLE, 100, 0, 0),
                (net.web2, True, 300 * WHOLE, 300, 0, 0),
            ),
            Decided(net.second, net.web2, Rule.COSTS, 1, (net.web2, False, 7 * WHOLE, 7, 0, 0)),
        ),
    ]


@packet_case()
def by_the_rules_of_tables(net):
    """Which rule it was; the client that was remembered first of all."""
    rules = {80: Key.RANDOM, 81: Key.SOURCE, 82: Key.FLOW}
    vips = {port: net.vip.at(port) for port in rules}
    services = [service(net, selection=Table(key, (1, 1)), vip=vips[port]) for port, key in rules.items()]
    remembering = service(net, affinity=300.0, vip=net.vip.at(83))
    return plan(*services, remembering), [
        *(syn(net, net.web2, net.client.at(40_000 + port), vip=vip) for port, vip in vips.items()),
        syn(net, net.web1, net.second, vip=net.vip.at(83)),
        wait(0.2),
        syn(net, net.web1, net.second.at(40_001), vip=net.vip.at(83)),
        decisions(
            Decided(net.client.at(40_080), net.web2, Rule.RANDOM),
            Decided(net.client.at(40_081), net.web2, Rule.SOURCE),
            Decided(net.client.at(40_082), net.web2, Rule.FLOW),
            Decided(net.second, net.web1, Rule.TURN),
            Decided(net.second.at(40_001), net.web1, Rule.AFFINITY),
        ),
    ]


@packet_case()
def of_no_packet_that_went_nowhere(net):
    """A SYN at the end of its hops opens no connection: what was chosen for it is not what clients got."""
    costs = Costs(((0, 1),))
    return plan(service(net, selection=costs)), [
        time_exceeded(net, tcp(net.client, net.vip, "S", seq=7, ttl=1), net.client),
        decisions(),
        syn(net, net.web1, net.second),
        decisions(Decided(net.second, net.web1, Rule.COSTS, 1, (net.web1, False, WHOLE, 1, 0, 0))),
    ]
