"""``l4lb install-service`` in an image, and what it says where it cannot do it. On a host with systemd:
tests/lab/test_service_units.py."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from l4lb.cli.main import main
from l4lb.control.lock import Refused
from l4lb.service import systemd
from l4lb.service.installation import Installation

PROGRAM = Path(sys.executable).with_name("l4lb")
UNIT, CONFIG = "etc/systemd/system/l4lb.service", "etc/l4lb/l4lb.toml"

OTHERS = "the unit is for /etc/l4lb/l4lb.toml and /run/l4lb/l4lb.sock: leave out -c and --socket"

needs_systemctl = pytest.mark.skipif(
    shutil.which("systemctl") is None, reason="no systemctl: the package systemd has it"
)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Run it on an image."""
    monkeypatch.setattr(systemd, "runs", lambda: False)

    def run(*arguments, root=tmp_path):
        where = ["--root", str(root)] if root else []
        return CliRunner().invoke(main, ["install-service", *where, *arguments], prog_name="l4lb")

    return run


def test_the_gateways_unit_and_a_first_config(install, tmp_path):
    done = install()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"/{UNIT} installed", f"/{CONFIG} installed"]
    assert f"ExecStart={PROGRAM} run\n" in (tmp_path / UNIT).read_text()
    checked = CliRunner().invoke(main, ["-c", str(tmp_path / CONFIG), "check"])
    assert checked.stdout == f"{tmp_path / CONFIG}: no errors, 0 services, 0 backends\n"
    assert install("--remove").stdout.splitlines()[-2:] == [f"/{UNIT} removed", f"/{CONFIG} removed"]
    assert not (tmp_path / "etc/l4lb").exists()


def test_the_agents_unit_and_its_options(install, tmp_path):
    assert install("--agent").stdout.splitlines() == [
        "/etc/systemd/system/l4lb-agent.service installed",
        "/etc/l4lb/agent.env installed",
    ]
    assert not (tmp_path / UNIT).exists()


def test_an_l4lb_in_the_image_is_named_by_its_path_there(install, tmp_path, monkeypatch):
    program = tmp_path / "opt/l4lb/bin/l4lb"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "install-service"])
    install()
    assert "ExecStart=/opt/l4lb/bin/l4lb run\n" in (tmp_path / UNIT).read_text()


@needs_systemctl
def test_enabled_in_the_image_and_disabled_again(install, tmp_path):
    link = tmp_path / "etc/systemd/system/multi-user.target.wants/l4lb.service"
    done = install("--enable")
    assert done.stdout.splitlines()[-1] == "l4lb.service enabled: it starts at every boot"
    assert link.is_symlink()
    install("--remove")
    assert not link.is_symlink()


def test_a_changed_unit_is_refused_in_one_line(install, tmp_path):
    install()
    with (tmp_path / UNIT).open("a") as unit:
        unit.write("# mine\n")
    refused = install()
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"l4lb: /{UNIT} is not as it was installed: --force overwrites it, and 'systemctl edit l4lb' keeps "
        "changes apart from it\n"
    )
    assert install("--force").stdout.splitlines()[0] == f"/{UNIT} brought up to date"


def test_what_was_never_installed_is_not_removed(install, tmp_path):
    (tmp_path / UNIT).parent.mkdir(parents=True)
    (tmp_path / UNIT).write_text("[Service]\n")
    done = install("--remove")
    assert done.stdout == "l4lb.service was not installed by 'l4lb install-service': nothing is removed\n"
    assert (tmp_path / UNIT).exists()


@pytest.mark.parametrize("option", [(), ("--socket", "/run/other.sock")])
def test_what_is_left_is_removed_at_the_socket_that_was_named(install, monkeypatch, option):
    asked = []

    def clean_up(socket_path):
        asked.append(str(socket_path))
        raise Refused("a daemon is running")

    monkeypatch.setattr("l4lb.control.cleanup.clean_up", clean_up)
    monkeypatch.setattr(Installation, "is_recorded", True)
    monkeypatch.setattr(Installation, "has", lambda self, path: False)
    refused = install("--remove", *option, root=None)
    assert (refused.exit_code, refused.stderr) == (1, "l4lb: cannot clean up: a daemon is running\n")
    assert asked == [option[1] if option else "/run/l4lb/l4lb.sock"]


def test_without_systemd_it_is_not_started_and_says_so(install, tmp_path, monkeypatch):
    monkeypatch.setattr("l4lb.cli.install_service._install", lambda service, root, force: None)
    refused = install("--now", root=None)
    assert refused.exit_code == 1
    assert refused.stderr == "l4lb: systemd does not run here: l4lb.service is installed, but not started\n"


def test_an_agent_is_not_started_without_its_key(install, tmp_path, monkeypatch):
    monkeypatch.setattr("l4lb.cli.install_service._install", lambda service, root, force: None)
    monkeypatch.setattr(systemd, "runs", lambda: True)
    monkeypatch.setattr("l4lb.service.units.AGENT_KEY", tmp_path / "agents.key")
    refused = install("--agent", "--now", root=None)
    assert refused.exit_code == 1
    assert refused.stderr == (
        f"l4lb: there is no {tmp_path}/agents.key: put the gateway's key there; nothing was started\n"
    )


def test_without_systemctl_it_is_not_enabled_and_says_so(install, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    refused = install("--enable")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("l4lb: there is no systemctl here: ")


def test_where_it_may_not_write_it_says_so(install, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/systemd").write_text("in the way")
    refused = install()
    assert (refused.exit_code, refused.stdout) == (1, "")
    hint = "" if os.geteuid() == 0 else ": run it as root"
    assert refused.stderr == f"l4lb: {tmp_path / UNIT}: Not a directory{hint}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--now",), "--now starts it on this host: not with --root"),
        (("--remove", "--enable"), "--remove goes with none of --enable, --now and --force"),
        (("--remove", "--force"), "--remove goes with none of --enable, --now and --force"),
        (("-c", "/srv/other.toml"), OTHERS),
        (("--socket", "/run/other.sock"), OTHERS),
        (("--remove", "-c", "/srv/other.toml"), OTHERS),
    ],
)
def test_wrong_usage(install, tmp_path, arguments, message):
    refused = install(*arguments)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert list(tmp_path.iterdir()) == []
