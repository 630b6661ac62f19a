"""What the shield makes of nft and tc, which are small scripts here; the lab has the real ones."""

import asyncio
import os

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.raw import shield as module
from l4lb.datapath.raw.claim import Claim
from l4lb.datapath.raw.shield import Shield
from l4lb.model import Plan

CLAIM = Claim.of(Plan())
TC_WITHOUT_FILTERS = 'case "$*" in *" get "*) exit 2;; esac'


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Write a program; it logs its arguments and what it reads, then does as told."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "_SYSTEM_DIRECTORIES", ())
    log = tmp_path / "log"
    log.touch()

    def write(name, body="exit 0"):
        path = tmp_path / name
        read = 'input=$(while read -r line; do echo "$line"; done)'
        path.write_text(f'#!/bin/sh\n{read}\necho "{name} $* < $input" >> {log}\n{body}\n')
        path.chmod(0o755)

    write.log = lambda: log.read_text().splitlines()
    return write


def apply(*interfaces):
    return asyncio.run(Shield().apply(CLAIM, interfaces))


@pytest.mark.parametrize(("missing", "package"), [("nft", "nftables"), ("tc", "iproute2")])
def test_a_missing_program_is_named_with_its_package(program, missing, package):
    program("nft" if missing == "tc" else "tc", TC_WITHOUT_FILTERS)
    with pytest.raises(DatapathError) as raised:
        apply("lo")
    assert str(raised.value) == f"{missing} is not installed: install the package {package}"


def test_what_nft_says_is_one_line_and_the_hand_back_is_undone(program):
    program("tc", TC_WITHOUT_FILTERS)
    reason = "Could not process rule: Operation not supported"
    program("nft", f'printf "/dev/stdin:3:1-2: Error: {reason}\\n^^\\n" >&2; exit 1')
    with pytest.raises(DatapathError) as raised:
        apply("lo")
    assert str(raised.value) == f"cannot load the shield with nft: {reason}"
    verbs = [" ".join(line.split()[1:3]) for line in program.log() if line.startswith("tc ")]
    added = verbs.index("filter replace")
    assert "qdisc add" in verbs[:added]
    assert "filter delete" in verbs[added:]
    assert verbs[-1] == "qdisc delete"


def test_what_tc_says_names_the_interface(program):
    program("nft")
    program(
        "tc",
        'case "$*" in *" get "*) exit 2;; *"qdisc add"*) '
        'echo "Error: Specified qdisc kind is unknown." >&2; exit 2;; esac',
    )
    with pytest.raises(DatapathError) as raised:
        apply("lo")
    assert str(raised.value) == "cannot redirect packets on lo with tc: Specified qdisc kind is unknown."
    assert not [line for line in program.log() if line.startswith("nft")]


def test_an_interface_that_vanishes_while_nft_loads_is_left_out(program, monkeypatch, tmp_path):
    for name in ("stays", "goes"):
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "_exists", lambda name: (tmp_path / name).exists())
    program("tc", TC_WITHOUT_FILTERS)
    vanish = f"PATH=/bin rm {tmp_path}/goes; echo 'Error: No such file or directory' >&2; exit 1"
    program("nft", f'case "$input" in *goes*) {vanish};; esac')
    assert apply("stays", "goes") == ("stays",)


def test_an_interface_that_nft_cannot_name_is_an_error_of_the_datapath(program, monkeypatch):
    monkeypatch.setattr(module, "_exists", lambda _: True)
    program("tc", TC_WITHOUT_FILTERS)
    program("nft")
    with pytest.raises(DatapathError, match="cannot name the interface"):
        apply('a"b')


def test_remove_does_nothing_where_nothing_can_be(program):
    assert asyncio.run(Shield().remove()) is False


def test_remove_does_nothing_in_a_kernel_without_nftables(program):
    program("nft", 'echo "netlink: Error: cache initialization failed: Protocol not supported" >&2; exit 1')
    assert asyncio.run(Shield().remove()) is False


def test_remove_says_what_is_left(program):
    program("nft", 'echo "Error: Operation not permitted (you must be root)" >&2; exit 1')
    with pytest.raises(DatapathError) as raised:
        asyncio.run(Shield().remove())
    assert str(raised.value) == (
        "cannot remove the nftables table 'netdev l4lb': Operation not permitted (you must be root)"
    )


def test_a_cancelled_apply_leaves_no_process(program, tmp_path):
    program("tc", TC_WITHOUT_FILTERS)
    program("nft", f"echo $$ > {tmp_path}/pid; while :; do :; done")

    async def cancel():
        task = asyncio.create_task(Shield().apply(CLAIM, ["lo"]))
        pid = tmp_path / "pid"
        while not (pid.exists() and pid.read_text()):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(pid.read_text())

    pid = asyncio.run(asyncio.wait_for(cancel(), 10))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_program_that_cannot_be_started(program, monkeypatch):
    async def start_child(*command, **streams):
        raise OSError(12, "Cannot allocate memory")

    program("nft")
    program("tc", TC_WITHOUT_FILTERS)
    monkeypatch.setattr(module, "start_child", start_child)
    with pytest.raises(DatapathError, match="cannot be started: Cannot allocate memory"):
        apply("lo")
