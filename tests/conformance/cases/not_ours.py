"""What is left to the kernel, untouched: only a service's packets are taken (DESIGN 3, 5, 6)."""

from scapy.packet import Raw

from l4lb.model import State
from tests.conformance.case import leave, packet_case, table
from tests.conformance.exchanges import (
    BACKEND_NEXT,
    CLIENT_NEXT,
    CLIENT_SEQ,
    HOP,
    from_backend,
    from_client,
    handshake,
    row,
)
from tests.conformance.packets import Frame, frame, icmp, ip, quote, tagged, tcp, udp
from tests.conformance.plans import FULL, UDP, full, plan, service
from tests.conformance.world import V4


def passed_on(before, after):
    """The host forwards it."""
    return leave(before, host=[after])


@packet_case()
def ping_to_the_vip(net):
    """The host answers."""
    body = b"are you there?"
    return plan(service(net)), [
        leave(
            icmp(net.client, net.vip, net.echo, body, value=0x0001_0002),
            host=[icmp(net.vip, net.client, net.echo_reply, body, value=0x0001_0002)],
        )
    ]


@packet_case()
def ping_to_a_backend(net):
    """The host forwards it, and the answer."""
    body = {"body": b"are you there?", "value": 7}
    return plan(service(net)), [
        passed_on(
            icmp(net.client, net.web1, net.echo, **body),
            icmp(net.client, net.web1, net.echo, **body, ttl=HOP),
        ),
        passed_on(
            icmp(net.web1, net.client, net.echo_reply, **body),
            icmp(net.web1, net.client, net.echo_reply, **body, ttl=HOP),
        ),
    ]


@packet_case()
def another_port_of_the_vip(net):
    """Only the service's port is taken; elsewhere the host says what it has to say."""
    port = net.vip.at(22)
    return plan(service(net)), [
        leave(
            tcp(net.client, port, "S", seq=CLIENT_SEQ),
            host=[tcp(port, net.client, "RA", ack=CLIENT_SEQ + 1, window=0)],
        )
    ]


@packet_case()
def another_protocol_on_the_port(net):
    """A UDP service does not take TCP."""
    return plan(service(net, protocol=UDP)), [
        leave(
            tcp(net.client, net.vip, "S", seq=CLIENT_SEQ),
            host=[tcp(net.vip, net.client, "RA", ack=CLIENT_SEQ + 1, window=0)],
        )
    ]


@packet_case()
def a_direct_connection(net):
    """A client that asks a backend by its own address, through the gateway: the host forwards both
    directions, while the same client is served through the VIP (DESIGN 6)."""
    client = net.client.at(42_002)
    there = [("S", 1, 0, b""), ("A", 2, 8, b""), ("PA", 2, 8, b"question"), ("FA", 10, 14, b"")]
    back = [("SA", 7, 2, b""), ("PA", 8, 10, b"answer"), ("FA", 14, 11, b"")]

    def on(source, destination, flags, seq, ack, data):
        numbers = {"seq": seq, "ack": ack, "data": data}
        return passed_on(
            tcp(source, destination, flags, **numbers), tcp(source, destination, flags, **numbers, ttl=HOP)
        )

    return plan(service(net)), [
        handshake(net, net.web1),
        on(client, net.web1, *there[0]),
        on(net.web1, client, *back[0]),
        on(client, net.web1, *there[1]),
        on(client, net.web1, *there[2]),
        on(net.web1, client, *back[1]),
        on(client, net.web1, *there[3]),
        on(net.web1, client, *back[2]),
    ]


@packet_case()
def a_direct_connection_after_one_to_the_vip(net):
    """From the same port, to the backend that has just served it: the backend's SYN/ACK answers a SYN that
    did not come to the VIP. So it is left to the host, and with it the rest of the connection."""
    client = net.client.at(42_011)
    answer = {"seq": 7, "ack": 2}
    data = {"seq": 8, "ack": 2, "data": b"greeting"}
    return plan(service(net, net.web1)), [
        handshake(net, net.web1, client),
        from_backend(net, net.web1, "FA", client),
        from_client(net, net.web1, "FA", client, ack=BACKEND_NEXT + 1),
        from_backend(net, net.web1, "A", client, seq=BACKEND_NEXT + 1, ack=CLIENT_NEXT + 1),
        table(row(net, net.web1, State.TIME_WAIT, client)),
        passed_on(tcp(client, net.web1, "S", seq=1), tcp(client, net.web1, "S", seq=1, ttl=HOP)),
        passed_on(tcp(net.web1, client, "SA", **answer), tcp(net.web1, client, "SA", **answer, ttl=HOP)),
        table(),
        passed_on(tcp(net.web1, client, "PA", **data), tcp(net.web1, client, "PA", **data, ttl=HOP)),
    ]


