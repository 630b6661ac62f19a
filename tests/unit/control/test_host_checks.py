"""What l4lb warns of on a host, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from l4lb.control import host_checks
from l4lb.control.config.config import Config, GatewayConfig
from l4lb.control.host_checks import Sysctls, key_problems, read_sysctls, warnings_for
from l4lb.control.host_view import look
from l4lb.datapath.base import Capabilities
from l4lb.model import AgentCheck, Backend, Endpoint, HealthCheck, Limits, Nat, Probes, Service
from l4lb.netlink.state import Address, Link, Route
from tests.unit.control.fake_host import GATEWAY, packed

WEB = Service("web", Endpoint.parse("10.1.0.100:80"), backends=(Backend(Endpoint.parse("10.2.0.11:80")),))
WEB6 = Service(
    "web6", Endpoint.parse("[2001:db8:1::64]:80"), backends=(Backend(Endpoint.parse("[2001:db8:2::b]:80")),)
)

EVERYWHERE = frozenset((version, link.name) for version in (4, 6) for link in GATEWAY.links)


def found(
    *services,
    gateway=None,
    sysctls=None,
    foreign_rules=False,
    withdrawn=(),
    host=GATEWAY,
    capabilities=Capabilities("memory"),  # noqa: B008
    at_start=None,
):
    config = Config(gateway or GatewayConfig(), services or (WEB,), Path("l4lb.toml"))
    return warnings_for(
        config,
        look(config, host, None),
        sysctls or Sysctls(),
        foreign_rules=foreign_rules,
        withdrawn=withdrawn,
        capabilities=capabilities,
        at_start=at_start or config.gateway,
    )


def test_limits_that_the_tables_were_not_made_for():
    limits = Limits(half_open=500, established=500, affinity=1000, fragments=2000)
    gateway = GatewayConfig(limits=limits)
    assert found(gateway=gateway, capabilities=Capabilities("raw")) == []
    made_for = Limits(half_open=1000, established=1000, affinity=1000, fragments=1000)
    assert found(gateway=gateway, capabilities=Capabilities("tc", made_for=made_for)) == [
        f"gateway.limits.{name} is {limit}, but the kernel's table is made for 1000: 'l4lb stop' and a "
        "start change it"
        for name, limit in (("half_open", 500), ("fragments", 2000))
    ]


@pytest.mark.parametrize(
    ("at_start", "wanted", "said"),
    [
        (
            GatewayConfig(),
            GatewayConfig(datapath="xdp"),
            ["datapath is xdp, but l4lb was started with auto"],
        ),
        (GatewayConfig(), GatewayConfig(datapath="tc"), []),  # as auto chose
        (GatewayConfig(datapath="tc"), GatewayConfig(), ["datapath is auto, but l4lb was started with tc"]),
        (GatewayConfig(), GatewayConfig(hold=2.5), ["hold is 2.5, but l4lb was started with 30"]),
        (
            GatewayConfig(datapath="tc", hold=0),
            GatewayConfig(datapath="raw", hold=5),
            ["datapath is raw, but l4lb was started with tc", "hold is 5, but l4lb was started with 0"],
        ),
    ],
)
def test_what_is_for_the_next_start(at_start, wanted, said):
    assert found(gateway=wanted, at_start=at_start, capabilities=Capabilities("tc")) == [
        f"gateway.{line}: a restart changes it" for line in said
    ]


def test_nothing_is_wrong_with_a_host_that_is_set_up():
    assert found(WEB, WEB6, gateway=GatewayConfig(interfaces=("eth0", "eth1"))) == []


def test_an_interface_that_was_forgotten():
    (line,) = found(gateway=GatewayConfig(interfaces=("eth0",)))
    assert line.startswith("interface eth1 leads to backends, but is not in gateway.interfaces")


def holding(vip, index, length=32, host=GATEWAY):
    return replace(host, addresses=(*host.addresses, Address(index, packed(vip), length)))


DUMMY = replace(GATEWAY, links=(*GATEWAY.links, Link(4, "dummy0", b"\2\0\0\0\0\4", 1500, True)))


@pytest.mark.parametrize("gateway", [GatewayConfig(), GatewayConfig(manage_vips=False)])
@pytest.mark.parametrize(
    ("host", "service", "vip"),
    [
        (GATEWAY, WEB, "10.1.0.100"),  # where it is not yet
        (holding("10.1.0.100", 2), WEB, "10.1.0.100"),
        (holding("2001:db8:1::64", 2), WEB6, "2001:db8:1::64"),
    ],
)
def test_the_interface_of_a_vip_that_was_forgotten(gateway, host, service, vip):
    assert found(service, host=host, gateway=replace(gateway, interfaces=("eth1",))) == [
        f"VIP {vip} belongs on eth0, which is not in gateway.interfaces: clients' packets that come by it "
        "are left to the host; add it, or leave the key out"
    ]


def test_two_services_at_a_vip_are_one_line():
    dns = replace(WEB, name="dns", address=Endpoint.parse("10.1.0.100:53"))
    assert len(found(WEB, dns, gateway=GatewayConfig(interfaces=("eth1",)))) == 1


def test_a_vip_on_the_interface_of_the_default_route_that_was_forgotten():
    routed = replace(WEB, address=Endpoint.parse("192.0.2.1:80"))
    host = replace(GATEWAY, routes=(*GATEWAY.routes, Route(bytes(4), 0, 2, gateway=packed("10.1.0.254"))))
    gateway = GatewayConfig(interfaces=("eth1",))
    (line,) = found(routed, host=holding("192.0.2.1", 2, host=host), gateway=gateway)
    assert line.startswith("VIP 192.0.2.1 belongs on eth0, which is not in gateway.interfaces")
    # Until somebody has put it there it may as well come to a loopback.
    assert found(routed, host=host, gateway=gateway) == []


@pytest.mark.parametrize(
    ("host", "gateway"),
    [
        (holding("10.1.0.100", 1), GatewayConfig(manage_vips=False)),
        (holding("10.1.0.100", 4, host=DUMMY), GatewayConfig(manage_vips=False)),
        (holding("10.1.0.100", 4, host=DUMMY), GatewayConfig(vip_interface="dummy0")),
        (DUMMY, GatewayConfig(vip_interface="dummy0")),
        (holding("10.1.0.100", 2, host=holding("10.1.0.100", 3)), GatewayConfig()),
    ],
)
def test_by_which_interface_clients_come_may_be_known_to_the_operator_only(host, gateway):
    assert found(host=host, gateway=replace(gateway, interfaces=("eth1",))) == []


def test_an_interface_that_does_not_exist():
    assert found(gateway=GatewayConfig(interfaces=("eth0", "eth1", "eth9"))) == [
        "interface eth9 does not exist now: its packets are balanced once it does"
    ]


@pytest.mark.parametrize("named", [True, False])
def test_an_interface_without_ethernet(named):
    tunnel = replace(GATEWAY, links=tuple(replace(link, mac=b"") for link in GATEWAY.links))
    assert found(gateway=GatewayConfig(interfaces=("eth0", "eth1") if named else ()), host=tunnel)[-1] == (
        "interface eth1 carries no Ethernet frames: its packets stay the host's"
    )


@pytest.mark.parametrize(
    ("backend", "why"),
    [
        ("192.0.2.1:80", "has no route: add one, or bring its interface up"),
        ("10.2.0.1:80", "is an address of this host: l4lb balances to other hosts only"),
        ("10.2.0.255:80", "is a broadcast or anycast address of a network of this host, not of a server"),
    ],
)
def test_a_backend_that_packets_cannot_be_sent_to(backend, why):
    assert found(with_backends(backend)) == [f"service web: backend {backend} {why}"]


def with_backends(*addresses):
    return replace(WEB, backends=tuple(Backend(Endpoint.parse(each)) for each in addresses))


@pytest.mark.parametrize(
    ("backends", "line"),
    [
        (
            [f"192.0.2.{number}:80" for number in (1, 2)],
            "2 backends (192.0.2.1:80, 192.0.2.2:80) have no route: add one, or bring their interface up",
        ),
        (
            [f"192.0.2.1:{port}" for port in range(1, 5001)],
            "5,000 backends (192.0.2.1:1, 192.0.2.1:2 and 4,998 more) have no route: "
            "add one, or bring their interface up",
        ),
        (
            ["10.2.0.1:80", "10.2.0.1:81"],
            "2 backends (10.2.0.1:80, 10.2.0.1:81) are addresses of this host: "
            "l4lb balances to other hosts only",
        ),
        (
            ["10.2.0.255:80", "10.2.0.255:81"],
            "2 backends (10.2.0.255:80, 10.2.0.255:81) are broadcast or anycast addresses of networks of "
            "this host, not of servers",
        ),
    ],
)
def test_many_backends_that_packets_cannot_be_sent_to_are_one_line(backends, line):
    assert found(with_backends(*backends)) == [f"service web: {line}"]


def test_each_reason_has_a_line_and_each_service():
    backends = ("192.0.2.1:80", "10.2.0.1:80", "10.2.0.11:80", "192.0.2.2:80")
    lines = found(with_backends(*backends), replace(with_backends("192.0.2.1:80"), name="other"))
    assert [line.split(": ")[:2] for line in lines] == [
        ["service web", "2 backends (192.0.2.1:80, 192.0.2.2:80) have no route"],
        ["service web", "backend 10.2.0.1:80 is an address of this host"],
        ["service other", "backend 192.0.2.1:80 has no route"],
    ]


def test_vips_that_others_took_away():
    assert found(withdrawn=[packed("2001:db8:1::64"), packed("10.1.0.100")]) == [
        f"VIP {vip} is on no interface: who had put it there took it away; put it back, or restart l4lb, "
        "which does, or set gateway.manage_vips to false if it is for others to move"
        for vip in ("10.1.0.100", "2001:db8:1::64")
    ]


def test_policy_routing():
    (line,) = found(foreign_rules=True)
    assert "ip rule" in line
    assert "not followed" in line


@pytest.mark.parametrize(
    ("needed", "result"),
    [
        (False, "services work, but hosts behind this gateway reach nothing else through it"),
        (True, "services do not work, for datapath tc needs the kernel to forward"),
    ],
)
@pytest.mark.parametrize(
    ("service", "off"),
    [
        (WEB, "net.ipv4.ip_forward"),
        (WEB6, "net.ipv6.conf.all.forwarding"),
    ],
)
def test_forwarding_that_is_off_for_a_family_in_use(service, off, needed, result):
    (line,) = found(
        service,
        sysctls=Sysctls(ip_forward=False, ipv6_forwarding=False, not_forwarding=EVERYWHERE),
        capabilities=Capabilities("tc", needs_forwarding=needed),
    )
    assert line == f"{off} is 0: {result}; turn it on with: sysctl -w {off}=1"


@pytest.mark.parametrize("on", [True, False])
def test_forwarding_that_is_off_for_one_interface(on):
    """The kernel's routes are asked for the one that a packet comes by, whatever is set for the others."""
    sysctls = Sysctls(ip_forward=on, not_forwarding=frozenset({(4, "eth1"), (6, "eth0")}))
    (line,) = found(sysctls=sysctls, capabilities=Capabilities("tc", needs_forwarding=True))
    assert line.startswith("net.ipv4.conf.eth1.forwarding is 0: services do not work, for datapath tc")
    assert line.endswith("sysctl -w net.ipv4.conf.eth1.forwarding=1")
    (line,) = found(sysctls=sysctls)
    assert line.startswith("net.ipv4.conf.eth1.forwarding is 0: services work, but hosts behind")


