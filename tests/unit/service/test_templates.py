"""The files that are installed: the units as systemd sees them, the first config as l4lb does."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from l4lb import privileges
from l4lb.control.config import schema as config_schema
from l4lb.control.config.config import GatewayConfig, load
from l4lb.model import AgentCheck, Backend, HealthCheck, Service
from l4lb.service.units import AGENT, GATEWAY, UnusablePath, hidden_from_unit, out_of_reach, parts, quoted

L4LB = Path(sys.executable).with_name("l4lb")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: the package systemd has it"
)


@pytest.fixture(params=[GATEWAY, AGENT], ids=lambda service: service.unit)
def unit(request, tmp_path):
    """A unit as it is installed."""
    (file, _) = request.param.files(PurePosixPath(L4LB))
    path = tmp_path / file.path.name
    path.write_text(file.text)
    return path


def analyze(*arguments):
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_units(unit):
    # Its manual pages are found from where l4lb is installed.
    said = analyze("verify", "--man=no", unit)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize(("service", "worst"), [(GATEWAY, 28), (AGENT, 15)], ids=["gateway", "agent"])
def test_no_more_is_exposed_than_must_be(tmp_path, service, worst):
    """Of 100, which is the exposure of a unit without any protection. The gateway's is that of a root with
    four capabilities in the host's network; before systemd 252 it cannot be asked offline."""
    (file, _) = service.files(PurePosixPath(L4LB))
    (tmp_path / service.unit).write_text(file.text)
    said = analyze("security", "--offline=true", f"--threshold={worst}", tmp_path / service.unit)
    if "offline" in said.stderr:
        pytest.skip(said.stderr.strip())
    assert said.returncode == 0, said.stdout[-300:]


def test_the_gateways_unit_has_the_capabilities_that_l4lb_asks_for():
    (file, _) = GATEWAY.files(PurePosixPath("/usr/bin/l4lb"))
    (given,) = re.findall(r"^CapabilityBoundingSet=(.*)$", file.text, re.MULTILINE)
    assert set(given.split()) == {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"}
    assert set(given.split()) == set(map(str, privileges.DAEMON))  # which it keeps without its unit, too


def test_nothing_in_the_units_is_newer_than_systemd_249():
    """That of Ubuntu 22.04."""
    for service in (GATEWAY, AGENT):
        (file, _) = service.files(PurePosixPath("/usr/bin/l4lb"))
        for newer in ("Type=notify-reload", "RestartSteps=", "%d", "ImportCredential=", "OpenFile="):
            assert newer not in file.text


def test_the_program_is_where_it_was_installed():
    (file, _) = GATEWAY.files(PurePosixPath("/opt/l4lb/bin/l4lb"))
    assert "\nExecStart=/opt/l4lb/bin/l4lb run\n" in file.text
    assert "\nExecReload=/opt/l4lb/bin/l4lb reload\n" in file.text


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/opt/l4lb/bin/l4lb", "/opt/l4lb/bin/l4lb"),
        ("/opt/my tools/l4lb", '"/opt/my tools/l4lb"'),
        ("/opt/100%/l4lb", "/opt/100%%/l4lb"),
    ],
)
def test_paths_that_systemd_would_read_otherwise(path, word):
    assert quoted(PurePosixPath(path)) == word


@pytest.mark.parametrize("name", ['"', "'", "\\", "\n"])
def test_paths_that_systemd_would_not_start(name):
    with pytest.raises(UnusablePath, match="systemd starts no program with quotes"):
        quoted(PurePosixPath(f"/opt/{name}/l4lb"))


@needs_systemd
def test_systemd_reads_such_a_path_as_it_was_meant(tmp_path):
    program = tmp_path / "my 100% tools; all" / "l4lb"
    program.parent.mkdir()
    program.symlink_to("/bin/true")
    unit = tmp_path / GATEWAY.unit
    unit.write_text(GATEWAY.files(PurePosixPath(program))[0].text)
    assert analyze("verify", "--man=no", unit).stderr == ""
    program.unlink()
    assert "my 100% tools; all/l4lb" in analyze("verify", "--man=no", unit).stderr


