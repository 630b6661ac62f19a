"""Programs on the interfaces of a real kernel, with links and without."""

import ctypes
import errno
import socket
import subprocess

import pytest

import build_bpf
from l4lb.datapath.ebpf import hooks as module
from l4lb.datapath.ebpf.hooks import CLSACT, GENERIC, NATIVE, TCX, Hooks, attached
from l4lb.datapath.libbpf import LibbpfError, Link, Object, attach_tcx
from l4lb.netlink.xdp_features import XDP_CAN_SEND, xdp_features
from tests.lab import hooks_shown
from tests.lab.clients import wait_for
from tests.lab.gateway import GATEWAY, PEER, command_in, ip, two_namespaces
from tests.unit.datapath.ebpf.kernel import SIZES, file_system, why_not

pytestmark = pytest.mark.lab

TCX_INGRESS = 46  # enum bpf_attach_type


@pytest.fixture(scope="module")
def programs():
    """The programs of tc and xdp, loaded twice, as by two daemons."""
    if reason := why_not():
        pytest.skip(reason)
    objects = []
    try:
        for name in ("tc", "xdp") * 2:
            objects.append(Object.open(build_bpf.FOLDER / f"{name}.bpf.o", max_entries=SIZES))
            objects[-1].load()
        yield [each.programs[f"l4lb_{name}"] for each, name in zip(objects, ("tc", "xdp") * 2, strict=True)]
    finally:
        for each in objects:
            each.close()


@pytest.fixture
def links():
    with two_namespaces(), file_system() as directory:
        (directory / "links").mkdir()
        yield directory / "links"
        for hook, index in attached(directory / "links"):
            module.detach(directory / "links", hook, index)


@pytest.fixture
def cards(links):
    """The gateway's interfaces: index -> name."""
    return {index: name for index, name in socket.if_nameindex() if name != "lo"}


@pytest.fixture
def before_linux_6_6(monkeypatch):
    def attach_tcx(program, index):
        raise LibbpfError("attach", errno.EINVAL)

    monkeypatch.setattr(module, "attach_tcx", attach_tcx)


def filters():
    """What the kernel says of clsact."""

    def run(*argv):
        return subprocess.run(command_in(GATEWAY, *argv), capture_output=True, text=True, check=True).stdout

    return hooks_shown.filters(run, [name for _, name in socket.if_nameindex()])


def at(links, hook):
    return {index for name, index in attached(links) if name == hook}


def program_of(links, hook, index):
    link = Link.from_pin(links / f"{hook}-{index}")
    try:
        return link.info().program_id
    finally:
        link.close()


def test_tc_alone(links, cards, programs):
    hooks = Hooks(links, programs[0], None)
    assert hooks.put_on(cards) == []
    assert hooks.attached == {(TCX, index) for index in cards}
    assert hooks.modes() == {index: [TCX] for index in cards}


def at_tcx(index):
    """The numbers of the programs, in their order."""
    count, numbers = ctypes.c_uint32(8), (ctypes.c_uint32 * 8)()
    query = ctypes.CDLL("libbpf.so.1").bpf_prog_query
    assert query(index, TCX_INGRESS, 0, None, numbers, ctypes.byref(count)) == 0
    return numbers[: count.value]


def test_before_a_program_that_is_there_already(links, cards, programs):
    """It might let all packets pass, and then none would come to one behind it."""
    index = next(iter(cards))
    other = attach_tcx(programs[2], index)
    try:
        Hooks(links, programs[0], None).put_on({index: cards[index]})
        assert at_tcx(index) == [programs[0].info().id, programs[2].info().id]
    finally:
        other.close()


def test_xdp_in_front(links, cards, programs):
    hooks = Hooks(links, *programs[:2])
    hooks.put_on(cards)
    assert hooks.modes() == {index: [NATIVE, TCX] for index in cards}


def test_xdp_is_generic_where_the_driver_has_none(links, cards, programs, monkeypatch):
    attach = module.attach_xdp

    def without_native(program, index, mode):
        if mode == "native":
            raise LibbpfError("no", errno.EOPNOTSUPP)
        return attach(program, index, mode)

    monkeypatch.setattr(module, "attach_xdp", without_native)
    hooks = Hooks(links, *programs[:2])
    hooks.put_on(cards)
    assert hooks.modes() == {index: [GENERIC, TCX] for index in cards}


def test_where_xdp_cannot_be_tc_goes_on_and_says_why(links, cards, programs, monkeypatch, caplog):
    def refuse(program, index, mode):
        raise LibbpfError(f"no {mode} here", errno.EBUSY)

    monkeypatch.setattr(module, "attach_xdp", refuse)
    hooks = Hooks(links, *programs[:2])
    for _ in range(2):
        hooks.put_on(cards)
    assert hooks.modes() == {index: [TCX, "no XDP: no native here"] for index in cards}
    assert len(caplog.messages) == len(cards)  # once


