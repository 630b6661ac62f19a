"""Which backend takes a new connection: tables, costs, hashes, affinity (DESIGN 3)."""

from l4lb.model import Costs, DropReason, Key, Limits, Table
from tests.conformance.case import change, packet_case, reply, sweep, wait
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    answered,
    asked,
    from_client,
    handshake,
    syn,
    syn_ack,
)
from tests.conformance.packets import rst, tcp
from tests.conformance.plans import NOBODY, UDP, plan, service, turns
from tests.conformance.world import V4, V6


def clients(net, count):
    return [net.client.at(41_000 + number) for number in range(count)]


def syns(net, backends):
    """One new client after the other, and the backend that each should meet."""
    return [
        syn(net, backend, client)
        for backend, client in zip(backends, clients(net, len(backends)), strict=True)
    ]


@packet_case()
def turns_go_round(net):
    """One slot further with each new connection, and from the beginning again."""
    order = [net.web1, net.web2, net.slim] * 2
    return plan(service(net, net.web1, net.web2, net.slim)), syns(net, order)


@packet_case()
def turns_by_weight(net):
    """Weights are in the slots: 3 to 1, spread."""
    weighted = service(net, selection=turns(0, 0, 1, 0))
    return plan(weighted), syns(net, [net.web1, net.web1, net.web2, net.web1] * 2)


@packet_case()
def turns_of_each_service_are_its_own(net):
    """Two services with the same backends do not take each other's turns."""
    other = net.vip.at(81)
    return plan(service(net), service(net, vip=other)), [
        syn(net, net.web1),
        syn(net, net.web1, net.second, vip=other),
        syn(net, net.web2, net.client.at(40_001)),
        syn(net, net.web2, net.second.at(40_001), vip=other),
    ]


@packet_case()
def least_connections(net):
    """The least cost times (connections + 1) wins, and equals take turns (l4lb.model.Costs). A connection
    that both ends have closed counts no more."""
    costs = Costs(((0, 65_536), (1, 65_536)))
    one, two, three, four, five, six = clients(net, 6)
    return plan(service(net, selection=costs)), [
        handshake(net, net.web1, one),
        handshake(net, net.web2, two),
        handshake(net, net.web1, three),
        from_client(net, net.web2, "R", two, ack=0),
        handshake(net, net.web2, four),
        handshake(net, net.web2, five),
        from_client(net, net.web1, "R", one, ack=0),
        from_client(net, net.web1, "R", three, ack=0),
        syn(net, net.web1, six),
        syn(net, net.web1, net.second),
        syn(net, net.web2, net.second.at(40_001)),
    ]


@packet_case()
def equals_take_turns_among_themselves(net):
    """The turns of one that is dear are not all its neighbour's."""
    costs = Costs(((0, 65_536), (1, 262_144), (2, 65_536)))
    steps = []
    for client, backend in zip(clients(net, 6), [net.web1, net.slim] * 3, strict=True):
        steps += handshake(net, backend, client)
        steps.append(from_client(net, backend, "R", client, ack=0))
    return plan(service(net, net.web1, net.web2, net.slim, selection=costs)), steps


@packet_case()
def least_connections_by_weight(net):
    """A backend of weight 2 costs half: it has two connections for each of the other's."""
    costs = Costs(((0, 32_768), (1, 65_536)))
    order = [net.web1, net.web2, net.web1, net.web1, net.web1, net.web2]
    return plan(service(net, selection=costs)), syns(net, order)


# -- hashes ----------------------------------------------------------------------------------------

# MurmurHash3_x86_32 with seed 0x6c346c62 by its reference implementation (SMHasher, in mmh3 from
# PyPI) over what stands in the packet: the client's address; addresses and ports.
SOURCE_HASHES = {V4: 0xA9851C9F, V6: 0xACDA3554}  # the client
FLOW_HASHES = {V4: (0xB7E5A06D, 0x163F9291), V6: (0xEAB98AE3, 0xD4F5A59C)}  # its ports 40000, 40001
SLOTS = 65_537


