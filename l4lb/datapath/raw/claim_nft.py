"""The claim as an nftables ruleset: the shield's table. Pure.

The table is of the netdev family, one base chain per interface at the ingress hook, which is behind
the packet sockets and before everything else of the host's stack. What it claims ends in the chain
``shield``; whatever else happens, a packet is accepted.

A ruleset is one transaction that changes the table in place: hooks and sets stay, rules and elements
are exchanged. Two things would let a packet through that is under way when the kernel switches to the
new generation, also in one transaction: deleting the table and adding it anew, for a packet between the
two tables' hooks; and a verdict map inside a rule, for a packet still in the old rules, as deleting
them voids the map's elements at once (net/netfilter/nf_tables_api.c, nft_map_deactivate).

Everything is a number where nft would look a name up: a minimal system has no /etc/protocols.
Addresses and ports are in sets, so that the rules are the same few for one backend or thousands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from l4lb.datapath.raw.claim import Claim, Transport

TABLE: Final = "netdev l4lb"

NO_TABLE: Final = f"add table {TABLE}\ndelete table {TABLE}\n"
"""Takes the table away, if there is one: deleting alone would fail without it."""

_PRIORITY: Final = -500
"""Before other tables' ingress chains, flow tables among them, which would forward a claimed packet
past the shield."""

_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")

_RULES: Final = """\
  chain shield {{
    counter name dropped drop
  }}

{versions}\
  chain claim {{
    meta mark {mark:#x} meta mark set 0 accept
    meta iiftype != ether accept
    meta protocol != @live accept
    ether type 0x8100 vlan id != 0 accept
    ether type 0x88a8 vlan id != 0 accept
    meta pkttype != host accept
    meta protocol ip goto claim4
    meta protocol ip6 goto claim6
  }}

{hooks}"""

_VERSION_RULES: Final = """\
  chain fragments{v} {{
    {ip} daddr @vips{v} goto shield
    {ip} saddr @servers{v} fib daddr type != local goto shield
    {ip} saddr @full_servers{v} fib daddr type local goto shield
  }}

  chain errors{v} {{
    {ip} daddr @vips{v} goto shield
    {quoted} @quoted_servers{v} fib daddr type != local goto shield
    {quoted} @quoted_full_servers{v} fib daddr type local goto shield
  }}

  chain claim{v} {{
    {fragment} goto fragments{v}
    {ip} daddr . meta l4proto . th dport @services{v} goto shield
    {ip} saddr . meta l4proto . th sport @backends{v} fib daddr type != local goto shield
    {ip} saddr . meta l4proto . th sport @full_backends{v} th dport {ports} fib daddr type local goto shield
    {error} goto errors{v}
  }}

"""

_HOOK: Final = """\
  chain {chain} {{
    type filter hook ingress device "{interface}" priority {priority}; policy accept;
    jump claim
  }}

"""

# The destination of a quoted packet: behind the ICMP header's 8 bytes, 16 bytes into an IPv4 header
# and 24 into an IPv6 one. nft has no name for it.
_QUOTED: Final = {4: "@th,192,32", 6: "@th,256,128"}

_WORDS: Final = (
    {"v": "4", "ip": "ip", "fragment": "ip frag-off & 0x3fff != 0", "error": "icmp type { 3, 11, 12 }"},
    {"v": "6", "ip": "ip6", "fragment": "exthdr frag exists", "error": "icmpv6 type { 1, 2, 3, 4 }"},
)


def ruleset(
    claim: Claim, mark: int, interfaces: Sequence[str], gone: Iterable[str], expires_in: float | None
) -> str:
    """See ``Claim.nft_ruleset``. Frames with ``mark`` pass, and lose it.

    ``meta protocol`` is the type behind a tag that the kernel has put aside, ``ether type`` that on the
    wire. The protocol is compared with a set so that the shield can expire: when the elements of ``live``
    have timed out, no frame is of a live one.
    """
    sets = dict(_sets(claim, expires_in))
    low, high = claim.snat_ports
    versions = (
        _VERSION_RULES.format(**words, quoted=_QUOTED[int(words["v"])], ports=f"{low}-{high}")
        for words in _WORDS
    )
    hooks = (
        _HOOK.format(chain=_chain(interface), interface=interface, priority=_PRIORITY)
        for interface in dict.fromkeys(interfaces)
    )
    rules = _RULES.format(mark=mark, versions="".join(versions), hooks="".join(hooks))
    declared = "".join(f"  set {name} {{ {kind}; }}\n" for name, (kind, _) in sets.items())
    flushed = "".join(f"flush set {TABLE} {name}\n" for name in sets)
    # The chain of an interface that has vanished may be gone with it: only deleting it would fail.
    deleted = "".join(
        f"add chain {TABLE} {name}\ndelete chain {TABLE} {name}\n" for name in map(_chain, gone)
    )
    filled = "".join(
        f"add element {TABLE} {name} {{ {', '.join(elements)} }}\n"
        for name, (_, elements) in sets.items()
        if elements
    )
    return (
        f"table {TABLE} {{\n  counter dropped {{ }}\n{declared}}}\n"
        f"{flushed}flush table {TABLE}\n{deleted}"
        f"table {TABLE} {{\n{rules}}}\n{filled}"
    )


def _sets(claim: Claim, expires_in: float | None) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Names of the sets; what kind they are, and their elements."""
    timeout = "" if expires_in is None else f" timeout {max(1, round(expires_in * 1000))}ms"
    yield "live", ("type ether_type; flags timeout", [f"ip{timeout}", f"ip6{timeout}"])
    for version, size in ((4, 4), (6, 16)):
        address = f"ipv{version}_addr"
        for name, transports in (
            ("services", claim.services),
            ("backends", claim.backends),
            ("full_backends", claim.full_backends),
        ):
            kind = f"type {address} . inet_proto . inet_service"
            yield f"{name}{version}", (kind, [_transport(each) for each in _of_size(transports, size)])
        for name, addresses in (
            ("vips", claim.vips),
            ("servers", claim.servers),
            ("full_servers", claim.full_servers),
        ):
            chosen = sorted(ip for ip in addresses if len(ip) == size)
            yield f"{name}{version}", (f"type {address}", [str(ip_address(ip)) for ip in chosen])
            if name != "vips":
                kind = f"typeof {_QUOTED[version]}"
                yield f"quoted_{name}{version}", (kind, [f"0x{ip.hex()}" for ip in chosen])


def _of_size(transports: Iterable[Transport], size: int) -> list[Transport]:
    return sorted(transport for transport in transports if len(transport[0]) == size)


def _transport(transport: Transport) -> str:
    ip, protocol, port = transport
    return f"{ip_address(ip)} . {protocol} . {port}"


def _chain(interface: str) -> str:
    if not _INTERFACE.fullmatch(interface):
        raise ValueError(f"the shield cannot name the interface '{interface}': letters, digits, _ . - only")
    return f"ingress-{interface}"
