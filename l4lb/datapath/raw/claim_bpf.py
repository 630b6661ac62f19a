"""The claim as a socket filter, in classic BPF. Pure.

The program looks for the destination among the VIPs, then for the source among the backends: a
binary search each, whose leaves are the ports of that address. Fragments stop at the address, and
for an ICMP error it is the quoted destination that is looked for among the backends.

The kernel limits how long a program may be. While addresses and ports fit they are matched exactly;
neighbouring addresses with the same ports take no more room than one. Then the ports are left out,
then the addresses are cut to ever shorter prefixes, and when even that does not fit all IP is
accepted: slower, since Python sees more, and as right as before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from l4lb import classic_bpf as bpf
from l4lb.datapath.raw.classic_bpf_search import Range, search, search_address
from l4lb.model import Protocol
from l4lb.wire import icmp, ipv4, ipv6
from l4lb.wire.frame import ETHERTYPE_IPV4, ETHERTYPE_IPV6

if TYPE_CHECKING:
    from l4lb.datapath.raw.claim import Claim, Transport

OPTION_MEMORY: Final = 10_000
"""Bytes; less than half of the least net.core.optmem_max there is (20 KiB, before Linux 6.8)."""

_ACCEPT_WHOLE: Final = 0xFFFF_FFFF
_PACKET_HOST: Final = 0  # linux/if_packet.h: the frame is addressed to this interface

_VLAN_ID: Final = 0x0FFF  # of a tag; the rest is the priority

_ETHERNET: Final = 14
_ETHERTYPE: Final = 12
_IPV4_FRAGMENT: Final = _ETHERNET + 6
_IPV4_PROTOCOL: Final = _ETHERNET + 9
_IPV6_NEXT_HEADER: Final = _ETHERNET + 6
_SOURCE_PORT: Final = 0
_DESTINATION_PORT: Final = 2

_OTHER_EXTENSIONS: Final = (ipv6.HOP_BY_HOP, ipv6.ROUTING, ipv6.DESTINATION_OPTIONS)
"""Not the authentication header: it covers the addresses, so that no NAT can get it through, and
nftables takes it for the upper layer (net/ipv6/exthdrs_core.c, IP6_FH_F_AUTH)."""

_KIND: Final = 0
"""Memory slot: the IP protocol, or _NO_PORTS for a fragment. A port is looked for only in what is
TCP or UDP here, a quoted address only in what is ICMP."""
_NO_PORTS: Final = 0


class _Layout(NamedTuple):
    """Where a version's addresses lie, from the start of the frame."""

    ethertype: int
    size: int  # bytes of an address
    source: int
    destination: int
    icmp: int  # the protocol's number


_IPV4: Final = _Layout(
    ETHERTYPE_IPV4,
    size=4,
    source=_ETHERNET + ipv4.SOURCE,
    destination=_ETHERNET + ipv4.DESTINATION,
    icmp=icmp.PROTOCOL,
)
_IPV6: Final = _Layout(
    ETHERTYPE_IPV6,
    size=16,
    source=_ETHERNET + ipv6.SOURCE,
    destination=_ETHERNET + ipv6.DESTINATION,
    icmp=icmp.PROTOCOL_V6,
)


class _Port(NamedTuple):
    """A transport port behind an address. ``to_snat``: only in packets to the SNAT ports."""

    protocol: int
    number: int
    to_snat: bool = False


_PortsAt = Mapping[int, frozenset[_Port]]


class _Precision(NamedTuple):
    """How closely a program looks."""

    ipv4_prefix: int  # bits
    ipv6_prefix: int
    ports: bool

    def prefix(self, layout: _Layout) -> int:
        return self.ipv4_prefix if layout is _IPV4 else self.ipv6_prefix


_PRECISIONS: Final = (
    _Precision(32, 128, ports=True),
    _Precision(32, 128, ports=False),
    _Precision(28, 112, ports=False),
    _Precision(24, 96, ports=False),
    _Precision(20, 80, ports=False),
    _Precision(16, 64, ports=False),
    _Precision(8, 32, ports=False),
    _Precision(0, 0, ports=False),  # always fits
)


def program(claim: Claim, mark: int, option_memory: int) -> list[bpf.Instruction]:
    """See ``Claim.packet_filter``. Frames with ``mark`` are rejected."""
    for precision in _PRECISIONS:
        instructions = _Filter(claim, precision).assemble(mark)
        if len(instructions) <= bpf.INSTRUCTIONS_MAX and bpf.kernel_bytes(instructions) <= option_memory:
            break
    return instructions


