"""What is said of a client before it connects (``l4lb explain``), and then what its connection gets."""

from l4lb.model import DropReason, State
from tests.conformance.case import change, packet_case, reply, sweep, table, wait
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    answered,
    asked,
    closing,
    from_client,
    handshake,
    remembered,
    row,
    syn,
    syn_ack,
)
from tests.conformance.packets import rst, tcp
from tests.conformance.plans import KEEP, NOBODY, UDP, plan, service, turns


@packet_case()
def nothing_without_affinity(net):
    """But that a connection goes on with its backend."""
    return plan(service(net)), [
        remembered(net),
        handshake(net, net.web1),
        remembered(net, connection=net.web1),
        remembered(net, net.client.at(40_001)),
        syn(net, net.web2, net.client.at(40_001)),
    ]


@packet_case()
def a_newcomer_and_a_regular_client(net):
    """From the SYN on, and to look makes no difference."""
    again, then = net.client.at(40_001), net.client.at(40_002)
    return plan(service(net, affinity=300.0)), [
        remembered(net),
        syn(net, net.web1),
        remembered(net, again, last=net.web1),
        syn(net, net.web1, again),
        syn_ack(net, net.web1, again),
        from_client(net, net.web1, "A", again),
        remembered(net, then, last=net.web1),
        remembered(net, net.second),
        syn(net, net.web2, net.second),
        remembered(net, net.second.at(40_001), last=net.web2),
        syn(net, net.web1, then),
    ]


@packet_case()
def for_how_long(net):
    """Until so many seconds after the last connection began or was established, whichever was later."""
    again, then = net.client.at(40_001), net.client.at(40_002)
    return plan(service(net, affinity=300.0)), [
        syn(net, net.web1),
        remembered(net, again, last=net.web1, left=300.0),
        wait(10.0),
        remembered(net, again, last=net.web1, left=290.0),
        syn_ack(net, net.web1),
        from_client(net, net.web1),
        wait(100.0),
        remembered(net, again, last=net.web1, left=200.0),
        wait(201.0),
        remembered(net, again),
        syn(net, net.web2, again),
        remembered(net, then, last=net.web2, left=300.0),
    ]


@packet_case()
def each_service_its_own(net):
    """What one remembers is nothing to another one."""
    other = net.vip.at(81)
    return plan(service(net, affinity=300.0), service(net, vip=other, affinity=300.0)), [
        syn(net, net.web1, net.second, vip=other),
        syn(net, net.web1),
        remembered(net, net.client.at(40_001), last=net.web1),
        remembered(net, vip=other),
        syn(net, net.web2, vip=other),
        remembered(net, net.client.at(40_001), vip=other, last=net.web2),
        syn(net, net.web2, net.client.at(40_001), vip=other),
        syn(net, net.web1, net.client.at(40_002)),
    ]


@packet_case()
def a_drained_backend(net):
    """Keeps its connections, and is nobody's last one as long as it takes no new ones."""
    again, drained = net.client.at(40_001), service(net, selection=turns(1), affinity=300.0)
    return plan(service(net, affinity=300.0)), [
        handshake(net, net.web1),
        change(plan(drained)),
        remembered(net, again),
        remembered(net, connection=net.web1),
        from_client(net, net.web1),
        change(plan(service(net, affinity=300.0))),
        remembered(net, again, last=net.web1),
        change(plan(drained)),
        syn(net, net.web2, again),
        remembered(net, net.client.at(40_002), last=net.web2),
    ]


@packet_case()
def nobody_takes_connections(net):
    """Who is remembered is refused like others."""
    again = net.client.at(40_001)
    refused = tcp(again, net.vip, "S", seq=CLIENT_SEQ)
    return plan(service(net, affinity=300.0)), [
        syn(net, net.web1),
        change(plan(service(net, affinity=300.0, selection=NOBODY))),
        remembered(net, again),
        reply(refused, DropReason.NO_BACKEND, rst(net.vip, again, ack=CLIENT_NEXT)),
    ]


@packet_case()
def a_dead_backend(net):
    """Its connections are over, and nobody is sent to it."""
    down = plan(service(net, down=[net.web1], affinity=300.0))
    return plan(service(net, affinity=300.0)), [
        handshake(net, net.web1),
        change(down),
        sweep(rst(net.vip, net.client, seq=BACKEND_NEXT), rst(net.client, net.web1, seq=CLIENT_NEXT)),
        remembered(net),
        syn(net, net.web2),
    ]


@packet_case()
def a_dead_backend_that_keeps_its_connections(net):
    """A SYN on one that is established goes on with it; one that it has not answered begins anew."""
    second = net.client.at(40_001)
    down = plan(service(net, down=[net.web1], when_down=KEEP, selection=turns(1)))
    return plan(service(net, selection=turns(0), when_down=KEEP)), [
        handshake(net, net.web1),
        syn(net, net.web1, second),
        change(down),
        remembered(net, connection=net.web1),
        from_client(net, net.web1),
        remembered(net, second),
        syn(net, net.web2, second),
        remembered(net, second, connection=net.web2),
    ]


@packet_case()
def a_connection_goes_before_the_last_one(net):
    """From its own port a client goes on with the older of its connections."""
    again = net.client.at(40_001)
    return plan(service(net, affinity=300.0)), [
        handshake(net, net.web1),
        change(plan(service(net, selection=turns(1), affinity=300.0))),
        handshake(net, net.web2, again),
        remembered(net, connection=net.web1, last=net.web2),
        from_client(net, net.web1),
        remembered(net, again, connection=net.web2, last=net.web2),
        remembered(net, net.client.at(40_002), last=net.web2),
        syn(net, net.web2, net.client.at(40_002)),
    ]


@packet_case()
def a_connection_that_is_over(net):
    """The next SYN from its port begins a new one, with whoever's turn it is."""
    return plan(service(net)), [
        handshake(net, net.web1),
        closing(net, net.web1),
        table(row(net, net.web1, State.TIME_WAIT)),
        remembered(net),
        syn(net, net.web2),
        remembered(net, connection=net.web2),
    ]


@packet_case()
def a_connection_that_has_expired(net):
    """Whether or not it was swept yet."""
    return plan(service(net, protocol=UDP)), [
        asked(net, net.web1),
        remembered(net, protocol=UDP, connection=net.web1),
        wait(31.0),
        remembered(net, protocol=UDP),
        asked(net, net.web2),
    ]


@packet_case()
def of_udp(net):
    """A datagram from the same port, or from another one."""
    again = net.client.at(40_001)
    return plan(service(net, protocol=UDP, affinity=300.0)), [
        remembered(net, protocol=UDP),
        asked(net, net.web1),
        answered(net, net.web1),
        remembered(net, protocol=UDP, connection=net.web1, last=net.web1),
        remembered(net, again, protocol=UDP, last=net.web1),
        asked(net, net.web1, again),
        remembered(net, net.second, protocol=UDP),
        asked(net, net.web2, net.second),
    ]
