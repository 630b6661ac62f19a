"""The Vagrantfile, without hypervisor, box or internet: what Vagrant makes of it is the topology."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from netlab import topology

ROOT = Path(__file__).parents[3]
LAB = topology.load()
PROVIDERS = ("libvirt", "virtualbox")

pytestmark = pytest.mark.skipif(
    shutil.which("vagrant") is None or shutil.which("ruby") is None,
    reason="no vagrant: tools/setup --vm installs it",
)


def in_vagrant(directory, *argv, **environment):
    """Run a command with a home of its own for Vagrant, and a VirtualBox that is none."""
    manage = directory / "bin" / "VBoxManage"
    if not manage.exists():
        manage.parent.mkdir()
        manage.write_text("#!/bin/sh\necho 7.0.14r161095\n")
        manage.chmod(0o755)
        (directory / "lab.tar").touch()
    return subprocess.run(
        argv,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **{
                name: text
                for name, text in os.environ.items()
                if not name.startswith(("L4LB_", "VAGRANT_"))
            },
            "PATH": f"{manage.parent}:{os.environ['PATH']}",
            "VAGRANT_HOME": str(directory / "home"),
            "VAGRANT_DOTFILE_PATH": str(directory / "dotfile"),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "L4LB_HANDOVER": str(directory),
            **environment,
        },
    )


def machines(directory, provider, **environment):
    program = Path(__file__).with_name("machines.rb")
    done = in_vagrant(directory, "ruby", program, ROOT, provider, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("vagrant")


@pytest.fixture(scope="module", params=PROVIDERS)
def resolved(request, home):
    return machines(home, request.param)


def test_its_syntax_is_ruby(home):
    done = in_vagrant(home, "ruby", "-wc", "Vagrantfile")
    assert (done.stdout, done.stderr) == ("Syntax OK\n", "")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_vagrant_finds_nothing_wrong(home, provider):
    done = in_vagrant(home, "vagrant", "validate", VAGRANT_DEFAULT_PROVIDER=provider)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout


def test_the_machines_are_the_hosts_of_the_topology(resolved):
    assert list(resolved) == list(LAB.hosts)
    for name, host in LAB.hosts.items():
        machine = resolved[name]
        assert (machine["cpus"], machine["memory"]) == (host.cpus, host.memory)
        assert machine["provisioners"] == [["file", None], ["shell", [name, host.role]]]
        assert [(card["ip"], card["netmask"]) for card in machine["cards"]] == [
            (str(card.address(4)), "255.255.255.0") for card in host.interfaces
        ]
        assert [card["mac"] for card in machine["cards"]] == [
            card.mac.replace(":", "") for card in host.interfaces
        ]
        assert [card["auto_config"] for card in machine["cards"]] == [False] * len(host.interfaces)


@pytest.mark.parametrize("name", ["libvirt__network_name", "virtualbox__intnet"])
def test_cards_of_a_network_of_the_topology_are_in_one_network(resolved, name):
    for host in LAB.hosts.values():
        wires = [card[name] for card in resolved[host.name]["cards"]]
        assert wires == [f"l4lb-{card.network}" for card in host.interfaces]


def test_no_machine_takes_what_is_the_hypervisors(resolved):
    """VirtualBox gives every machine 10.0.2.15, and vagrant-libvirt addresses of 192.168.121.0/24."""
    for machine in resolved.values():
        assert not [card for card in machine["cards"] if card["ip"].startswith(("10.0.2.", "192.168.121."))]


def test_web3_is_weaker():
    web1, web3 = LAB.hosts["web1"], LAB.hosts["web3"]
    assert (web3.cpus, web3.memory) < (web1.cpus, web1.memory)
    assert web3.memory < web1.memory


def test_the_environment_has_its_way(home):
    found = machines(home, "libvirt", L4LB_BOX="some/box", L4LB_DRIVER="qemu", L4LB_MEMORY="333")
    assert {(it["box"], it["driver"], it["memory"]) for it in found.values()} == {("some/box", "qemu", 333)}


def test_each_provider_has_a_box_of_its_own_without_it(resolved):
    assert {machine["box"] for machine in resolved.values()} <= {"bento/debian-12", "cloud-image/debian-12"}


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"L4LB_DRIVER": "xen"}, "L4LB_DRIVER: 'xen' is neither kvm nor qemu"),
        ({"L4LB_MEMORY": "much"}, "L4LB_MEMORY: 'much' is no number of MiB"),
        (
            {"L4LB_HANDOVER": "/nowhere"},
            "L4LB_HANDOVER: there is no /nowhere/lab.tar: 'tools/lab pack /nowhere' makes it",
        ),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_in_a_line(home, environment, complaint):
    done = in_vagrant(home, "vagrant", "up", "--provider", "libvirt", **environment)
    assert done.returncode != 0
    assert complaint in done.stderr.splitlines()
