"""Operators who mistype and hosts in a bad way: one clear line each, and what ran runs on."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from contextlib import contextmanager

import pytest

from netlab.daemon import L4LB
from tests.lab.clients import Browser, answers, ask, wait_for
from tests.lab.services import BACKENDS, VIP, backend, listed, service
from tests.unit.datapath.ebpf.kernel import why_not

pytestmark = [pytest.mark.lab, pytest.mark.datapath("auto")]

NAMES = list(BACKENDS[4])
CONFIG = "# Ours.\n" + service(health="interval = 0.2\ntimeout = 2")
OWN = backend("web1")  # a backend the service has
NEW = "10.2.0.99:80"


@pytest.fixture(scope="module")
def running(lab):
    with lab.daemon(CONFIG) as daemon:
        yield daemon


@pytest.fixture
def web(lab, running):
    """A daemon that serves before and after, through the same connection, without a traceback."""
    with Browser(lab, VIP) as kept:
        name = kept.get()
        yield running
        put(running.config, CONFIG)
        running.api.post("reload")
        assert kept.get() == name
    assert answers(lab, VIP, 3) == dict.fromkeys(NAMES, 1)
    assert "Traceback" not in running.log.read_text()


def put(path, text):
    """Replace a file at one stroke: a reload may be reading it."""
    new = path.with_name("new.toml")
    new.write_text(text)
    new.replace(path)


@contextmanager
def tmpfs(directory, size):
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


# On the command line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (f"backend add web {NEW[:-3]}", "'10.2.0.99' has no port: write ADDRESS:PORT"),
        ("backend add web web4.example:80", "'web4.example' is not an IP address"),
        ("backend add web 10.2.0.99:65536", "'65536' is not a port (1-65535)"),
        (
            "backend add web 2001:db8:2::14:80",
            "'2001:db8:2::14:80': an IPv6 address is written in brackets, [ADDRESS]:PORT",
        ),
        (f"backend weight web {OWN} 70000", "70000 is not in the range 0<=x<=65535."),
        ("connection flush", "give --service, --backend or --client, or else --all"),
    ],
)
def test_wrong_usage_is_told_and_changes_nothing(web, arguments, line):
    refused = web.cli(*arguments.split(), check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[-1].endswith(line)
    assert web.config.read_text() == CONFIG


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (f"backend add shop {NEW}", "there is no service 'shop' (services: web)"),
        (f"backend add web {OWN}", f"service 'web' already has backend {OWN}"),
        (f"backend remove web {NEW}", f"service 'web' has no backend {NEW}"),
        (f"backend enable web {NEW}", f"service 'web' has no backend {NEW}"),
        (
            "backend add web [2001:db8:2::11]:80",
            "services[web].backends[3].address: [2001:db8:2::11]:80 is IPv6, but the service's address "
            f"{VIP}:80 is IPv4; l4lb does not translate between the two",
        ),
        (
            f"backend add web {VIP}:81",
            f"services[web].backends[3].address: {VIP} is the service's own address",
        ),
        (f"service add web {VIP}:81", "there already is a service 'web'"),
        (f"service add shop {VIP}:80", f"services[shop].address: service 'web' already has {VIP}:80 (tcp)"),
        ("connection flush --service shop", "there is no service 'shop' (services: web)"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_changes_nothing(web, arguments, line):
    refused = web.cli(*arguments.split(), check=False)
    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", f"l4lb: {line}\n")
    assert web.config.read_text() == CONFIG


def test_the_config_of_another_daemon_is_not_edited(web, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(CONFIG)
    refused = web.cli("-c", str(other), "backend", "add", "web", NEW, check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"l4lb: the daemon at {web.socket} uses {web.config}, not {other}\n"
    assert other.read_text() == web.config.read_text() == CONFIG


def test_drain_and_enable_may_be_said_twice(web):
    for command in ("drain", "drain", "enable", "enable"):
        web.cli("backend", command, "web", OWN)
    assert listed(web, "weight") == dict.fromkeys(NAMES, 1)


def test_every_list_is_json_for_programs(web):
    for command in ("status", "service list", "service show web", "backend list", "connection list"):
        assert json.loads(web.cli(*command.split(), "--json").stdout)


def test_the_control_socket_is_for_its_owner_alone(web):
    assert stat.filemode(web.socket.stat().st_mode) == "srw-------"


# In the file, while the daemon runs


def deleted(config):
    config.unlink()


def directory(config):
    config.unlink()
    config.mkdir()


def empty(config):
    config.write_text("")


def half_written(config):
    config.write_text(CONFIG[:-20])


def other_encoding(config):
    config.write_text(CONFIG, encoding="utf-16")


@pytest.mark.parametrize("spoil", [deleted, directory, empty, half_written, other_encoding])
def test_a_spoiled_file_is_refused_and_left_as_it_is(web, spoil):
    spoil(web.config)
    try:
        for command in (("backend", "add", "web", NEW), ("reload",)):
            refused = web.cli(*command, check=False)
            assert (refused.returncode, refused.stdout) == (1, "")
            said = rf"l4lb: {re.escape(str(web.config))}:.+\nl4lb: nothing was changed: .* --runtime\n"
            assert re.fullmatch(said, refused.stderr)
        web.cli("backend", "weight", "web", OWN, "5", "--runtime")  # the way out
        before = web.log.stat().st_size
        web.reload()
        wait_for(
            "the refusal", lambda: "not reloaded: the config has errors" in web.log.read_text()[before:]
        )
    finally:
        if web.config.is_dir():
            web.config.rmdir()


def test_a_link_stays_a_link_and_a_read_only_file_system_is_told(web, tmp_path):
    folder = tmp_path / "etc"
    with tmpfs(folder, "64k"):
        real = folder / "l4lb.toml"
        real.write_text(CONFIG)
        web.config.unlink()
        web.config.symlink_to(real)
        web.cli("backend", "weight", "web", OWN, "3")
        assert web.config.readlink() == real
        assert real.read_text() == CONFIG.replace("weight = 1", "weight = 3", 1)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        refused = web.cli("backend", "weight", "web", OWN, "4", check=False)
        problem = "cannot write the config: Read-only file system; --runtime leaves it alone"
        assert refused.stderr == f"l4lb: {web.config}: {problem}\n"
        assert listed(web, "weight")["web1"] == 3
        assert list(folder.iterdir()) == [real]


def test_fifty_edits_at_once_are_all_made(web):
    new = [f"10.2.0.{number}:80" for number in range(100, 150)]
    command = web.lab.command(web.host, str(L4LB), "--socket", str(web.socket), "backend", "add", "web")
    edits = [
        subprocess.Popen([*command, address, "--weight", "0"], stdout=subprocess.DEVNULL) for address in new
    ]
    assert [edit.wait(30) for edit in edits] == [0] * len(new)
    assert all(web.config.read_text().count(f'"{address}"') == 1 for address in new)
    assert web.config.read_text().startswith(CONFIG)
    assert web.api.post("reload") == {"changes": []}  # so in force is what is in the file


def test_after_a_storm_of_sighups_the_last_file_is_in_force(web):
    for weight in range(1, 101):
        put(web.config, CONFIG.replace("weight = 1", f"weight = {weight}"))
        web.reload()
    wait_for("the last one", lambda: set(listed(web, "weight").values()) == {100})


# Around it


def test_a_backend_without_a_route_is_told_and_the_others_serve(lab, web):
    web.cli("backend", "add", "web", "192.0.2.1:80")
    (line,) = web.api.get("status")["warnings"]
    assert line == "service web: backend 192.0.2.1:80 has no route: add one, or bring its interface up"
    wait_for("its check to fail", lambda: "network is unreachable" in web.log.read_text())
    # Its failed check is logged before the new plan is in place: the round may begin anew among these six.
    assert set(answers(lab, VIP, 6)) == set(NAMES)
    web.cli("backend", "remove", "web", "192.0.2.1:80")
    assert web.api.get("status")["warnings"] == []


@pytest.mark.datapath("raw")
def test_rules_and_filters_that_somebody_has_flushed_come_back(lab, running):
    # Connections that have packets under way meanwhile are reset by the host: no test of those.
    lab.exec("gateway", "nft", "flush", "ruleset")
    lab.exec("gateway", "tc", "qdisc", "delete", "dev", "eth1", "clsact")
    for what, command in (("filter", "tc filter show dev eth1 egress"), ("table", "nft list tables")):
        wait_for(f"the {what}", lambda: lab.exec("gateway", *command.split()).stdout, 15)  # noqa: B023
    assert ask(lab, BACKENDS[4]["web2"]) == "web2"  # a direct connection, handed back
    assert answers(lab, VIP, 3) == dict.fromkeys(NAMES, 1)


# Where it cannot run, or is stopped in a bad moment. On a host of its own: the gateway's daemon runs on.

HOST = "web3"
ELSEWHERE = "10.2.0.100"


@pytest.fixture
def folder(lab):
    """A place for its files whose path is short enough for a socket."""
    folder = lab.host_directory(HOST) / "bad"
    folder.mkdir(parents=True)
    (folder / "l4lb.toml").write_text(lab.config(CONFIG.replace(VIP, ELSEWHERE)))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def clean(lab):
    """Nothing may be left on the host."""

    def traces():
        commands = ("ip -brief address", "nft list ruleset", "tc qdisc show")
        return [lab.exec(HOST, *command.split()).stdout for command in commands]

    before = traces()
    yield
    assert traces() == before


def run(folder, socket="l4lb.sock"):
    return L4LB, "-c", folder / "l4lb.toml", "--socket", folder / socket, "run"


@contextmanager
def in_a_terminal(lab, folder, socket="l4lb.sock", before=()):
    """The daemon, ready, in a process group of its own; its log goes to the file ``log``.

    Not the lab's ``Daemon``: that is a service manager's, which is told when it is ready.
    """
    log = folder / "log"
    with log.open("w") as stderr:
        command = lab.command(HOST, *before, *map(str, run(folder, socket)))
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
    try:
        wait_for("it to be ready", lambda: "ready:" in log.read_text() or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.wait()
        lab.exec(HOST, L4LB, "--socket", folder / socket, "stop")
    assert "Traceback" not in log.read_text()


def nothing(path):
    pass


def in_its_place(path):
    path.write_text("precious")


def for_its_directory(path):
    path.parent.write_text("precious")


@pytest.mark.parametrize(
    ("socket", "put_a_file", "line"),
    [
        (
            "l4lb.sock",
            in_its_place,
            "{socket} is in the way: it is not a socket; move it or give another --socket",
        ),
        ("run/l4lb.sock", for_its_directory, "cannot use {parent} for the control socket: Not a directory"),
        (
            "/proc/l4lb/l4lb.sock",
            nothing,
            "cannot use {parent} for the control socket: No such file or directory",
        ),
        ("x" * 100, nothing, "{socket}: longer than a unix socket's path may be: give a shorter --socket"),
    ],
    ids=["a file", "below a file", "a directory that cannot be made", "too long"],
)
def test_a_control_socket_that_cannot_be_had(lab, clean, folder, socket, put_a_file, line):
    path = folder / socket
    put_a_file(path)
    refused = lab.exec(HOST, *run(folder, socket), check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"l4lb: {line.format(socket=path, parent=path.parent)}\n"


@pytest.mark.datapath("raw")
@pytest.mark.parametrize(("program", "package"), [("nft", "nftables"), ("tc", "iproute2")])
def test_without_a_program_it_needs(lab, clean, folder, program, package):
    tried = lab.exec(HOST, "unshare", "--mount", "true", check=False)
    if tried.returncode:  # a chroot that is no mount point
        pytest.skip(f"no mount namespace to hide {program} in: {tried.stderr.strip()}")
    hide = f'mount --bind /dev/null "$(readlink -f "$(command -v {program})")" && exec "$@"'
    refused = lab.exec(HOST, "unshare", "--mount", "sh", "-c", hide, "sh", *run(folder), check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == (
        f"l4lb: {program} is not installed: install the package {package}"
    )
    assert "Traceback" not in refused.stderr
    assert [path.name for path in folder.iterdir()] == ["l4lb.toml"]


def without(*capabilities):
    return "setpriv", "--bounding-set", ",".join(f"-{name}" for name in capabilities)


@pytest.mark.parametrize(
    ("wanted", "absent", "line"),
    [
        ("auto", ["net_admin"], "CAP_NET_ADMIN is missing"),
        ("tc", ["net_raw", "net_admin"], "CAP_NET_ADMIN and CAP_NET_RAW are missing"),
        ("tc", ["bpf", "perfmon", "sys_admin"], "CAP_BPF and CAP_PERFMON are missing"),
        ("xdp", ["perfmon", "sys_admin"], "CAP_PERFMON is missing"),
    ],
    ids=["auto", "tc at all", "tc", "xdp"],
)
def test_without_a_capability_it_needs(lab, clean, folder, wanted, absent, line):
    config = folder / "l4lb.toml"
    config.write_text(f'[gateway]\ndatapath = "{wanted}"\n{config.read_text()}')
    refused = lab.exec(HOST, *without(*absent), *run(folder), check=False)
    assert refused.returncode == 1
    way_out = "a systemd unit gives capabilities by CapabilityBoundingSet=, a container by --cap-add"
    assert refused.stderr == f"l4lb: {line}: {way_out}\n"
    assert [path.name for path in folder.iterdir()] == ["l4lb.toml"]


REFUSED = (
    "Permission denied (CAP_DAC_OVERRIDE is given up: give the file and its directories to root by "
    "'chown root:root', or open them to others)"
)
NOBODY = 65534


@pytest.mark.datapath("raw")
def test_a_config_that_is_not_open_to_root(lab, clean, folder):
    """It could be read before capabilities are given up, but at no reload."""
    config = folder / "l4lb.toml"
    config.chmod(0o600)
    os.chown(config, NOBODY, NOBODY)
    refused = lab.exec(HOST, *run(folder), check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"{config}: cannot read the config: {REFUSED}\n"


@pytest.mark.datapath("raw")
def test_a_config_in_a_directory_that_is_not_roots(lab, clean, folder):
    config = folder / "theirs" / "l4lb.toml"
    config.parent.mkdir()
    os.chown(config.parent, NOBODY, NOBODY)
    (folder / "l4lb.toml").rename(config)
    (folder / "l4lb.toml").symlink_to(config)
    with in_a_terminal(lab, folder):
        edit = (L4LB, "--socket", folder / "l4lb.sock", "backend", "drain", "web", OWN)
        done = lab.exec(HOST, *edit, check=False)
        assert done.returncode == 1
        problem = f"cannot write the config: {REFUSED}; --runtime leaves it alone"
        assert done.stderr == f"l4lb: {config.parent.parent / 'l4lb.toml'}: {problem}\n"
        assert lab.exec(HOST, *edit, "--runtime").returncode == 0


def test_auto_does_without_ebpf_where_it_may_not_and_says_so(lab, clean, folder):
    with in_a_terminal(lab, folder, before=without("perfmon", "sys_admin")):
        said = (folder / "log").read_text()
        assert said.count(" warning datapath tc cannot run here: CAP_PERFMON is missing: ") == 1
        assert "info datapath raw takes packets on" in said


def test_auto_leaves_programs_that_forward_where_it_has_too_few_descriptors_to_load(lab, clean, folder):
    if reason := why_not():
        pytest.skip(f"no programs that could be left: {reason}")
    with in_a_terminal(lab, folder) as process:
        process.kill()
        process.wait()
        few = "prlimit", "--nofile=32"
        refused = lab.exec(HOST, *few, *run(folder), check=False)
        assert refused.returncode == 1
        line = refused.stderr.splitlines()[-1]
        assert line.startswith("l4lb: datapath tc cannot be loaded: ")
        assert "Too many open files" in line
        with in_a_terminal(lab, folder):
            said = (folder / "log").read_text()
            assert "info 0 established connections taken over" in said
            assert "info datapath tc takes packets on" in said


@pytest.mark.datapath("raw")
def test_a_full_disk_keeps_it_neither_from_stopping_nor_from_starting(lab, clean, folder):
    state = folder / "run"
    with tmpfs(state, "64k"):
        with in_a_terminal(lab, folder, "run/l4lb.sock") as process:
            with pytest.raises(OSError, match="No space left"):
                (state / "fill").write_bytes(bytes(1 << 17))
            process.terminate()
            assert process.wait(15) == 0
            assert (folder / "log").read_text().count(" warning the connections are not saved: ") == 1
            with in_a_terminal(lab, folder, "run/l4lb.sock"):
                assert f"{ELSEWHERE}/32" in lab.exec(HOST, "ip", "-brief", "address").stdout
                (state / "fill").unlink()
        assert list(state.iterdir()) == []


@pytest.mark.datapath("raw")
def test_damaged_files_of_the_one_before_are_passed_over(lab, clean, folder):
    for name in ("l4lb.vips", "l4lb.connections"):
        (folder / name).write_bytes(os.urandom(3000))
    with in_a_terminal(lab, folder) as process:
        assert f"{folder}/l4lb.vips cannot be read (it is damaged)" in (folder / "log").read_text()
        process.terminate()
        assert process.wait(15) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_cannot_wait_for_it_to_stop_leaves_nothing_either(lab, clean, folder, number):
    log = folder / "log"
    with in_a_terminal(lab, folder) as process:
        ready = log.stat().st_size
        while process.poll() is None:
            os.killpg(process.pid, number)
            time.sleep(0.001)  # as fast as a key repeats, and faster: in every step of its end
        left = log.read_text()[ready:]
    assert "stopped" in left
    assert " error " not in left


def test_a_terminal_that_is_closed_is_a_reload(lab, clean, folder):
    log = folder / "log"
    with in_a_terminal(lab, folder) as process:
        os.killpg(process.pid, signal.SIGHUP)
        wait_for("the reload", lambda: "reloaded: 0 changes" in log.read_text())
        process.terminate()
        assert process.wait(15) == 0
    assert "died" not in log.read_text()


def test_it_runs_without_standard_streams(lab, clean, folder):
    closed = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    asked = (L4LB, "--socket", folder / "l4lb.sock")
    with lab.popen(HOST, *closed, *run(folder)) as process:
        wait_for("an answer", lambda: not lab.exec(HOST, *asked, "status", check=False).returncode)
        assert lab.exec(HOST, *asked, "stop").stdout == "stopped\n"
        assert process.wait(15) == 0
