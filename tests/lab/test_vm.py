"""tools/lab vm before its machines: what it needs, and the namespaces that take everything with them.

The machines themselves are too slow for a test: `tools/lab vm` is one."""

import subprocess
from pathlib import Path

import pytest

from benchmark import arguments
from netlab import LabError, hypervisor, record, vm
from netlab.process import members
from tests.lab.clients import wait_for

pytestmark = pytest.mark.lab

EVERY_PROGRAM = "/there/{}"


@pytest.fixture
def equipped(lab_possible, monkeypatch, tmp_path):
    """A machine with a hypervisor, as far as it is looked at before the start."""
    missing = set()
    monkeypatch.setattr(
        "shutil.which", lambda name: None if name in missing else EVERY_PROGRAM.format(name)
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("os.path.exists", lambda path: path != "/dev/kvm")
    return missing


@pytest.mark.parametrize("program", ["libvirtd", "qemu-system-x86_64", "vagrant"])
def test_without_a_hypervisor_it_says_where_to_get_one(equipped, program):
    equipped.add(program)
    with pytest.raises(LabError, match=rf"^{program} is not installed: run tools/setup --vm$"):
        vm.outside(None, keep=False, emulate=True)


def test_a_missing_box_is_named(equipped, tmp_path):
    with pytest.raises(LabError, match=r"^there is no box /nowhere/lab\.box: without --box one is made$"):
        vm.outside(Path("/nowhere/lab.box"), keep=False, emulate=True)
    assert list(tmp_path.iterdir()) == []


def test_without_kvm_it_has_to_be_told_to_emulate(equipped):
    with pytest.raises(
        LabError, match=r"^there is no /dev/kvm on this machine: --emulate does without, slowly$"
    ):
        vm.outside(None, keep=False, emulate=False)


def test_what_ran_in_the_namespaces_ends_with_them(lab_possible, tmp_path):
    """Also orphans, and also those whose parent waits for nobody."""
    script = (
        "(setsid sleep 1000 &) ; ip -br link; ls /etc/libvirt; readlink /proc/self/ns/net; exec sleep 1000"
    )
    argv = hypervisor.entered(tmp_path, "sh", "-c", script)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as inside:
        try:
            link, network = inside.stdout.readline(), inside.stdout.readline().strip()
            own = int(network.removeprefix("net:[").removesuffix("]"))
            assert link.split()[:2] == ["lo", "UNKNOWN"]
            assert own != record.namespace_inode(None)
            assert len(members(own)) >= 2
        finally:
            inside.kill()
    wait_for("them to end", lambda: not members(own))


def test_the_comparison_that_is_asked_for_is_one_that_the_benchmark_knows():
    assert arguments.parse(["compare", "--only", vm._COMPARED]).only == vm._COMPARED.split(",")
