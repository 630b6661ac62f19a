"""libvirt and QEMU out of the machine's way: in namespaces of their own, which take all of it with them.

``tools/lab vm`` runs itself inside these: a network namespace, so that the machine's addresses and rules
stay as they are; a mount namespace, in which libvirt has its files under one directory, whatever a libvirt
of the machine has in the usual places; and a process namespace, whose end ends every process of it. Neither
systemd nor D-Bus is needed.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Final

from netlab import LabError
from netlab.command import find, run

PROGRAMS: Final = (
    "debootstrap",
    "dnsmasq",
    "extlinux",
    "iptables",
    "libvirtd",
    "qemu-img",
    "qemu-system-x86_64",
    "ssh",
    "unshare",
    "vagrant",
    "virtlogd",
)
BOX: Final = "l4lb-lab"
"""The name that the box has in Vagrant."""

_PATIENCE: Final = 30.0  # seconds

_MOUNTED: Final = ("/etc/libvirt", "/var/cache/libvirt", "/var/lib/libvirt", "/var/log/libvirt")
_CONFIGS: Final = {
    "libvirtd.conf": 'auth_unix_ro = "none"\nauth_unix_rw = "none"\n',
    "virtlogd.conf": "",
    "qemu.conf": """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
""",
}


def entered(directory: Path, *argv: str) -> list[str]:
    """The command that runs another one inside; when it ends, so does all that it started."""
    script = ["set -e", "ip link set lo up", "mount -t tmpfs tmpfs /run"]
    for place in _MOUNTED:
        own = directory / place.lstrip("/").replace("/", "-")
        script += [f"mkdir -p {own} {place}", f"mount --bind {own} {place}"]
    # Not exec: the first process of the namespace has to be one that waits for orphans too, as shells do.
    # libvirt takes a QEMU that it ended for running until somebody has.
    script += ["set +e", '"$@"', "exit $?"]
    return [
        find("unshare"), "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "sh", "-c", "\n".join(script), "sh", *argv,
    ]  # fmt: skip


def start() -> None:
    """Start libvirt; to be called inside.

    Raises:
        LabError: it does not come up; says why.
    """
    for name, text in _CONFIGS.items():
        (Path("/etc/libvirt") / name).write_text(text)
    run(["virtlogd", "--daemon"])
    run(["libvirtd", "--daemon"])
    deadline = time.monotonic() + _PATIENCE
    while True:
        done = subprocess.run(
            [find("virsh"), "-c", "qemu:///system", "version"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise LabError(f"libvirt does not come up: {' '.join(done.stderr.split())}")
        time.sleep(0.5)


def environment(directory: Path, handover: Path, driver: str) -> dict[str, str]:
    """What Vagrant is told: to keep all it has in the directory, and to ask nobody on the internet."""
    return {
        **os.environ,
        "VAGRANT_HOME": str(directory / "vagrant-home"),
        "VAGRANT_DOTFILE_PATH": str(directory / "vagrant"),
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
        "L4LB_BOX": BOX,
        "L4LB_DRIVER": driver,
        "L4LB_HANDOVER": str(handover),
    }
