"""Giving up capabilities, in processes of their own."""

import errno
import os
import subprocess
import sys

import pytest

from l4lb import privileges
from l4lb.privileges import DAEMON, Capability, for_daemon, held, missing, refusal

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have capabilities to give up")

PACKETS = {Capability.NET_ADMIN, Capability.NET_RAW}

GIVE_UP = """
import subprocess, sys
from l4lb.privileges import Capability, held, keep_only
keep_only([Capability[name] for name in sys.argv[1:]])
print(*sorted(each.name for each in held()))
# Root's programs get all that is in the bounding set, unless they may gain nothing.
print(subprocess.run(["grep", "CapEff", "/proc/self/status"], capture_output=True, text=True).stdout)
"""


def give_up(*kept, started_with=()):
    command = [*started_with, sys.executable, "-c", GIVE_UP, *kept]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    here, child = done.stdout.strip().splitlines()
    return set(here.split()), int(child.split()[1], 16)


def mask(*names):
    return sum(1 << Capability[name] for name in names)


@needs_root
def test_what_is_kept_is_all_that_is_left_also_for_what_it_starts():
    assert give_up("NET_ADMIN", "NET_RAW") == ({"NET_ADMIN", "NET_RAW"}, mask("NET_ADMIN", "NET_RAW"))
    assert give_up("BPF") == ({"BPF"}, mask("BPF"))


@needs_root
def test_what_was_not_there_is_not_missed():
    # No CAP_SETPCAP either: as under a service manager that has bounded them.
    setpriv = ("setpriv", "--bounding-set", "-all,+net_raw,+bpf")
    assert give_up("NET_ADMIN", "NET_RAW", started_with=setpriv) == ({"NET_RAW"}, mask("NET_RAW"))


@needs_root
def test_who_has_none_to_give_up_may_be_forbidden_the_call():
    """As the agent under its unit: the filter of system calls refuses capset."""
    code = """
import ctypes
from l4lb import privileges
libc = ctypes.CDLL(None)
privileges.keep_only(())
class Refusing:
    prctl, capget = libc.prctl, libc.capget
    def capset(self, *arguments):
        return -1
privileges.ctypes.CDLL = lambda *arguments, **options: Refusing()
privileges.keep_only(())
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("has", "kept"),
    [
        (set(Capability), DAEMON),
        (PACKETS | {Capability.DAC_OVERRIDE}, PACKETS),
        (PACKETS | {Capability.SYS_ADMIN, Capability.DAC_OVERRIDE}, PACKETS | {Capability.SYS_ADMIN}),
        (
            PACKETS | {Capability.SYS_ADMIN, Capability.BPF},
            PACKETS | {Capability.SYS_ADMIN, Capability.BPF},
        ),
    ],
    ids=["root", "for raw only", "as before Linux 5.8", "PERFMON by SYS_ADMIN"],
)
def test_the_daemon_keeps_four_and_of_those_what_it_has(has, kept):
    assert for_daemon(has) == kept


@pytest.mark.parametrize(
    ("uid", "has", "number", "advice"),
    [
        (0, set(), errno.EACCES, True),
        (0, set(), errno.EPERM, True),  # chown
        (0, set(), errno.ENOSPC, False),
        (0, {Capability.DAC_OVERRIDE}, errno.EACCES, False),
        (1000, set(), errno.EACCES, False),
    ],
)
def test_where_root_is_refused_it_says_what_to_do(monkeypatch, uid, has, number, advice):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(privileges, "held", lambda: has)
    told = refusal(OSError(number, os.strerror(number)))
    told, _, way_out = told.partition(" (CAP_DAC_OVERRIDE is given up: ")
    assert told == os.strerror(number)
    assert way_out == advice * (
        "give the file and its directories to root by 'chown root:root', or open them to others)"
    )


@needs_root
def test_root_has_them():
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    assert held() == {each for each in Capability if effective >> each & 1}


def test_they_are_named_as_in_units():
    assert str(Capability.NET_ADMIN) == "CAP_NET_ADMIN"


@pytest.mark.parametrize(
    ("has", "line"),
    [
        ({Capability.NET_ADMIN, Capability.BPF, Capability.PERFMON}, None),
        ({Capability.NET_ADMIN, Capability.SYS_ADMIN}, None),  # which was all of them before Linux 5.8
        ({Capability.SYS_ADMIN}, "CAP_NET_ADMIN is missing: "),
        ({Capability.NET_ADMIN}, "CAP_BPF and CAP_PERFMON are missing: "),
    ],
)
def test_what_is_missing_is_one_line_with_a_way_out(has, line):
    told = missing((Capability.NET_ADMIN, Capability.BPF, Capability.PERFMON), has)
    assert told == (
        line
        and f"{line}a systemd unit gives capabilities by CapabilityBoundingSet=, a container by --cap-add"
    )