def hashed(net, key, value):
    """All slots lead to web1 but the one of this hash, which leads to web2."""
    slots = [0] * SLOTS
    slots[value % SLOTS] = 1
    return plan(service(net, selection=Table(key, tuple(slots))))


@packet_case()
def by_source_hash(net):
    """The slot is the hash of the client's address, whatever its port: every datapath, and the one
    after a restart, must compute the same (l4lb/schedulers/hash.py)."""
    return hashed(net, Key.SOURCE, SOURCE_HASHES[net]), [
        syn(net, net.web2),
        syn(net, net.web2, net.client.at(40_001)),
        syn(net, net.web1, net.second),
    ]


@packet_case()
def by_flow_hash(net):
    """The slot is the hash of addresses and ports as they lie in the packet."""
    first, second = FLOW_HASHES[net]
    return hashed(net, Key.FLOW, first), [
        syn(net, net.web2),
        syn(net, net.web1, net.client.at(40_002)),
        change(hashed(net, Key.FLOW, second)),
        syn(net, net.web2, net.client.at(40_001)),
        syn(net, net.web1, net.client.at(40_003)),
    ]


@packet_case()
def by_chance(net):
    """A random slot; here they are all alike."""
    return plan(service(net, selection=Table(Key.RANDOM, (1, 1, 1)))), [syn(net, net.web2)]


# -- affinity --------------------------------------------------------------------------------------


@packet_case()
def a_client_comes_back(net):
    """Affinity: a client's next connection goes where its last one went, past the turns of others."""
    return plan(service(net, affinity=300.0)), [
        syn(net, net.web1),
        syn(net, net.web1, net.client.at(40_001)),
        syn(net, net.web2, net.second),
        syn(net, net.web1, net.client.at(40_002)),
        syn(net, net.web2, net.second.at(40_001)),
    ]


@packet_case()
def affinity_ends(net):
    """A client is forgotten so many seconds after its last connection began."""
    return plan(service(net, affinity=300.0)), [
        syn(net, net.web1),
        wait(290.0),
        syn(net, net.web1, net.client.at(40_001)),
        wait(290.0),
        syn(net, net.web1, net.client.at(40_002)),
        wait(310.0),
        syn(net, net.web2, net.client.at(40_003)),
    ]


@packet_case()
def affinity_with_a_drained_backend(net):
    """A drained backend takes no new connections, its regular clients' neither."""
    return plan(service(net, affinity=300.0)), [
        handshake(net, net.web1),
        change(plan(service(net, selection=turns(1), affinity=300.0))),
        syn(net, net.web2, net.client.at(40_001)),
        from_client(net, net.web1),
        change(plan(service(net, affinity=300.0))),
        syn(net, net.web2, net.client.at(40_002)),
    ]


@packet_case()
def affinity_with_a_dead_backend(net):
    """Nor does a dead one."""
    down = service(net, down=[net.web1], affinity=300.0)
    return plan(service(net, affinity=300.0)), [
        handshake(net, net.web1),
        change(plan(down)),
        sweep(rst(net.vip, net.client, seq=BACKEND_NEXT), rst(net.client, net.web1, seq=CLIENT_NEXT)),
        syn(net, net.web2, net.client.at(40_001)),
    ]


@packet_case()
def affinity_of_udp(net):
    """Flows from other ports of the client go to the same backend."""
    return plan(service(net, protocol=UDP, affinity=300.0)), [
        asked(net, net.web1),
        answered(net, net.web1),
        asked(net, net.web1, net.client.at(40_001)),
        asked(net, net.web2, net.second),
    ]


@packet_case()
def affinity_of_a_refused_client(net):
    """Who was refused is not remembered."""
    refused = reply(
        tcp(net.client, net.vip, "S", seq=CLIENT_SEQ),
        DropReason.NO_BACKEND,
        rst(net.vip, net.client, ack=CLIENT_NEXT),
    )
    return plan(service(net, affinity=300.0, selection=NOBODY)), [
        refused,
        change(plan(service(net, affinity=300.0))),
        syn(net, net.web1, net.second),
        syn(net, net.web2),
    ]