def test_what_is_in_tmp_is_hidden_from_a_unit():
    places = [Path("/opt/l4lb"), Path("/tmp/l4lb/.venv"), Path("/tmpfiles"), Path("/var/tmp/x")]
    assert hidden_from_unit(*places) == [Path("/tmp/l4lb/.venv"), Path("/var/tmp/x")]


@pytest.fixture
def home(tmp_path):
    """A directory in one that only its owner may enter."""
    inside = tmp_path / "home" / "l4lb"
    inside.mkdir(parents=True)
    for directory in (inside, inside.parent):
        directory.chmod(0o755)
    return inside


@pytest.mark.parametrize(
    ("mode", "owner", "shut_for"),
    [
        (0o755, (1000, 1000), []),
        (0o700, (1000, 1000), [GATEWAY, AGENT]),  # root has no capability to go in
        (0o750, (1000, 0), [AGENT]),
        (0o700, (0, 0), [AGENT]),
        (0o011, (0, 0), [GATEWAY]),
    ],
)
def test_directories_that_a_unit_may_not_enter(home, mode, owner, shut_for):
    if os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    os.chown(home.parent, *owner)
    home.parent.chmod(mode)
    for service in (GATEWAY, AGENT):
        expected = [home.parent] if service in shut_for else []
        assert [each for each in out_of_reach(service, home) if each in (home, home.parent)] == expected


def test_where_this_l4lb_is_run_from_is_told_as_named_and_as_it_is(tmp_path, monkeypatch):
    """Its interpreter may be of another environment, and any of it behind a symbolic link."""
    real, environment = tmp_path / "home" / "python", tmp_path / "opt"
    modules, program = tmp_path / "modules", real / "bin" / "python3"
    for directory in (program.parent, environment / "bin", modules):
        directory.mkdir(parents=True)
    program.touch()
    (environment / "bin" / "python3").symlink_to(program)
    (tmp_path / "link").symlink_to(environment)
    monkeypatch.setattr("sys.prefix", str(tmp_path / "link"))
    monkeypatch.setattr("sys.base_prefix", str(real))
    monkeypatch.setattr("sys.executable", str(tmp_path / "link" / "bin" / "python3"))
    monkeypatch.setattr("sys.path", ["", str(modules), str(tmp_path / "no" / "python311.zip")])
    told = set(parts())
    assert told >= {tmp_path / "link", environment, real, program.parent, environment / "bin", modules}
    assert tmp_path / "no" not in told


def config(in_force):
    text = GATEWAY.files(PurePosixPath(L4LB))[1].text
    return re.sub(r"^#(?! )", "", text, flags=re.MULTILINE) if in_force else text


def test_the_first_config_is_the_defaults_and_no_service(tmp_path):
    path = tmp_path / "l4lb.toml"
    path.write_text(config(in_force=False))
    found = load(path)
    assert (found.gateway, found.services) == (GatewayConfig(), ())


def test_with_all_its_keys_in_force_it_says_the_defaults(tmp_path):
    path = tmp_path / "l4lb.toml"
    path.write_text(config(in_force=True))
    found = load(path)
    unset = {"interfaces": (), "vip_interface": None}  # whose defaults cannot be written
    assert dataclasses.replace(found.gateway, **unset) == GatewayConfig()
    (service,) = found.services
    assert service.health == HealthCheck(port=80, host="www.example.org")
    assert service.agent == AgentCheck(port=7077, key="/etc/l4lb/agents.key")
    assert [backend.weight for backend in service.backends] == [Backend(service.address).weight] * 2
    defaults = Service(service.name, service.address)
    kept = {name: getattr(service, name) for name in ("health", "agent", "backends")}
    assert service == dataclasses.replace(defaults, **kept)


def test_no_key_is_left_out():
    document = tomllib.loads(config(in_force=True))
    for path, table in config_schema._TABLES.items():
        value = document
        for key in path:
            value = value[key]
            value = value[0] if isinstance(value, list) else value
        assert value.keys() == table.model_fields.keys(), path
