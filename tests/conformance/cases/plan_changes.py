"""A new plan while connections are there: backends drained, removed and added (DESIGN 5, 7)."""

from l4lb.model import DropReason
from tests.conformance.case import (
    Need,
    change,
    leave,
    packet_case,
    reply,
    sweep,
)
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    from_backend,
    from_client,
    handshake,
    syn,
    syn_ack,
    to_backend,
    to_client,
)
from tests.conformance.packets import tcp
from tests.conformance.plans import KEEP, full, plan, service, snat, turns


@packet_case()
def drained(net):
    """Weight 0: no new connections, old ones finish in their own time, also half-open ones."""
    draining = plan(service(net, selection=turns(1)))
    return plan(service(net)), [
        handshake(net, net.web1),
        syn(net, net.web2, net.second),
        syn(net, net.web1, net.client.at(40_001)),
        change(draining),
        sweep(),
        syn(net, net.web2, net.client.at(40_002)),
        syn(net, net.web2, net.client.at(40_003)),
        from_client(net, net.web1, "PA", data=b"still here"),
        from_backend(net, net.web1, ack=CLIENT_NEXT + 10),
        syn(net, net.web1, net.client.at(40_001)),
        syn_ack(net, net.web1, net.client.at(40_001)),
    ]


@packet_case()
def removed(net):
    """Taken out of the config: its connections are reset, whatever ``when_backend_down`` says, and
    those of the others stay."""
    return plan(service(net, when_down=KEEP)), [
        handshake(net, net.web1),
        handshake(net, net.web2, net.second),
        change(plan(service(net, net.web2, when_down=KEEP))),
        sweep(to_client(net), to_backend(net, net.web1)),
        from_client(net, net.web2, client=net.second),
        syn(net, net.web2),
    ]


@packet_case(needs=[Need.HELD_SWEEP])
def removed_and_the_client_speaks(net):
    """Before the sweep comes by."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(plan(service(net, net.web2))),
        reply(
            tcp(net.client, net.vip, "A", seq=CLIENT_NEXT, ack=BACKEND_NEXT),
            DropReason.BACKEND_DOWN,
            to_client(net),
            to_backend(net, net.web1),
        ),
        syn(net, net.web2),
    ]


@packet_case()
def removed_and_added_again(net):
    """In two changes one after the other: it is a new backend, and the old connections are over."""
    return plan(service(net)), [
        handshake(net, net.web1),
        change(plan(service(net, net.web2))),
        change(plan(service(net))),
        sweep(to_client(net), to_backend(net, net.web1)),
        syn(net, net.web2),
        syn(net, net.web1, net.second),
    ]


@packet_case()
def service_removed(net):
    """Its connections are reset, and from then on its port is the host's, who has no listener."""
    other = plan(service(net, vip=net.vip.at(81)))
    refused = tcp(net.vip, net.client, "RA", ack=CLIENT_NEXT, window=0)
    return plan(service(net), service(net, vip=net.vip.at(81))), [
        handshake(net, net.web1),
        change(other),
        sweep(to_client(net), to_backend(net, net.web1)),
        leave(tcp(net.client, net.vip, "S", seq=CLIENT_SEQ), host=[refused]),
    ]


@packet_case()
def nat_changed(net):
    """From destination to full NAT: old connections cannot go on, new ones are translated anew."""
    return plan(service(net, net.web1)), [
        handshake(net, net.web1),
        change(full(net)),
        sweep(to_client(net), to_backend(net, net.web1)),
        handshake(net, net.web1, source=snat(net)),
    ]


@packet_case()
def the_same_plan_again(net):
    """Applying a plan twice changes nothing; nor does another order of backends."""
    reordered = plan(service(net, net.web2, net.web1, selection=turns(0, 1)))
    return plan(service(net)), [
        handshake(net, net.web1),
        change(plan(service(net))),
        sweep(),
        from_client(net, net.web1),
        change(reordered),
        sweep(),
        from_client(net, net.web1),
        from_backend(net, net.web1),
        syn(net, net.web1, net.second),  # the second turn
    ]


@packet_case()
def backend_added(net):
    """It takes its turns; nobody is moved."""
    return plan(service(net, net.web1)), [
        handshake(net, net.web1),
        change(plan(service(net))),
        sweep(),
        syn(net, net.web2, net.second),
        from_client(net, net.web1),
    ]