def test_before_linux_6_6_it_is_a_filter(links, cards, programs, before_linux_6_6):
    hooks = Hooks(links, programs[0], None)
    hooks.put_on(cards)
    assert hooks.put_on(cards) == []
    assert filters() == dict.fromkeys(cards.values(), "l4lb_tc")
    assert hooks.modes() == {index: [CLSACT] for index in cards}
    for hook, index in attached(links):
        module.detach(links, hook, index)
    assert filters() == {}
    assert attached(links) == []


def test_a_filter_that_somebody_removed_comes_back(links, cards, programs, before_linux_6_6):
    hooks = Hooks(links, programs[0], None)
    hooks.put_on(cards)
    subprocess.run(command_in(GATEWAY, "tc", "qdisc", "delete", "dev", "lan0", "clsact"), check=True)
    hooks.put_on(cards)
    assert set(filters()) == set(cards.values())


def test_interfaces_that_are_no_longer_wanted_are_left(links, cards, programs):
    hooks = Hooks(links, *programs[:2])
    hooks.put_on(cards)
    kept = dict(list(cards.items())[:1])
    hooks.put_on(kept)
    assert {index for _, index in hooks.attached} == set(kept)


def test_what_is_left_sees_no_packet_any_more_whoever_holds_its_link(links, cards, programs):
    index = next(iter(cards))
    hooks = Hooks(links, *programs[:2])
    hooks.put_on({index: cards[index]})
    held = [Link.from_pin(links / f"{hook}-{index}") for hook in (TCX, NATIVE)]
    try:
        hooks.put_on({})
        assert at_tcx(index) == []
        assert [link.info().ifindex for link in held] == [0, 0]
    finally:
        for link in held:
            link.close()


def test_what_somebody_removed_comes_back(links, cards, programs):
    hooks = Hooks(links, *programs[:2])
    hooks.put_on(cards)
    first, second = cards
    (links / f"{TCX}-{first}").unlink()
    link = Link.from_pin(links / f"{NATIVE}-{second}")
    link.detach()
    link.close()
    repaired = hooks.put_on(cards)
    # The kernel lets go of a link a moment after its last pin.
    wait_for("both", lambda: repaired.extend(hooks.put_on(cards)) or len(repaired) == 2)
    assert sorted(repaired) == sorted(cards.values())
    assert hooks.modes() == {index: [NATIVE, TCX] for index in cards}


def test_an_interface_that_has_just_disappeared_is_none(links, cards, programs):
    hooks = Hooks(links, *programs[:2])
    hooks.put_on(cards)
    ip(GATEWAY, "link delete lan0")
    hooks.put_on({**cards, 999: "never0"})
    left = [index for index, name in cards.items() if name != "lan0"]
    assert hooks.modes() == {index: [NATIVE, TCX] for index in left}
    hooks.put_on({index: cards[index] for index in left})
    assert {index for _, index in hooks.attached} == set(left)


@pytest.mark.parametrize("old_kernel", [False, True])
def test_another_daemons_programs_take_the_place_of_these(links, cards, programs, request, old_kernel):
    if old_kernel:
        request.getfixturevalue("before_linux_6_6")
    Hooks(links, *programs[:2]).put_on(cards)
    second = Hooks(links, *programs[2:])
    second.take_over()
    assert second.put_on(cards) == []
    for index in cards:
        assert program_of(links, NATIVE, index) == programs[3].info().id
        if not old_kernel:
            assert program_of(links, TCX, index) == programs[2].info().id
    assert len(filters()) == old_kernel * len(cards)


def test_tc_takes_over_from_xdp(links, cards, programs):
    Hooks(links, *programs[:2]).put_on(cards)
    ip(GATEWAY, "link delete lan0")
    second = Hooks(links, programs[2], None)
    second.take_over()
    assert second.attached == {(TCX, index) for index, name in cards.items() if name != "lan0"}


def test_the_kernel_tells_which_interfaces_take_redirected_frames(links, cards):
    by_name = {name: index for index, name in cards.items()}
    before = xdp_features(cards)
    if not before:
        pytest.skip("the kernel does not tell: Linux before 6.3")
    assert not before[by_name["lan0"]] & XDP_CAN_SEND
    subprocess.run(command_in(PEER, "ethtool", "-K", "peer0", "gro", "on"), check=True)
    after = xdp_features([*cards, 999])
    assert after[by_name["lan0"]] & XDP_CAN_SEND
    assert after[by_name["wan0"]] == before[by_name["wan0"]]
    assert 999 not in after
