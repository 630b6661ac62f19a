"""What single values of the config file may be. Pure; each raises ValueError with one line."""

from __future__ import annotations

import ipaddress
import re

from l4lb.model import Endpoint
from l4lb.schedulers import SCHEDULERS

_LONGEST_SHOWN = 80  # characters
_DATAPATHS = ("auto", "xdp", "tc", "raw")


def shown(value: object) -> str:
    """A value as its author would recognise it, on one line and not much of it."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = f"'{value}'" if value.isprintable() else repr(value)
    elif isinstance(value, dict):
        text = "a table"
    elif isinstance(value, list):
        text = f"[{', '.join(map(shown, value))}]"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def own_endpoint(value: object) -> Endpoint:
    """``ADDRESS:PORT`` of this host, to listen on; the unspecified address is all of them."""
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError(f'{shown(value)} is not an address: write "ADDRESS:PORT"')
    return Endpoint.parse(value)


def endpoint(value: object) -> Endpoint:
    """``ADDRESS:PORT`` of one host that packets can be routed to."""
    parsed = own_endpoint(value)
    ip = ipaddress.ip_address(parsed.ip)
    what = None
    if ip.is_unspecified:
        what = "the unspecified address"
    elif ip.is_loopback:
        what = "a loopback address, which never leaves the host"
    elif ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
        what = "not the address of a single host"
    elif isinstance(ip, ipaddress.IPv6Address):
        if ip.is_link_local:
            what = "a link-local address, which means something only on one link"
        elif ip.ipv4_mapped:
            what = f"an IPv4 address in IPv6 notation: write {ip.ipv4_mapped}:{parsed.port}"
    if what:
        raise ValueError(f"'{parsed.host}' is {what}")
    return parsed


def interface(name: str) -> str:
    """A name the kernel would accept: dev_valid_name() of net/core/dev.c."""
    if not 0 < len(name.encode()) < 16 or name in (".", "..") or re.search(r"[/:\s\0]", name):
        raise ValueError(f"{shown(name)} cannot be the name of an interface")
    return name


def receiving_interface(name: str) -> str:
    """An interface that packets of other hosts come by."""
    if name == "lo":
        raise ValueError("'lo' has no packets but this host's own, which are not balanced")
    return interface(name)


def datapath(name: str) -> str:
    """A datapath that exists."""
    if name not in _DATAPATHS:
        raise ValueError(f"{shown(name)} is not one of {', '.join(_DATAPATHS)}")
    return name


def service_name(name: str) -> str:
    """A name that is safe in a URL, a shell and a metric's label."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ValueError(
            f"{shown(name)} cannot be the name of a service: use up to 63 letters, digits, "
            "'-', '_' and '.', and begin with a letter or digit"
        )
    return name


def scheduler(name: str) -> str:
    """A scheduler that exists."""
    if name not in SCHEDULERS:
        raise ValueError(f"{shown(name)} is not one of {', '.join(SCHEDULERS)}")
    return name


def port_range(ports: list[int]) -> list[int]:
    """``[LOW, HIGH]``, both inclusive."""
    if len(ports) != 2 or not 1 <= ports[0] <= ports[1] <= 65535:
        raise ValueError(f"{ports} is not a range of ports: write [LOW, HIGH] within 1-65535")
    return ports


def absolute_path(path: str) -> str:
    """The name of a file that does not depend on where the daemon was started."""
    if not path.startswith("/") or not path.isprintable():
        raise ValueError(f"{shown(path)} is not a whole path: it begins with '/'")
    return path


def http_path(path: str) -> str:
    """Origin-form of RFC 9112 section 3.2.1; anything else would break the request line."""
    if not re.fullmatch(r"/[!-~]*", path):
        raise ValueError(f"{shown(path)} is not a path: it begins with '/' and has no spaces")
    return path


def http_host(host: str) -> str:
    """The Host header of RFC 9110 section 7.2, without being strict about the name."""
    if not re.fullmatch(r"[!-~]+", host):
        raise ValueError(f"{shown(host)} cannot be a Host header")
    return host


def http_status(value: object) -> tuple[tuple[int, int], ...]:
    """``"200-399"``, ``204``, or a list of such, as inclusive ranges."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise ValueError("an empty list: no answer would count as healthy")
    return tuple(map(_status_range, items))


def _status_range(item: object) -> tuple[int, int]:
    match = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", str(item))
    if match is None or not isinstance(item, int | str):
        raise ValueError(f'{shown(item)} is not an HTTP status: write 204, "200-399" or a list of these')
    low, high = int(match[1]), int(match[2] or match[1])
    if low > high:
        raise ValueError(f"{shown(item)} ends before it begins")
    return low, high
