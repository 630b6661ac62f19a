"""systemd as the first process of a host of the lab: units run as on a real one.

The host's network namespace, and a new one of every other kind. Its files are the machine's, under a layer
that is gone at the end; the repository and Python's environment are there by their own paths.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.lab.lab import Lab

_SYSTEMD: Final = Path("/lib/systemd/systemd")
_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_GROUP: Final = "l4lb-boot-"
_PATIENCE: Final = 30.0  # seconds

# The machine's own services stay away, and its kernel's settings are not touched: those of the network
# belong to the namespace.
_SCRIPT: Final = r"""
set -eu
base=$1; shift
mount --make-rprivate /
mount -t tmpfs tmpfs "$base"
mkdir "$base/new" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/new,workdir=$base/work" "$base/root"
cd "$base/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf bpf sys/fs/bpf -o mode=700
mount -t tmpfs tmpfs dev -o mode=755
for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs run -o mode=755
mount -t tmpfs tmpfs tmp -o mode=1777
for place in "$@"; do
    mkdir -p ".$place"
    mount --bind "$place" ".$place"
    mount -o remount,bind,ro ".$place"
done
rm -rf etc/systemd/system/*.wants etc/systemd/system/*.requires etc/l4lb var/lib/l4lb
printf '[Unit]\nDescription=Nothing but what is asked for\n' > etc/systemd/system/l4lb-test.target
for unit in systemd-sysctl systemd-modules-load systemd-udevd systemd-udev-trigger systemd-timesyncd \
    systemd-networkd systemd-networkd-wait-online; do
    ln -sf /dev/null etc/systemd/system/$unit.service
done
mkdir old
pivot_root . old
umount -l /old
mount --make-rshared /  # as systemd itself does where it is not in a container: keys get to units so
exec env -i container=l4lb-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=l4lb-test.target --log-target=journal --show-status=no
"""


class CannotBoot(Exception):
    """Why it is not possible here, in one line."""


class Booted:
    """One that is up, to be used in a ``with``."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab = lab
        self._host = host
        self._base = lab.directory / f"{host}-root"
        self._group = _cgroup2() / f"{_GROUP}{os.getpid()}-{host}"
        self._starter: subprocess.Popen[str] | None = None
        self._first = 0  # process number of its systemd, as seen from here

    def __enter__(self) -> Self:
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def path(self, inside: str) -> Path:
        """Where a file of it is seen from here."""
        return Path(f"/proc/{self._first}/root{inside}")

    def exec(self, *argv: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on it.

        Raises:
            AssertionError: ``check``, and it did not exit with 0; says what it printed.
        """
        into = ("nsenter", "-t", str(self._first), "-m", "-u", "-i", "-p", "-n", "-C", "--wd=/")
        done = subprocess.run(
            [*into, *map(str, argv)], capture_output=True, text=True, timeout=120, check=False
        )
        if check and done.returncode:
            raise AssertionError(
                f"{shlex.join(map(str, argv))}: {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def property(self, unit: str, name: str) -> str:
        """A property of a unit (``systemctl show``)."""
        return self.exec("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def main_pid(self, unit: str) -> int:
        """The unit's main process, by its number in here."""
        return int(self.property(unit, "MainPID"))

    def status_of(self, pid: int) -> dict[str, str]:
        """/proc/PID/status of a process in it."""
        lines = self.exec("cat", f"/proc/{pid}/status").stdout.splitlines()
        return dict(line.split(":\t", 1) for line in lines)

    def journal(self, unit: str, *options: str) -> list[str]:
        """What a unit has logged."""
        self.exec("journalctl", "--sync")  # what it said last may still be on its way
        return self.exec("journalctl", "-q", "-o", "cat", "-u", unit, *options).stdout.splitlines()

    def _boot(self) -> None:
        _remove_abandoned()
        self._base.mkdir()
        self._group.mkdir()
        places = {str(_REPOSITORY), sys.prefix}
        command = self._lab.command(
            self._host,
            *("unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--cgroup"),
            *("sh", "-c", _SCRIPT, "boot", str(self._base), *sorted(places)),
        )
        join = f"echo $$ > {shlex.quote(str(self._group / 'cgroup.procs'))} && exec {shlex.join(command)}"
        self._starter = subprocess.Popen(
            ["sh", "-c", join],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + _PATIENCE
        while not self._is_up():
            if self._starter.poll() is not None:
                assert self._starter.stderr is not None
                raise CannotBoot(" ".join(self._starter.stderr.read().split()) or "systemd ended at once")
            if time.monotonic() > deadline:
                raise CannotBoot(f"systemd was not up after {_PATIENCE:g} s")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        assert self._starter is not None
        pid = self._starter.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if not children or Path(f"/proc/{children[0]}/comm").read_text() != "systemd\n":
                return False
        except FileNotFoundError:
            return False
        self._first = int(children[0])
        running = self.exec("systemctl", "is-system-running", check=False).stdout.strip()
        return running in ("running", "degraded")

    def _end(self) -> None:
        if self._starter is not None:
            pid = self._starter.pid
            children = Path(f"/proc/{pid}/task/{pid}/children")
            if children.exists():
                for child in children.read_text().split():
                    os.kill(int(child), signal.SIGKILL)  # and with it all of its namespace
            with self._starter as starter:
                starter.kill()
        deadline = time.monotonic() + _PATIENCE
        while self._group.exists():
            try:
                _remove(self._group)
            except OSError:  # somebody in it is still ending
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        if self._base.exists():
            self._base.rmdir()


def why_not() -> str | None:
    """What keeps it from booting here; None if nothing is known to."""
    for program in (_SYSTEMD, "journalctl", "systemctl", "unshare", "pivot_root"):
        if shutil.which(program) is None:
            return f"no {program}: the packages systemd and util-linux have it"
    try:
        _cgroup2()
    except CannotBoot as error:
        return str(error)
    return None


def _remove(group: Path) -> None:
    for each in sorted(group.rglob("*"), reverse=True):
        if each.is_dir():
            each.rmdir()
    group.rmdir()


def _remove_abandoned() -> None:
    """Groups of test runs that were killed; their processes go with their labs."""
    for group in _cgroup2().glob(f"{_GROUP}*"):
        if not Path("/proc", group.name.removeprefix(_GROUP).split("-")[0]).exists():
            _remove(group)


def _cgroup2() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        here, _, kind = line.partition(" - ")
        if kind.split()[0] == "cgroup2":
            mount = Path(here.split()[4])
            if os.access(mount, os.W_OK):
                return mount
    raise CannotBoot("no cgroup2 hierarchy to put systemd in")
