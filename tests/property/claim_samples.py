"""Random packets around a plan: described in words, and as frames.

Addresses and ports come from small pools, so that most packets touch some rule of the claim, and
most rules are missed by one field only.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from hypothesis import strategies as st

from l4lb.model import BackendPlan, Endpoint, Key, Nat, Plan, Protocol, ServicePlan, Table

OWN_MAC = bytes.fromhex("02000000000a")
OTHER_MAC = bytes.fromhex("02000000000b")


def packed(text):
    return ipaddress.ip_address(text).packed


VIPS = [packed("10.9.0.100"), packed("10.9.0.101"), packed("fd09::100"), packed("fd09::101")]
GATEWAY = [packed("10.9.2.1"), packed("fd09:2::1")]
LOCAL = frozenset(VIPS + GATEWAY)
SERVERS = [packed(f"10.9.2.{host}") for host in (10, 11, 13)]
SERVERS += [packed(f"fd09:2::{host}") for host in ("10", "11", "1:10")]
CLIENTS = [packed("192.0.2.7"), packed("10.9.2.12"), packed("2001:db8::7"), packed("fd09:2::12")]
ADDRESSES = VIPS + GATEWAY + SERVERS + CLIENTS
PORTS = [53, 80, 81, 443, 10_239, 10_240, 20_000, 32_767, 32_768]
ICMP_KINDS = {4: [3, 4, 5, 11, 12], 6: [1, 2, 3, 4, 5, 127]}


@dataclass(frozen=True)
class Sample:
    """A packet. ``quoted`` makes it an ICMP message that quotes a packet, of type ``icmp_kind``."""

    source: bytes
    destination: bytes
    protocol: int
    sport: int
    dport: int
    fragment: tuple[int, bool] | None = None  # offset in units of 8 bytes, more to come
    extensions: tuple[int, ...] = ()  # IPv6, before a fragment header
    options: bool = False  # IPv4
    icmp_kind: int | None = None
    quoted: Sample | None = None

    @property
    def version(self):
        return 4 if len(self.source) == 4 else 6

    @property
    def is_icmp_error(self):
        return self.icmp_kind in ({3, 11, 12} if self.version == 4 else {1, 2, 3, 4})


def packet(sample):
    """The IP packet, with checksums of zero."""
    if sample.quoted is not None:
        payload = struct.pack("!BBHI", sample.icmp_kind, 0, 0, 0) + packet(sample.quoted)
    elif sample.protocol == Protocol.TCP:
        payload = struct.pack("!HHIIHHHH", sample.sport, sample.dport, 1, 0, 0x5002, 1024, 0, 0)
    else:
        payload = struct.pack("!HHHH", sample.sport, sample.dport, 16, 0)
    payload += bytes(8)
    offset, more = sample.fragment or (0, False)
    if sample.version == 4:
        options = b"\1" * 8 if sample.options else b""
        header = struct.pack(
            "!BBHHHBBH4s4s",
            0x45 + len(options) // 4,
            0,
            20 + len(options) + len(payload),
            77,
            offset | more << 13,
            64,
            sample.protocol,
            0,
            sample.source,
            sample.destination,
        )
        return header + options + payload
    following = sample.protocol
    if sample.fragment is not None:
        payload = struct.pack("!BBHI", following, 0, offset << 3 | more, 77) + payload
        following = 44
    for extension in reversed(sample.extensions):
        payload = struct.pack("!BB6x", following, 0) + payload
        following = extension
    header = struct.pack(
        "!IHBB16s16s", 6 << 28, len(payload), following, 64, sample.source, sample.destination
    )
    return header + payload


def frame(sample, *, destination_mac=OWN_MAC, source_mac=OTHER_MAC, tag=b""):
    ethertype = b"\x08\x00" if sample.version == 4 else b"\x86\xdd"
    return destination_mac + source_mac + tag + ethertype + packet(sample)


def of_version(pool, version):
    return st.sampled_from([address for address in pool if len(address) == (4 if version == 4 else 16)])


@st.composite
def samples(draw, version=None, quoting=True):
    version = version or draw(st.sampled_from([4, 6]))
    icmp = 1 if version == 4 else 58
    common = {
        "source": draw(of_version(ADDRESSES, version)),
        "destination": draw(of_version(ADDRESSES, version)),
        "sport": draw(st.sampled_from(PORTS)),
        "dport": draw(st.sampled_from(PORTS)),
        "fragment": draw(
            st.one_of(st.none(), st.none(), st.tuples(st.sampled_from([0, 3, 185]), st.booleans()))
        ),
    }
    if version == 4:
        common["options"] = draw(st.booleans())
        if common["fragment"] == (0, False):
            common["fragment"] = None
    else:
        common["extensions"] = draw(st.sampled_from([(), (), (), (0,), (60, 43)]))
    if quoting and draw(st.booleans()):
        quoted = draw(samples(version=version, quoting=False))
        kind = draw(st.sampled_from(ICMP_KINDS[version]))
        return Sample(protocol=icmp, icmp_kind=kind, quoted=quoted, **common)
    return Sample(protocol=draw(st.sampled_from([6, 17, 6, 17, 132])), **common)


@st.composite
def plans(draw):
    services = {}
    for _ in range(draw(st.integers(0, 4))):
        version = draw(st.sampled_from([4, 6]))
        protocol = draw(st.sampled_from(Protocol))
        address = Endpoint(draw(of_version(VIPS, version)), draw(st.sampled_from(PORTS)))
        backends = draw(
            st.lists(st.builds(Endpoint, of_version(SERVERS, version), st.sampled_from(PORTS)), max_size=4)
        )
        services[address, protocol] = ServicePlan(
            name=f"{address}/{protocol.label}",
            address=address,
            protocol=protocol,
            selection=Table(Key.TURN, ()),
            backends=tuple(BackendPlan(backend) for backend in backends),
            nat=draw(st.sampled_from(Nat)),
        )
    return Plan(tuple(services.values()))


def claimed(sample, plan, local):
    """Whether the plan claims a packet: the rules one by one, as they stand at the top of claim.py."""
    for service in plan.services:
        if sample.destination == service.address.ip:
            if sample.fragment is not None or sample.is_icmp_error:
                return True
            if (sample.protocol, sample.dport) == (service.protocol, service.address.port):
                return True
        full = service.nat is Nat.FULL
        if (sample.destination in local) != full:
            continue
        for backend in service.backends:
            if sample.fragment is not None:
                if sample.source == backend.address.ip:
                    return True
            elif sample.is_icmp_error:
                if sample.quoted.destination == backend.address.ip:
                    return True
            elif (
                (sample.source, sample.sport) == (backend.address.ip, backend.address.port)
                and sample.protocol == service.protocol
                and (not full or plan.snat_ports[0] <= sample.dport <= plan.snat_ports[1])
            ):
                return True
    return False