@pytest.mark.parametrize("needed", [False, True])
def test_forwarding_that_is_on_for_all_that_is_there_is_enough(needed):
    capabilities = Capabilities("tc", needs_forwarding=needed)
    assert not found(sysctls=Sysctls(ip_forward=False), capabilities=capabilities)
    # But IPv6's own, which the datapaths do not use, asks the host's setting.
    (line,) = found(WEB6, sysctls=Sysctls(ipv6_forwarding=False), capabilities=capabilities)
    assert line.startswith("net.ipv6.conf.all.forwarding is 0: services work, but hosts behind")


@pytest.mark.parametrize(
    ("local_ports", "overlap"),
    [
        ((32768, 60999), False),
        ((32767, 60999), True),
        ((1024, 10240), True),
        ((1024, 10239), False),
        ((12000, 13000), True),
        ((1024, 65535), True),
    ],
)
def test_ports_of_full_nat_that_the_host_may_use_itself(local_ports, overlap):
    sysctls = Sysctls(local_ports=local_ports)
    assert len(found(replace(WEB, nat=Nat.FULL), sysctls=sysctls)) == overlap
    assert found(WEB, sysctls=sysctls) == []  # destination NAT takes no ports


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "ipv4/ip_forward": "0\n",
                "ipv6/conf/all/forwarding": "1\n",
                "ipv4/ip_local_port_range": "1024\t2048\n",
                "ipv4/conf/eth0.10/forwarding": "0\n",
                "ipv4/conf/eth1/forwarding": "1\n",
                "ipv6/conf/eth1/forwarding": "0\n",
            },
            Sysctls(
                ip_forward=False,
                ipv6_forwarding=True,
                not_forwarding=frozenset({(4, "eth0.10"), (6, "eth1")}),
                local_ports=(1024, 2048),
            ),
        ),
        ({"ipv6/conf/all/forwarding": "0\n"}, Sysctls(ip_forward=True, ipv6_forwarding=False)),
    ],
)
def test_sysctls_are_read_and_missing_ones_cause_no_warning(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(host_checks, "_PROC_NET", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert read_sysctls(["eth0.10", "eth1"]) == expected


def test_more_questions_to_agents_than_the_ceiling_allows():
    asked = replace(WEB, agent=AgentCheck(7077, key="/key", interval=0.1))
    assert found(asked) == []
    (line,) = found(asked, gateway=GatewayConfig(probes=Probes(ceiling=10.0)))
    assert line == (
        "to ask all agents at their intervals takes 20 packets a second, and gateway.probes.ceiling allows "
        "10 for them and the probes: they are asked less often; raise one of the two"
    )
    assert found(asked, gateway=GatewayConfig(probes=Probes(floor=0.0, ceiling=20.0)))
    assert found(asked, gateway=GatewayConfig(probes=Probes(floor=5.0, ceiling=25.0)))
    assert not found(asked, gateway=GatewayConfig(probes=Probes(floor=5.0, ceiling=26.0)))


def asking(name, key, check="tcp"):
    return replace(WEB, name=name, agent=AgentCheck(7077, key=str(key)), health=HealthCheck(check=check))


def test_keys_that_cannot_be_read_are_one_line_each(tmp_path):
    good, missing, open_to_all = tmp_path / "good", tmp_path / "missing", tmp_path / "open"
    for key, mode in ((good, 0o600), (open_to_all, 0o644)):
        key.write_text(32 * "0f")
        key.chmod(mode)
    services = [
        asking("one", missing),
        asking("two", good, "agent"),
        asking("three", open_to_all),
        asking("four", missing, "agent"),
        WEB,
        replace(WEB, name="line", agent=AgentCheck(7077, protocol="tcp")),
    ]
    assert key_problems(services) == [
        f"{missing}: cannot read the key: No such file or directory: the agents of services one, four are "
        "not asked, and the backends of service four are not checked",
        f"{open_to_all}: others can read or change it (mode 0644): chmod 0600 it: the agents of service "
        "three are not asked",
    ]


@pytest.mark.parametrize(
    ("count", "names"),
    [(3, "services 0, 1, 2"), (4, "services 0, 1 and 2 more"), (2000, "services 0, 1 and 1,998 more")],
)
def test_of_many_services_a_line_names_some(tmp_path, count, names):
    (line,) = key_problems([asking(str(number), tmp_path / "missing") for number in range(count)])
    assert line.endswith(f"the agents of {names} are not asked")
