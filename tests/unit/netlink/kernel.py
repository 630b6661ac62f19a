"""Messages as the kernel would send them, encoded and decoded again by pyroute2."""

from socket import AF_INET, AF_INET6

from pyroute2.netlink import rtnl
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from l4lb.netlink import messages

UP, LOWER_UP = 0x1, 0x10000


def message(kind, *, nlm=0, attrs=(), **fields):
    """A decoded ``RTM_<kind>``; ``nlm`` are the flags of its header, attributes (name, value) pairs."""
    number = getattr(rtnl, f"RTM_{kind}")
    built = MarshalRtnl.msg_map[number]()
    built.update(fields)
    built["attrs"] = [pair for pair in attrs if pair[1] is not None]
    built["header"].update(type=number, flags=nlm, sequence_number=0, pid=0)
    built.encode()
    (decoded,) = MarshalRtnl().parse(built.data)
    return decoded


def link(
    index,
    *,
    kind="NEWLINK",
    name="eth0",
    mac="02:00:00:00:00:02",
    mtu=1500,
    flags=UP | LOWER_UP,
    attrs=(),
    **rest,
):
    attrs = [("IFLA_IFNAME", name), ("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu), *attrs]
    fields = {"family": 0, "ifi_type": 1, **rest}
    return message(kind, index=index, flags=flags, attrs=attrs, **fields)


def address(index, text, length, *, kind="NEWADDR", local=None, flags=0):
    return message(
        kind,
        family=AF_INET6 if ":" in text else AF_INET,
        index=index,
        prefixlen=length,
        flags=flags,
        attrs=[("IFA_ADDRESS", text), ("IFA_LOCAL", local)],
    )


def route(prefix, *, kind="NEWROUTE", nlm=0, table=254, type=1, oif=2, attrs=(), **rest):
    text, length = prefix.split("/")
    fields = {"family": AF_INET6 if ":" in text else AF_INET, "flags": 0, "tos": 0, "src_len": 0, **rest}
    return message(
        kind,
        nlm=nlm,
        dst_len=int(length),
        table=table,
        type=type,
        attrs=[("RTA_TABLE", table), ("RTA_DST", text if int(length) else None), ("RTA_OIF", oif), *attrs],
        **fields,
    )


def neighbour(
    index, text, mac=None, *, kind="NEWNEIGH", state=messages.Nud.REACHABLE, flags=0, family=None
):
    return message(
        kind,
        family=family or (AF_INET6 if ":" in text else AF_INET),
        ifindex=index,
        state=int(state),
        flags=flags,
        attrs=[("NDA_DST", text), ("NDA_LLADDR", mac)],
    )


def rule(priority, table, *, kind="NEWRULE", family=AF_INET, action=1, attrs=(), **rest):
    fields = {"src_len": 0, "dst_len": 0, "tos": 0, "flags": 0, **rest}
    always = [("FRA_TABLE", table), ("FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF), ("FRA_PROTOCOL", 2)]
    return message(
        kind,
        family=family,
        table=table,
        action=action,
        attrs=[("FRA_PRIORITY", priority or None), *always, *attrs],
        **fields,
    )


def default_rules():
    return [
        rule(0, 255),
        rule(32766, 254),
        rule(32767, 253),
        rule(0, 255, family=AF_INET6),
        rule(32766, 254, family=AF_INET6),
    ]