class _Filter:
    """One program in the making."""

    def __init__(self, claim: Claim, precision: _Precision) -> None:
        self._claim = claim
        self._precision = precision
        self._code = bpf.Assembler()
        self._accept = bpf.Label()
        self._reject = bpf.Label()

    def assemble(self, mark: int) -> list[bpf.Instruction]:
        """What is asked of every frame, and where each version of IP goes from there."""
        code = self._code
        code.emit(bpf.LOAD, bpf.ANCILLARY_MARK)
        code.branch(bpf.IF_EQUAL, mark, then=self._reject)
        untagged = bpf.Label()
        code.emit(bpf.LOAD, bpf.ANCILLARY_VLAN_TAG_PRESENT)
        code.branch(bpf.IF_EQUAL, 0, then=untagged)
        code.emit(bpf.LOAD, bpf.ANCILLARY_VLAN_TAG)
        code.branch(bpf.IF_ANY_BIT, _VLAN_ID, then=self._reject)
        code.place(untagged)
        code.emit(bpf.LOAD, bpf.ANCILLARY_PACKET_TYPE)
        code.branch(bpf.IF_EQUAL, _PACKET_HOST, otherwise=self._reject)
        code.emit(bpf.LOAD_HALF, _ETHERTYPE)
        versions = [(layout, bpf.Label()) for layout in (_IPV4, _IPV6)]
        for layout, start in versions:
            code.branch(bpf.IF_EQUAL, layout.ethertype, then=start)
        code.jump(self._reject)
        for layout, start in versions:
            code.place(start)
            self._packet(layout)
        code.place(self._accept)
        code.emit(bpf.RETURN, _ACCEPT_WHOLE)
        code.place(self._reject)
        code.emit(bpf.RETURN, 0)
        return code.assemble()

    def _packet(self, layout: _Layout) -> None:
        code, claim = self._code, self._claim
        destinations = self._by_prefix(layout, _entries(claim.services))
        backends = [*_entries(claim.backends), *_entries(claim.full_backends, to_snat=True)]
        sources = self._by_prefix(layout, backends)
        if not destinations and not sources:
            code.jump(self._reject)
            return
        lookup, by_source, compare = bpf.Label(), bpf.Label(), bpf.Label()
        if layout is _IPV4:
            self._classify_ipv4(lookup)
        else:
            self._classify_ipv6(lookup)
        code.place(lookup)
        code.emit(bpf.LOAD_X_IMMEDIATE, layout.destination)
        self._match(layout, destinations, _DESTINATION_PORT, by_source)
        code.place(by_source)
        code.emit(bpf.LOAD_X_IMMEDIATE, layout.source)
        code.emit(bpf.LOAD_MEMORY, _KIND)
        code.branch(bpf.IF_EQUAL, layout.icmp, otherwise=compare)
        if layout is _IPV4:
            code.emit(bpf.LOAD_X_HEADER_LENGTH, _ETHERNET)
            code.emit(bpf.X_TO_A)
            code.emit(bpf.ADD, icmp.SIZE + layout.destination)
            code.emit(bpf.A_TO_X)
        else:
            code.emit(bpf.LOAD_X_IMMEDIATE, ipv6.SIZE + icmp.SIZE + layout.destination)
        code.place(compare)
        self._match(layout, sources, _SOURCE_PORT, self._reject)

    def _classify_ipv4(self, lookup: bpf.Label) -> None:
        """Store the kind of a packet and go to ``lookup`` if it can be claimed."""
        code = self._code
        fragment, message = bpf.Label(), bpf.Label()
        code.emit(bpf.LOAD_HALF, _IPV4_FRAGMENT)
        code.branch(bpf.IF_ANY_BIT, ipv4.MORE_FRAGMENTS | ipv4.OFFSET_MASK, then=fragment)
        code.emit(bpf.LOAD_BYTE, _IPV4_PROTOCOL)
        code.emit(bpf.STORE, _KIND)
        for protocol in Protocol:
            code.branch(bpf.IF_EQUAL, protocol, then=lookup)
        code.branch(bpf.IF_EQUAL, icmp.PROTOCOL, then=message, otherwise=self._reject)
        code.place(message)
        code.emit(bpf.LOAD_X_HEADER_LENGTH, _ETHERNET)
        code.emit(bpf.LOAD_BYTE_INDIRECT, _ETHERNET)
        for kind in sorted(icmp.ERRORS):
            code.branch(bpf.IF_EQUAL, kind, then=lookup)
        code.jump(self._reject)
        code.place(fragment)
        code.emit(bpf.LOAD_IMMEDIATE, _NO_PORTS)
        code.emit(bpf.STORE, _KIND)

    def _classify_ipv6(self, lookup: bpf.Label) -> None:
        """As for IPv4. Extension headers other than a fragment's are rare and would take a loop:
        what has them is accepted."""
        code = self._code
        fragment, message = bpf.Label(), bpf.Label()
        code.emit(bpf.LOAD_BYTE, _IPV6_NEXT_HEADER)
        code.emit(bpf.STORE, _KIND)
        for protocol in Protocol:
            code.branch(bpf.IF_EQUAL, protocol, then=lookup)
        code.branch(bpf.IF_EQUAL, icmp.PROTOCOL_V6, then=message)
        code.branch(bpf.IF_EQUAL, ipv6.FRAGMENT, then=fragment)
        for extension in _OTHER_EXTENSIONS:
            code.branch(bpf.IF_EQUAL, extension, then=self._accept)
        code.jump(self._reject)
        code.place(message)
        code.emit(bpf.LOAD_BYTE, _ETHERNET + ipv6.SIZE)
        for kind in sorted(icmp.ERRORS_V6):
            code.branch(bpf.IF_EQUAL, kind, then=lookup)
        code.jump(self._reject)
        code.place(fragment)
        code.emit(bpf.LOAD_IMMEDIATE, _NO_PORTS)
        code.emit(bpf.STORE, _KIND)

    def _by_prefix(self, layout: _Layout, entries: Iterable[tuple[bytes, _Port]]) -> _PortsAt:
        """The ports behind each address: an integer, cut to what this program compares."""
        host = layout.size * 8 - self._precision.prefix(layout)
        found: defaultdict[int, set[_Port]] = defaultdict(set)
        for ip, port in entries:
            if len(ip) == layout.size:
                found[int.from_bytes(ip, "big") >> host << host].add(port)
        return {address: frozenset(found[address]) for address in sorted(found)}

    def _match(self, layout: _Layout, ports_at: _PortsAt, port_offset: int, miss: bpf.Label) -> None:
        """Look for the address that X points to, then for the port. Ends in accept or at ``miss``."""
        if not ports_at:
            self._code.jump(miss)
            return
        leaves: dict[frozenset[_Port], bpf.Label] = {}
        targets = {
            address: leaves.setdefault(ports, bpf.Label()) if self._precision.ports else self._accept
            for address, ports in ports_at.items()
        }
        search_address(self._code, targets, layout.size * 8, self._precision.prefix(layout), miss)
        for ports, leaf in leaves.items():
            self._code.place(leaf)
            self._match_port(layout, ports, port_offset, miss)

    def _match_port(
        self, layout: _Layout, ports: frozenset[_Port], port_offset: int, miss: bpf.Label
    ) -> None:
        code = self._code
        towards_snat = bpf.Label()
        by_protocol: dict[Protocol, dict[int, bpf.Label]] = {protocol: {} for protocol in Protocol}
        # Those without to_snat come last: they hold for more packets.
        for port in sorted(ports, key=lambda port: not port.to_snat):
            target = towards_snat if port.to_snat else self._accept
            by_protocol[Protocol(port.protocol)][port.number] = target
        starts = {protocol: bpf.Label() if used else miss for protocol, used in by_protocol.items()}
        code.emit(bpf.LOAD_MEMORY, _KIND)
        for protocol, start in starts.items():
            code.branch(bpf.IF_EQUAL, protocol, then=start)
        code.jump(self._accept)
        for protocol, targets in by_protocol.items():
            if targets:
                code.place(starts[protocol])
                self._load_port(layout, port_offset)
                search(code, (Range(number, number, target) for number, target in targets.items()), miss)
        if any(port.to_snat for port in ports):
            code.place(towards_snat)
            self._load_port(layout, _DESTINATION_PORT)
            search(code, [Range(*self._claim.snat_ports, self._accept)], miss)

    def _load_port(self, layout: _Layout, port_offset: int) -> None:
        if layout is _IPV4:
            self._code.emit(bpf.LOAD_X_HEADER_LENGTH, _ETHERNET)
            self._code.emit(bpf.LOAD_HALF_INDIRECT, _ETHERNET + port_offset)
        else:
            self._code.emit(bpf.LOAD_HALF, _ETHERNET + ipv6.SIZE + port_offset)


def _entries(transports: Iterable[Transport], *, to_snat: bool = False) -> list[tuple[bytes, _Port]]:
    return [(ip, _Port(protocol, number, to_snat)) for ip, protocol, number in transports]
