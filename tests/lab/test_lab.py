"""The lab itself: before l4lb is in it, and what is left of it after."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netlab import LabError, network, process, record, servers
from netlab.command import NAMESPACES
from tests.lab.clients import wait_for
from tests.lab.lab import Lab, is_abandoned, prefix_of_this_run

pytestmark = [pytest.mark.lab, pytest.mark.datapath("auto")]

TOOL = Path(__file__).parents[2] / "tools" / "lab"
BACKENDS = ["web1", "web2", "web3"]


def url(address, path="/", port=80):
    return f"http://[{address}]:{port}{path}" if ":" in address else f"http://{address}:{port}{path}"


def udp(lab, address, size):
    """What the UDP echo at ``address`` answers to ``size`` bytes."""
    program = (
        "import socket, sys\n"
        f"server = ('{address}', {servers.UDP_ECHO_PORT})\n"
        "client = socket.socket(socket.getaddrinfo(*server)[0][0], socket.SOCK_DGRAM)\n"
        "client.settimeout(5)\n"
        f"client.sendto(b'x' * {size}, server)\n"
        "print(client.recv(65535).decode())\n"
    )
    return lab.exec("client", sys.executable, "-c", program).stdout.removesuffix("\n")


def remains(prefix):
    """What is left of a lab: namespaces, files, processes."""
    names = [path.name for path in NAMESPACES.glob(f"{prefix}-*")]
    files = [record.HOME / prefix] if (record.HOME / prefix).exists() else []
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return names + files + [line for line in running.splitlines() if f"/{prefix}/" in line]


@pytest.fixture
def other(lab_possible):
    """A second lab, which the test brings up."""
    lab = Lab("x")
    yield lab
    lab.down()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_client_reaches_each_backend_through_the_gateway(lab, backend, version):
    address = lab.topology.hosts[backend].address(version)
    assert lab.curl(url(address)) == f"{backend}\n"
    name, client, port = lab.curl(url(address, "/client")).split()
    assert (name, client) == (backend, lab.topology.hosts["client"].address(version))
    assert 1024 <= int(port) <= 65535
    assert udp(lab, address, 5) == f"{backend} xxxxx"


def test_the_way_to_a_backend_is_through_the_gateway(lab):
    """One hop: a packet that may not be forwarded does not arrive."""
    address = lab.topology.hosts["web1"].address(4)
    done = lab.exec("client", "ping", "-c", "1", "-t", "1", "-W", "2", address, check=False)
    assert f"From {lab.topology.gateway.address(4)}" in done.stdout
    assert "Time to live exceeded" in done.stdout


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 20_000])
@pytest.mark.parametrize("version", [4, 6])
def test_the_udp_echo_answers_datagrams_of_all_sizes(lab, version, size):
    assert udp(lab, lab.topology.hosts["web2"].address(version), size) == "web2 " + "x" * size


def test_the_client_has_more_addresses_that_it_uses_only_when_told(lab):
    card = lab.topology.hosts["client"].interfaces[0]
    for address in (card.more_addresses[0], card.more_addresses[-1]):
        backend = lab.topology.hosts["web1"].address(address.version)
        assert lab.curl(url(backend, "/client"), "--interface", str(address)).split()[1] == str(address)


@pytest.mark.parametrize("version", [4, 6])
def test_nobody_has_the_vip(lab, version):
    done = lab.exec("client", "ping", "-c", "1", "-W", "1", lab.topology.vip(version), check=False)
    assert done.returncode == 1
    assert "1 packets transmitted, 0 received" in done.stdout


def test_the_gateway_has_the_interfaces_of_a_real_one(lab):
    lines = lab.exec("gateway", "ip", "-o", "link").stdout.splitlines()
    assert [line.split()[1].partition("@")[0].rstrip(":") for line in lines] == ["lo", "eth0", "eth1"]


def test_without_switches_each_host_has_a_cable_of_its_own_to_the_gateway(other):
    other.up(switched=False)
    lines = other.exec("gateway", "ip", "-o", "link").stdout.splitlines()
    cards = [line.split()[1].partition("@")[0] for line in lines]
    assert sorted(cards) == ["eth0", "eth1", "eth2", "eth3", "lo:"]
    for version in (4, 6):
        client = other.topology.hosts["client"].address(version)
        for backend in BACKENDS:
            address = other.topology.hosts[backend].address(version)
            assert other.curl(url(address, "/client")).split()[:2] == [backend, client]
    ends = [(other.namespace(host), "eth0") for host in ("client", *BACKENDS)]
    assert network.far_ends(other.prefix, other.topology) == ends
    other.down()
    assert remains(other.prefix) == []


def test_the_far_ends_of_the_gateways_cables_are_ports_of_switches(lab):
    switch = f"{lab.prefix}-{network.SWITCH}"
    ends = network.far_ends(lab.prefix, lab.topology)
    assert ends == [(switch, "gateway-eth0"), (switch, "gateway-eth1")]
    shown = lab.exec("gateway", "ip", "netns", "exec", switch, "ip", "-o", "link", "show", "gateway-eth1")
    assert "gateway-eth1" in shown.stdout


def test_a_download_is_what_was_published(lab):
    size = 3_000_001
    digest = lab.publish("download", size)
    for version in (4, 6):
        got = lab.host_directory("web1") / "got"
        lab.curl(url(lab.topology.hosts["web1"].address(version), "/download"), "-o", str(got))
        assert got.stat().st_size == size
        assert hashlib.sha256(got.read_bytes()).hexdigest() == digest


def test_an_upload_is_kept_by_the_backend_that_got_it(lab):
    digest = lab.publish("upload", 2_000_000)
    lab.curl(url(lab.topology.hosts["web3"].address(4), "/upload/x"), "-T", str(lab.www / "upload"))
    stored = lab.host_directory("web3") / "upload" / "x"
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == digest


def test_the_health_page_says_what_it_is_told(lab):
    page = url(lab.topology.hosts["web1"].address(4), port=8080)
    switch = lab.host_directory("web1") / "unhealthy"
    code = ("-o", "/dev/null", "-w", "%{http_code}")
    assert lab.curl(page, *code) == "200"
    switch.touch()
    try:
        assert lab.exec("client", "curl", "-s", *code, page).stdout == "503"
    finally:
        switch.unlink()
    assert lab.curl(page, *code) == "200"


def test_up_again_keeps_what_runs_and_starts_what_does_not(lab):
    before = {status.host.name: status.servers for status in lab.status()}
    lab.stop("web2")
    address = lab.topology.hosts["web2"].address(4)
    assert lab.exec("client", "curl", "-s", url(address), check=False).returncode == 7  # refused
    lab.up()
    after = {status.host.name: status.servers for status in lab.status()}
    assert lab.curl(url(address)) == "web2\n"
    assert after["web1"] == before["web1"]
    assert set(after["web2"].values()).isdisjoint(before["web2"].values())


def test_down_leaves_nothing_and_touches_no_other_lab(lab, other):
    other.up()
    sleeper = subprocess.Popen(other.command("client", "sleep", "1000"))
    home = (NAMESPACES / other.namespace("client")).stat().st_ino
    wait_for("it to be there", lambda: process.in_namespace(sleeper.pid, home))
    assert len(remains(other.prefix)) > len(other.topology.hosts)
    other.down()
    assert remains(other.prefix) == []
    assert sleeper.wait(5) == -signal.SIGTERM
    assert lab.curl(url(lab.topology.hosts["web1"].address(4))) == "web1\n"
    other.down()


@pytest.mark.parametrize("commands", [0, 1, 3, 9, 20, 22, 24, 26])
def test_down_cleans_up_after_an_up_that_was_killed(other, commands):
    """Killed when it had run so many commands."""
    program = (
        "import os, subprocess\n"
        "from netlab.lab import Lab\n"
        "real, done = subprocess.run, 0\n"
        "def run(*arguments, **options):\n"
        "    global done\n"
        f"    if done == {commands}: os.kill(os.getpid(), 9)\n"
        "    done += 1\n"
        "    return real(*arguments, **options)\n"
        "subprocess.run = run\n"
        f"Lab('{other.prefix}').up()\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=TOOL.parent, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert remains(other.prefix) != []
    other.down()
    assert remains(other.prefix) == []


def test_up_finishes_what_a_killed_up_began(other):
    other.up()
    unfinished = record.Record.load(other.directory / "record.json")
    unfinished.complete = False
    unfinished.save()
    other.up()
    assert other.curl(url(other.topology.hosts["web3"].address(6))) == "web3\n"


@pytest.mark.parametrize("which", ["", "x", "-check"])
def test_only_the_labs_of_runs_that_are_over_are_taken_down(which):
    with subprocess.Popen(["true"]) as over:
        over.wait()
    assert not is_abandoned(prefix_of_this_run(which))
    assert is_abandoned(prefix_of_this_run(which).replace(str(os.getpid()), str(over.pid)))


def test_an_up_that_fails_leaves_nothing(other, monkeypatch):
    monkeypatch.setattr(
        servers, "_NGINX", servers._NGINX.replace("worker_processes 1", "worker_processes x")
    )
    with pytest.raises(LabError, match=r"nginx.*worker_processes") as error:
        other.up()
    assert "\n" not in str(error.value)
    assert remains(other.prefix) == []


def test_a_namespace_of_somebody_else_is_refused_and_stays(other):
    stranger = f"{other.prefix}-web2"
    subprocess.run(["ip", "netns", "add", stranger], check=True)
    try:
        with pytest.raises(LabError, match=f"'{stranger}' is there already"):
            other.up()
        other.down()
        assert remains(other.prefix) == [stranger]
    finally:
        subprocess.run(["ip", "netns", "delete", stranger], check=True)


def test_a_process_elsewhere_is_never_ended(lab):
    """Its number is in a pid file of the lab, but it is not in the lab."""
    inode = record.namespace_inode(lab.namespace("web1"))
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        process.end([stranger.pid], inode)
        assert stranger.poll() is None
        pid_file = lab.host_directory("web1") / "nginx.pid"
        ours = pid_file.read_text()
        pid_file.write_text(f"{stranger.pid}\n")
        lab.stop("web1")
        assert stranger.poll() is None
        stranger.kill()
    pid_file.write_text(ours)
    lab.stop("web1")
    lab.start("web1")


def tool(*argv, prefix):
    return subprocess.run(
        [TOOL, "--prefix", prefix, *argv], cwd="/", capture_output=True, text=True, check=False, timeout=60
    )


def test_exec_gives_output_and_exit_status(lab):
    done = tool("exec", "web1", "sh", "-c", "ip -o -4 addr show eth0; exit 7", prefix=lab.prefix)
    assert done.returncode == 7
    assert f" {lab.topology.hosts['web1'].address(4)}/24 " in done.stdout


def test_status_shows_hosts_and_servers_and_tells_a_stopped_one(lab):
    done = tool("status", prefix=lab.prefix)
    assert done.returncode == 0
    for host in lab.topology.hosts:
        assert f"{lab.prefix}-{host}" in done.stdout
    lab.stop("web3")
    done = tool("status", prefix=lab.prefix)
    lab.start("web3")
    assert done.returncode == 1
    assert "nginx STOPPED, udp_echo STOPPED" in done.stdout


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (
            ["exec", "web9", "true"],
            "no host 'web9' in the lab: there are client, gateway, web1, web2, web3",
        ),
        (["exec", "web1"], "exec needs a command: tools/lab exec HOST CMD..."),
        (["exec", "web1", "true"], "the lab 'absent' is not up: run tools/lab --prefix absent up"),
        (["stop", "gateway"], "gateway has no servers: it is a gateway"),
        (["stop", "web1"], "the lab 'absent' is not up: run tools/lab --prefix absent up"),
    ],
)
def test_a_mistake_is_one_clear_line(lab_possible, argv, complaint):
    done = tool(*argv, prefix="absent")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"tools/lab: {complaint}\n")


def test_without_root_is_one_clear_line(lab_possible):
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", TOOL, "up"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "tools/lab: the lab is made of network namespaces: run it as root\n"


def test_without_nginx_is_one_clear_line(lab_possible, tmp_path, other):
    for program in ("ip", "nsenter", "sysctl"):
        (tmp_path / program).symlink_to("/bin/true")
    done = subprocess.run(
        [sys.executable, "-c", f"from netlab.lab import Lab; Lab('{other.prefix}').up()"],
        cwd=TOOL.parent,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "LabError: nginx is not installed: run tools/setup" in done.stderr
    assert remains(other.prefix) == []
