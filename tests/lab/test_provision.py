"""What the provisioning of a virtual machine says where something is missing. The machine is no more than a
mount namespace without a network, its packages are stubs."""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

PROVISION = Path(__file__).parents[2] / "tools" / "vm" / "provision"

pytestmark = pytest.mark.lab

MACHINE = """\
mount --bind "$1" /mnt || exit
mount -t tmpfs tmpfs /tmp
cp -r /mnt/handed /tmp/l4lb-handover
for place in /opt /usr/sbin; do
    mkdir -p "/tmp/upper$place" "/tmp/work$place"
    layers=lowerdir=$place,upperdir=/tmp/upper$place,workdir=/tmp/work$place
    mount -t overlay overlay -o "$layers" $place || exit
done
rm -f /usr/sbin/policy-rc.d
PATH="/mnt/bin:$PATH" /mnt/provision "$2" "$3"
status=$?
if [ -e /usr/sbin/policy-rc.d ]; then echo "policy-rc.d was left" >&2; fi
exit $status
"""


@pytest.fixture
def machine(tmp_path, lab_possible):
    """A machine without packages. What was handed over is in ``handed``, programs are in ``bin``."""
    (tmp_path / "handed").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(PROVISION, tmp_path)
    stub(tmp_path, "dpkg-query", "exit 1")
    return tmp_path


def stub(machine, name, does):
    program = machine / "bin" / name
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)


def hand_over(machine, *names):
    """An archive of empty files."""
    (machine / "empty").touch()
    with tarfile.open(machine / "handed" / "lab.tar", "w") as tar:
        for name in names:
            tar.add(machine / "empty", name)


def provisioned(machine, name="gw", role="gateway"):
    """Exit status and what was said."""
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--uts", "sh", "-c", MACHINE, "sh", machine, name, role],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "LC_ALL": "C"},
    )
    if "mount:" in done.stderr:
        pytest.skip(f"no mounts: {done.stderr.strip()}")
    return done.returncode, done.stderr


def test_without_what_is_handed_over(machine):
    assert provisioned(machine) == (
        1,
        "gw: /tmp/l4lb-handover/lab.tar is not there: nothing was handed over\n",
    )


def test_without_internet(machine):
    hand_over(machine, "tools/lab.json")
    stub(machine, "apt-get", "echo 'E: Failed to fetch http://deb.debian.org/libbpf1' >&2; exit 100")
    assert provisioned(machine) == (
        1,
        "gw: cannot install iproute2 procps python3 curl libbpf1 nftables python3-venv: E: Failed to fetch "
        "http://deb.debian.org/libbpf1 (without internet: a box that has them, or L4LB_DEBS)\n",
    )


def test_with_packages_that_are_not_enough(machine):
    hand_over(machine, "debs/one.deb")
    stub(machine, "apt-get", "echo 'E: Unmet dependencies' >&2; exit 100")
    assert provisioned(machine) == (1, "gw: the packages that were handed over: E: Unmet dependencies\n")


def test_a_role_that_there_is_not(machine):
    hand_over(machine)
    assert provisioned(machine, role="router") == (1, "gw: there is no role 'router'\n")
