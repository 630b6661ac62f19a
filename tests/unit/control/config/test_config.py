"""What a config file may say, what it means, and how each mistake is reported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4lb import model
from l4lb.control.config import rules
from l4lb.control.config.config import Config, ConfigError, GatewayConfig, load, parse
from l4lb.model import AgentCheck, Backend, Endpoint, HealthCheck, Nat, Protocol, Service

PATH = Path("l4lb.toml")


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, PATH)
    return caught.value.errors


def service(*lines: str, name: str = "web", address: str = "10.1.0.100:80") -> str:
    return "\n".join(["[[services]]", f'name = "{name}"', f'address = "{address}"', *lines, ""])


def test_empty_file_is_a_config_with_all_defaults():
    assert parse("", PATH) == Config(GatewayConfig(), (), PATH)


def test_every_key_is_read():
    text = """
[gateway]
interfaces = ["eth0", "eth1.100"]
datapath = "raw"
manage_vips = false
vip_interface = "eth0"
snat_ports = [20000, 29999]
hold = 0
[gateway.limits]
half_open = 10
affinity = 20
[gateway.timeouts]
established = 3600
udp = 12.5
[gateway.metrics]
address = "[::1]:9000"

[gateway.probes]
enabled = false
share = 0.01
floor = 2

[[services]]
name = "web"
address = "10.1.0.100:80"
protocol = "tcp"
scheduler = "maglev"
nat = "full"
affinity = "client"
affinity_timeout = 60
when_all_down = "use_all"
when_backend_down = "keep"
[services.health]
check = "http"
interval = 5
timeout = 0.5
rise = 1
fall = 4
port = 8080
path = "/health?deep=1"
host = "www.example.org"
status = ["200-299", 304, "401"]
[services.agent]
port = 7077
protocol = "udp"
key = "/etc/l4lb/agents.key"
interval = 1
timeout = 0.25
cpu_limit = 0.8
memory_limit = 0.85
[[services.backends]]
address = "10.2.0.11:80"
[[services.backends]]
address = "10.2.0.12:8080"
weight = 0
"""
    config = parse(text, PATH)

    assert config.gateway == GatewayConfig(
        interfaces=("eth0", "eth1.100"),
        datapath="raw",
        manage_vips=False,
        vip_interface="eth0",
        snat_ports=(20000, 29999),
        hold=0,
        limits=model.Limits(half_open=10, affinity=20),
        timeouts=model.Timeouts(established=3600, udp=12.5),
        probes=model.Probes(enabled=False, share=0.01, floor=2),
        metrics=model.Metrics(address=model.Endpoint.parse("[::1]:9000")),
    )
    assert config.services == (
        Service(
            name="web",
            address=Endpoint.parse("10.1.0.100:80"),
            protocol=Protocol.TCP,
            scheduler="maglev",
            nat=Nat.FULL,
            affinity="client",
            affinity_timeout=60,
            when_all_down=model.WhenAllDown.USE_ALL,
            when_backend_down=model.WhenBackendDown.KEEP,
            health=HealthCheck(
                check="http",
                interval=5,
                timeout=0.5,
                rise=1,
                fall=4,
                port=8080,
                path="/health?deep=1",
                host="www.example.org",
                status=((200, 299), (304, 304), (401, 401)),
            ),
            agent=AgentCheck(7077, "udp", "/etc/l4lb/agents.key", 1, 0.25, 0.8, 0.85),
            backends=(
                Backend(Endpoint.parse("10.2.0.11:80"), 1),
                Backend(Endpoint.parse("10.2.0.12:8080"), 0),
            ),
        ),
    )


def test_a_service_that_says_little_gets_the_defaults_of_the_model():
    (web,) = parse(service(), PATH).services
    assert web == Service(name="web", address=Endpoint.parse("10.1.0.100:80"))


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        ("", HealthCheck(check="none")),
        ("interval = 9", HealthCheck(check="none", interval=9)),
        ("port = 8080", HealthCheck(check="tcp", port=8080)),
        ('port = 8080\ncheck = "http"', HealthCheck(check="http", port=8080)),
    ],
)
def test_a_udp_service_is_checked_only_on_a_port_that_is_named(health, expected):
    (dns,) = parse(service('protocol = "udp"', "[services.health]", health), PATH).services
    assert dns.health == expected


AGENT = ("[services.agent]", "port = 7077")


def test_agents_asked_by_the_line_of_haproxy_need_no_key():
    (web,) = parse(service(*AGENT, 'protocol = "tcp"'), PATH).services
    assert web.agent == AgentCheck(7077, "tcp")


def test_a_service_may_be_checked_by_asking_its_agents():
    (web,) = parse(service('health.check = "agent"', *AGENT, 'key = "/key"'), PATH).services
    assert web.health == HealthCheck(check="agent")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (AGENT, "l4lb.toml:4:1: services[web].agent: set 'key' to the file with the agents' key, or"),
        ((*AGENT, 'protocol = "icmp"'), "services[web].agent.protocol: 'icmp' is not one of udp, tcp"),
        (
            (*AGENT, 'protocol = "tcp"', 'key = "/k"'),
            "l4lb.toml:7:1: services[web].agent.key: HAProxy's agent-check has no key: leave it out, or",
        ),
        ((*AGENT, 'key = "agents.key"'), "services[web].agent.key: 'agents.key' is not a whole path"),
        ((*AGENT, 'key = "/k"', "cpu_limit = 1.5"), "agent.cpu_limit: 1.5 is too large: at most 1"),
        ((*AGENT, 'key = "/k"', "memory_limit = 0"), "agent.memory_limit: 0 is too small: at least 0.01"),
        ((*AGENT, 'key = "/k"', "interval = 0"), "agent.interval: 0 is too small: at least 0.1"),
        ((*AGENT, 'key = "/k"', "timeout = nan"), "agent.timeout: nan is not a finite number"),
        (("[services.agent]", 'key = "/k"'), "l4lb.toml:4:1: services[web].agent.port: missing"),
        (
            (*AGENT, 'kye = "/k"', 'protocol = "tcp"'),
            "agent.kye: there is no such key; did you mean 'key'?",
        ),
        (("agent = 7077",), "services[web].agent: 7077 is not a table"),
        (('health.check = "agent"',), "health.check: no agent to ask: add a table [services.agent]"),
    ],
)
def test_mistakes_about_agents(lines, message):
    (error,) = errors(service(*lines))
    assert message in error


@pytest.mark.parametrize("key", ['path = "/x"', 'host = "x"', "status = 204"])
def test_what_only_http_checks_have(key):
    (error,) = errors(service("[services.health]", key))
    name = key.split()[0]
    assert error.startswith(f"l4lb.toml:5:1: services[web].health.{name}: for http checks only: ")


def test_one_vip_and_port_may_serve_tcp_and_udp():
    text = service(name="dns-tcp") + service('protocol = "udp"', name="dns-udp")
    assert [s.protocol for s in parse(text, PATH).services] == [Protocol.TCP, Protocol.UDP]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("interfaces = []", "gateway.interfaces: empty: write at least one, or leave the key out"),
        ('interfaces = ["eth0", "eth0"]', "gateway.interfaces[1]: 'eth0' is already in the list"),
        ('interfaces = ["a/b"]', "gateway.interfaces[0]: 'a/b' cannot be the name of an interface"),
        (r'interfaces = ["a\u0000b"]', r"'a\x00b' cannot be the name of an interface"),
        ('interfaces = ["lo"]', "'lo' has no packets but this host's own, which are not balanced"),
        ('vip_interface = "sixteen-letters."', "'sixteen-letters.' cannot be the name of an interface"),
        ('interfaces = "eth0"', "gateway.interfaces: 'eth0' is not a list"),
        ('datapath = "fast"', "gateway.datapath: 'fast' is not one of auto, xdp, tc, raw"),
        ("manage_vips = 1", "gateway.manage_vips: 1 is not true or false"),
        ("snat_ports = [9, 8]", "[9, 8] is not a range of ports: write [LOW, HIGH] within 1-65535"),
        ("snat_ports = [0, 8]", "[0, 8] is not a range of ports"),
        ("snat_ports = [1, 2, 3]", "[1, 2, 3] is not a range of ports"),
        ("hold = -0.5", "gateway.hold: -0.5 is too small: at least 0"),
        ("hold = inf", "gateway.hold: inf is not a finite number"),
        ("hold = true", "gateway.hold: true is not a number"),
        ("limits.half_open = 0", "gateway.limits.half_open: 0 is too small: at least 1"),
        ("limits.halfopen = 9", "gateway.limits.halfopen: there is no such key; did you mean 'half_open'?"),
        ("timeouts.udp = 9e9", "gateway.timeouts.udp: 9000000000.0 is too large: at most 2592000"),
        ("probes.share = 0.2", "gateway.probes.share: 0.2 is too large: at most 0.1"),
        ("probes.share = -1.0", "gateway.probes.share: -1.0 is too small: at least 0"),
        ("probes.floor = nan", "gateway.probes.floor: nan is not a finite number"),
        ("probes.floor = 2000.0", "gateway.probes.floor: the ceiling, 1000, is below the floor, 2000"),
        ("probes.ceiling = 0.5", "gateway.probes.ceiling: the ceiling, 0.5, is below the floor, 1"),
        ("probes.burst = 3.0", "gateway.probes.burst: 3.0 is too small: at least 12"),
        ("metrics.address = 9000", "gateway.metrics.address: 9000 is not an address"),
        ('metrics.address = "localhost"', "gateway.metrics.address: 'localhost'"),
        ("metrics.port = 9000", "gateway.metrics.port: there is no such key (known: enabled, address)"),
        ("probes.enabled = 1", "gateway.probes.enabled: 1 is not true or false"),
        ("probes.limit = 1", "gateway.probes.limit: there is no such key (known: enabled, share"),
        ("limits = 3", "gateway.limits: 3 is not a table"),
        ("colour = 1", "gateway.colour: there is no such key (known: interfaces, datapath, "),
    ],
)
def test_gateway_mistakes(line, message):
    (error,) = errors(f"[gateway]\n{line}\n")
    assert error.startswith("l4lb.toml:2:")
    assert message in error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('name = "we b"', "services[we b].name: 'we b' cannot be the name of a service"),
        ('name = "-web"', "cannot be the name of a service"),
        ('name = ""', "cannot be the name of a service"),
        ('address = "10.1.0.100"', "'10.1.0.100' has no port: write ADDRESS:PORT"),
        ('address = "2001:db8::1:80"', "an IPv6 address is written in brackets"),
        ('address = "10.1.0.100:0"', "'0' is not a port (1-65535)"),
        (f'address = "10.1.0.100:{"1" * 5_000}"', "1' is not a port (1-65535)"),
        ('address = "web.example.org:80"', "'web.example.org' is not an IP address"),
        ('address = "0.0.0.0:80"', "'0.0.0.0' is the unspecified address"),
        ('address = "127.0.0.1:80"', "'127.0.0.1' is a loopback address"),
        ('address = "224.0.0.1:80"', "'224.0.0.1' is not the address of a single host"),
        ('address = "[fe80::1]:80"', "'fe80::1' is a link-local address"),
        ('address = "[::ffff:10.0.0.1]:80"', "write 10.0.0.1:80"),
        ("address = 80", "services[web].address: 80 is not an address"),
        ('address = "10.1.0.1\\n:80"', "services[web].address: '10.1.0.1\\n:80' is not an address"),
        ('protocol = "sctp"', "services[web].protocol: 'sctp' is not one of tcp, udp"),
        ('scheduler = "fair"', "services[web].scheduler: 'fair' is not one of round_robin, "),
        ('nat = "source"', "'source' is not one of destination, full"),
        ('affinity = "cookie"', "'cookie' is not one of none, client"),
        ("affinity_timeout = 0", "0 is too small: at least 1"),
        ('when_all_down = "panic"', "'panic' is not one of refuse, use_all"),
        ('when_backend_down = "kill"', "'kill' is not one of reset, keep"),
        (
            'health.check = "icmp"',
            "services[web].health.check: 'icmp' is not one of tcp, http, agent, none",
        ),
        ("health.interval = 0.01", "0.01 is too small: at least 0.1"),
        ("health.rise = 1.5", "services[web].health.rise: 1.5 is not a whole number"),
        ("health.port = 65536", "65536 is too large: at most 65535"),
        (
            'health = { check = "http", path = "health" }',
            "'health' is not a path: it begins with '/' and has no spaces",
        ),
        ('health = { check = "http", path = "/a b" }', "'/a b' is not a path"),
        (
            'health = { check = "http", host = "a\\r\\nb" }',
            "services[web].health.host: 'a\\r\\nb' cannot be a Host header",
        ),
        ('health = { check = "http", status = [] }', "an empty list: no answer would count as healthy"),
        ('health = { check = "http", status = true }', "true is not an HTTP status"),
        ('health = { check = "http", status = ["200-99"] }', "'200-99' is not an HTTP status"),
        ('health = { check = "http", status = "399-200" }', "'399-200' ends before it begins"),
        ('health = { check = "http", status = 2.0 }', "2.0 is not an HTTP status"),
        ("weight = 1", "services[web].weight: there is no such key"),
        ("backends = [{ weight = 1 }]", "services[web].backends[0].address: missing"),
        ('backends = [{ address = "10.2.0.300:80" }]', "'10.2.0.300' is not an IP address"),
        ('backends = [{ address = "10.2.0.3:80", weight = -1 }]', "-1 is too small: at least 0"),
        ('backends = [{ address = "10.2.0.3:80", weight = 65536 }]', "65536 is too large: at most 65535"),
        ('backends = ["10.2.0.3:80"]', "services[web].backends[0]: '10.2.0.3:80' is not a table"),
    ],
)
def test_service_mistakes(line, message):
    keys = {"name": 'name = "web"', "address": 'address = "10.1.0.100:80"'}
    keys[line.split(" = ")[0]] = line
    (error,) = errors("\n".join(["[[services]]", *keys.values(), ""]))
    assert message in error
    assert "\n" not in error
    assert error.startswith(f"l4lb.toml:{list(keys).index(line.split(' = ')[0]) + 2}:")


def test_two_services_of_one_name():
    text = service() + service(address="10.1.0.101:80")
    assert errors(text) == ["l4lb.toml:5:1: services[web].name: another service is already called 'web'"]


def test_two_services_with_the_same_address_port_and_protocol():
    text = service() + service(name="shop")
    assert errors(text) == [
        "l4lb.toml:6:1: services[shop].address: service 'web' already has 10.1.0.100:80 (tcp)"
    ]


def test_the_same_address_in_other_words_is_still_the_same():
    text = service(name="a", address="[2001:db8::1]:80") + service(name="b", address="[2001:DB8:0::1]:80")
    assert "service 'a' already has [2001:db8::1]:80" in errors(text)[0]


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("10.2.0.11:80", "the service already has backend 10.2.0.11:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80 is IPv6, but the service's address 10.1.0.100:80 is IPv4"),
        ("10.1.0.100:8080", "10.1.0.100 is the service's own address"),
        ("10.1.0.200:80", "10.1.0.200 is the address of service 'other', not of a server"),
    ],
)
def test_backends_that_contradict_something_else(backend, message):
    first = '[[services.backends]]\naddress = "10.2.0.11:80"'
    second = f'[[services.backends]]\naddress = "{backend}"'
    (error,) = errors(service(first, second) + service(name="other", address="10.1.0.200:80"))
    assert error.startswith("l4lb.toml:7:1: services[web].backends[1].address: ")
    assert message in error


@pytest.mark.parametrize("check", ["tcp", "http"])
def test_a_udp_service_is_not_checked_by_tcp_on_its_own_port(check):
    text = service('protocol = "udp"', f'health.check = "{check}"')
    (error,) = errors(text)
    assert error.startswith("l4lb.toml:5:1: services[web].health.check: ")
    assert f"a UDP service cannot be checked by {check} on its own port" in error


def test_all_errors_come_at_once_in_the_order_of_the_file():
    text = """\