@packet_case()
def affinity_ends_with_a_refusal(net):
    """A client whose backend takes no connections, and who gets none elsewhere, is no regular client any
    more: it is scheduled anew, though the backend is back."""
    nobody = plan(service(net, affinity=300.0, selection=NOBODY))
    again = net.client.at(40_001)
    refused = tcp(again, net.vip, "S", seq=CLIENT_SEQ)
    return plan(service(net, affinity=300.0)), [
        syn(net, net.web1),
        change(nobody),
        reply(refused, DropReason.NO_BACKEND, rst(net.vip, again, ack=CLIENT_NEXT)),
        change(plan(service(net, affinity=300.0))),
        syn(net, net.web2, again),
    ]


@packet_case()
def affinity_table_full(net):
    """The client not heard of for longest is forgotten, and scheduled anew."""
    limits = Limits(affinity=1)
    return plan(service(net, affinity=300.0), limits=limits), [
        handshake(net, net.web1),
        handshake(net, net.web2, net.second),
        syn(net, net.web1, net.client.at(40_001)),
        syn(net, net.web2, net.second.at(40_001)),
        syn(net, net.web1, net.client.at(40_002)),
    ]


@packet_case()
def affinity_table_full_of_several_services(net):
    """It is one for all services: a client of another one may be who is forgotten."""
    other, limits = net.vip.at(81), Limits(affinity=1)
    services = service(net, affinity=300.0), service(net, affinity=300.0, vip=other)
    return plan(*services, limits=limits), [
        handshake(net, net.web1),
        handshake(net, net.web1, net.second, vip=other),
        syn(net, net.web2, net.client.at(40_001)),
        syn(net, net.web1, net.second.at(40_001), vip=other),
    ]


@packet_case()
def affinity_of_newcomers(net):
    """Who has had no established connection yet is remembered too, but takes no regular client's place:
    whoever floods from forged addresses would have all of them forgotten."""
    limits = Limits(affinity=1)
    return plan(service(net, affinity=300.0), limits=limits), [
        handshake(net, net.web1),
        syn(net, net.web2, net.second),
        syn(net, net.web2, net.second.at(40_001)),
        syn(net, net.web1, net.client.at(40_001)),
    ]


@packet_case()
def affinity_begins_anew_with_every_connection(net):
    """Of a regular client too, though the next one may be answered by nobody."""
    return plan(service(net, affinity=300.0)), [
        handshake(net, net.web1),
        wait(290.0),
        syn(net, net.web1, net.client.at(40_001)),
        wait(290.0),
        syn(net, net.web1, net.client.at(40_002)),
    ]


@packet_case()
def affinity_with_an_older_connection(net):
    """A client's last connection counts, though one that began before is established later, with a backend
    that takes no more."""
    return plan(service(net, affinity=300.0)), [
        syn(net, net.web1),
        syn_ack(net, net.web1),
        change(plan(service(net, selection=turns(1), affinity=300.0))),
        syn(net, net.web2, net.client.at(40_001)),
        from_client(net, net.web1),
        change(plan(service(net, net.web1, net.web2, selection=turns(0, 0, 0, 1), affinity=300.0))),
        syn(net, net.web2, net.client.at(40_002)),
    ]


@packet_case()
def affinity_of_udp_newcomers(net):
    """Where nobody shakes hands, the client's next datagram behind an answer tells."""
    limits = Limits(affinity=1)
    return plan(service(net, protocol=UDP, affinity=300.0), limits=limits), [
        asked(net, net.web1),
        answered(net, net.web1),
        asked(net, net.web1),
        asked(net, net.web2, net.second),
        answered(net, net.web2, net.second),
        asked(net, net.web1, net.client.at(40_001)),
    ]