@packet_case()
def a_direct_connection_to_a_backend_of_full_nat(net):
    """From a port that has a connection to a VIP too, with another backend: full NAT's backends know no
    clients, so what they send to one is of nobody's connection."""
    client = net.client.at(42_012)
    answer = {"seq": 7, "ack": 2}
    fully = service(net, net.web2, nat=FULL, vip=net.vip.at(81))
    return plan(service(net, net.web1), fully), [
        handshake(net, net.web1, client),
        passed_on(tcp(client, net.web2, "S", seq=1), tcp(client, net.web2, "S", seq=1, ttl=HOP)),
        passed_on(tcp(net.web2, client, "SA", **answer), tcp(net.web2, client, "SA", **answer, ttl=HOP)),
        table(row(net, net.web1, State.ESTABLISHED, client)),
    ]


@packet_case()
def a_direct_udp_flow(net):
    """The same for datagrams."""
    client = net.client.at(42_003)
    return plan(service(net, protocol=UDP)), [
        passed_on(udp(client, net.web1), udp(client, net.web1, ttl=HOP)),
        passed_on(udp(net.web1, client), udp(net.web1, client, ttl=HOP)),
    ]


@packet_case()
def what_a_backend_does_itself(net):
    """Connections that a backend makes, from other ports: to the world, through the gateway."""
    source = net.web1.at(50_000)
    return plan(service(net)), [
        passed_on(tcp(source, net.far.at(443), "S"), tcp(source, net.far.at(443), "S", ttl=HOP))
    ]


@packet_case()
def the_answer_to_a_health_check(net):
    """From a backend's service port to the gateway itself: of no connection of a client, though it
    looks like a reply. Nobody listens here, so the host resets it."""
    source = net.wan.at(50_001)
    answer = tcp(net.web1, source, "SA", seq=1, ack=9)
    return plan(service(net)), [leave(answer, host=[tcp(source, net.web1, "R", seq=9, window=0)])]


@packet_case()
def to_the_gateway_under_full_nat(net):
    """Under full NAT too: a packet of no connection, to a port that full NAT uses."""
    source = net.wan.at(20_000)
    answer = tcp(net.web1, source, "A", seq=1, ack=9)
    return full(net), [leave(answer, host=[tcp(source, net.web1, "R", seq=9, window=0)])]


@packet_case()
def vlan_tagged(net):
    """A tagged frame belongs to the VLAN's own interface, whatever is in it. There is none here, so
    the host drops it."""
    return plan(service(net)), [
        leave(tagged(tcp(net.client, net.vip, "S", seq=CLIENT_SEQ), 7)),
        leave(tagged(tcp(net.client, net.web1, "S", seq=CLIENT_SEQ), 7)),
        handshake(net, net.web1),
        leave(tagged(tcp(net.client, net.vip, "A", seq=CLIENT_SEQ + 1), 7)),
        leave(tagged(tcp(net.web1, net.client, "A", seq=1), 7)),
    ]


@packet_case()
def another_upper_layer(net):
    """A protocol number that nobody has (RFC 3692), with what could be ports where TCP has its own."""
    experimental = {"proto" if net.version == 4 else "nh": 253}
    ports = Raw(bytes.fromhex("9c400050") + bytes(12))
    packet = frame(ip(net.client, net.vip, **experimental) / ports)
    if net.version == 4:
        answer = icmp(net.vip, net.client, (3, 2), quote(packet))  # protocol unreachable
    else:
        answer = icmp(net.vip, net.client, (4, 1), quote(packet), value=6)  # unknown next header
    return plan(service(net), service(net, protocol=UDP)), [leave(packet, host=[answer])]


@packet_case()
def authenticated(net):
    """An authentication header (RFC 4302) signs the addresses, so nobody may translate them: the host
    forwards the packet, though it is of a connection of ours."""
    segment = tcp(net.web1, net.client, "A", seq=1).packet[net.header :]
    ah = {"proto" if net.version == 4 else "nh": 51}
    behind = Raw(bytes((6, 4)) + bytes(22) + segment)
    return plan(service(net)), [
        handshake(net, net.web1),
        leave(
            frame(ip(net.web1, net.client, **ah) / behind),
            host=[frame(ip(net.web1, net.client, **ah, ttl=HOP) / behind)],
        ),
    ]


@packet_case(V4)
def not_ip(net):
    """ARP and whatever else is not IP."""
    arp = (
        bytes.fromhex("0001080006040001")
        + bytes(6)
        + bytes((10, 1, 0, 2))
        + bytes(6)
        + bytes((10, 1, 0, 200))
    )
    return plan(service(net)), [leave(Frame(arp, 0x0806))]


@packet_case()
def the_wrong_version(net):
    """An Ethernet type that does not fit the packet: the host drops it."""
    packet = tcp(net.client, net.vip, "S")
    wrong = 0x86DD if net.version == 4 else 0x0800
    return plan(service(net)), [leave(Frame(packet.packet, wrong))]