colour = "red"
[gateway]
hold = "long"
[[services]]
address = "10.1.0.100:80"
[[services.backends]]
address = "10.2.0.300:80"
[[services.backends]]
address = "10.2.0.11:80"
weight = 70000
[[services.backends]]
address = "10.2.0.11:80"
[[services]]
name = "shop"
address = "10.1.0.100:80"
"""
    assert errors(text) == [
        "l4lb.toml:1:1: colour: there is no such key (known: gateway, services)",
        "l4lb.toml:3:1: gateway.hold: 'long' is not a number",
        "l4lb.toml:4:1: services[0].name: missing",
        "l4lb.toml:7:1: services[0].backends[0].address: '10.2.0.300' is not an IP address",
        "l4lb.toml:10:1: services[0].backends[1].weight: 70000 is too large: at most 65535",
        "l4lb.toml:12:1: services[0].backends[2].address: the service already has backend 10.2.0.11:80",
        "l4lb.toml:15:1: services[shop].address: services[0] already has 10.1.0.100:80 (tcp)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = 2 3\n", "l4lb.toml:2:7: not valid TOML: "),
        ("a = 1\nb = [\n", "l4lb.toml:3: not valid TOML: "),
        ("a = 1\na = 2\n", "l4lb.toml:2:6: not valid TOML: Cannot overwrite a value"),
        (f"a = {'[' * 100_000}", "l4lb.toml"),
        (f"a = {'9' * 10_000}", "l4lb.toml: a number has too many digits"),
    ],
)
def test_syntax_errors_have_a_place(text, message):
    (error,) = errors(text)
    assert error.startswith(message)
    assert "\n" not in error


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    missing = tmp_path / "none.toml"
    with pytest.raises(ConfigError) as caught:
        load(missing)
    assert caught.value.errors == [
        f"{missing}: no such file: 'l4lb install-service' writes /etc/l4lb/l4lb.toml, or name one with -c"
    ]

    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert caught.value.errors == [f"{tmp_path}: cannot read the config: Is a directory"]


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path):
    path = tmp_path / "l4lb.toml"
    path.write_bytes(b"# one\n# caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.errors == [f"{path}:2: not UTF-8 text"]


def test_a_byte_order_mark_is_named(tmp_path):
    path = tmp_path / "l4lb.toml"
    path.write_text(service(), encoding="utf-8-sig")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.errors == [
        f"{path}:1:1: begins with a byte order mark: save it as UTF-8 without one"
    ]


def test_a_device_without_end_is_not_read_to_its_end():
    with pytest.raises(ConfigError) as caught:
        load(Path("/dev/zero"))
    assert caught.value.errors == ["/dev/zero: larger than 16 MiB: this is not a config file"]


def test_load_reads_what_parse_reads(tmp_path):
    path = tmp_path / "l4lb.toml"
    path.write_text(service())
    assert load(path) == parse(service(), path)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["10.1.0.100:80", "10.2.0.11:80", "[2001:db8::1]:80", "web", "udp", "tcp", "http"])
)
KEYS = st.sampled_from(
    [
        *("gateway", "limits", "interfaces", "x\n"),
        *("services", "name", "address", "protocol", "health", "check", "backends", "weight"),
    ]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def to_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_toml(key)} = {to_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08X}" for character in value) + '"'
    if value is None:
        return "1979-05-27 07:32:00"
    return repr(value).lower()


@given(gateway=VALUES, services=st.lists(VALUES, max_size=3) | VALUES)
def test_whatever_the_file_says_it_is_a_config_or_one_line_for_each_error(gateway, services):
    text = f"services = {to_toml(services)}\ngateway = {to_toml(gateway)}\n"
    lines = None
    try:
        parse(text, PATH)
    except ConfigError as error:
        lines = error.errors
    assert lines is None or lines
    for line in lines or ():
        assert line.startswith(("l4lb.toml:1:", "l4lb.toml:2:"))
        assert line.isprintable()


def test_importing_the_config_does_not_import_pydantic():
    code = "import sys, l4lb.control.config.config; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def many(services: int, backends: int, ip: int = 0) -> dict[str, object]:
    """A document with so many services, each with so many backends: other ones from ``ip`` on."""
    return {
        "services": [
            {
                "name": f"s{number}",
                "address": f"10.1.0.100:{1 + number}",
                "backends": [
                    {"address": f"10.2.{ip * number + each // 65_535}.1:{1 + each % 65_535}"}
                    for each in range(backends)
                ],
            }
            for number in range(services)
        ]
    }


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        (many(4_096, 1), []),
        (many(4_097, 1), [(("services", 4_096), "at most 4,096 services are possible")]),
        (many(1, 65_535), []),
        (
            many(1, 65_536),
            [(("services", 0, "backends", 65_535), "at most 65,535 different backends are possible")],
        ),
        (
            many(2, 32_768, ip=1),
            [(("services", 1, "backends", 32_767), "at most 65,535 different backends are possible")],
        ),
        (many(2, 32_768), []),
        (
            many(2, 32_769),
            [
                (
                    ("services", 1, "backends", 32_767),
                    "at most 65,536 backends are possible, one of two services counted twice",
                )
            ],
        ),
    ],
    ids=["services", "a service more", "backends", "one more", "of two", "pairs", "a pair more"],
)
def test_what_no_table_of_the_datapaths_holds_is_refused(document, problems):
    assert rules.check(document) == problems
