"""Programs on the hooks of a real interface, in a network namespace of the test's own."""

import subprocess

import pytest

from l4lb.datapath.libbpf import (
    LibbpfError,
    Link,
    LinkInfo,
    attach_clsact,
    attach_tcx,
    attach_xdp,
    detach_clsact,
)

pytestmark = pytest.mark.lab


def command(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def filters():
    return command("tc", "filter", "show", "dev", "near", "ingress")


def xdp_of():
    """What ip says about the program at XDP of the interface: its mode and name."""
    words = command("ip", "-details", "link", "show", "dev", "near").split()
    return next((word for word in words if word.startswith("xdp")), None)


@pytest.fixture
def tcx(sample, interface):
    try:
        link = attach_tcx(sample.programs["constants"], interface)
    except LibbpfError as error:
        pytest.skip(f"no tcx before Linux 6.6: {error}")
    yield link
    link.close()


def test_a_tcx_link_knows_its_program_and_interface(sample, interface, tcx):
    assert tcx.info() == LinkInfo(sample.programs["constants"].info().id, interface)


def test_another_program_takes_the_place_of_the_first(sample, interface, tcx):
    tcx.update(sample.programs["longer"])
    assert tcx.info() == LinkInfo(sample.programs["longer"].info().id, interface)


def test_a_program_of_another_kind_does_not_take_the_place(sample, tcx):
    with pytest.raises(LibbpfError, match="replace by drop: Invalid argument"):
        tcx.update(sample.programs["drop"])


def test_a_detached_link_is_at_no_interface(tcx):
    tcx.detach()
    assert tcx.info().ifindex == 0


def test_a_link_of_an_interface_that_is_gone_says_so(sample, tcx):
    command("ip", "link", "delete", "near")
    assert tcx.info().ifindex == 0
    with pytest.raises(LibbpfError, match="replace by longer: Link has been severed"):
        tcx.update(sample.programs["longer"])


def test_a_pinned_link_is_found_again(sample, interface, tcx, pins):
    pins.mkdir(parents=True)
    tcx.pin(pins / "link")
    before = tcx.info()
    tcx.close()
    sample.close()
    found = Link.from_pin(pins / "link")
    assert found.info() == before
    found.close()


def test_an_interface_that_is_not_there(sample, interface):
    with pytest.raises(LibbpfError, match="attach constants to interface 9999"):
        attach_tcx(sample.programs["constants"], 9999)


def test_a_filter_of_clsact_is_replaced_and_removed(sample, interface):
    attach_clsact(sample.programs["constants"], interface, 5, 77)
    assert "pref 77" in filters()
    assert "constants" in filters()
    attach_clsact(sample.programs["longer"], interface, 5, 77)
    assert "longer" in filters()
    assert "constants" not in filters()
    detach_clsact(interface, 5, 77)
    assert "bpf" not in filters()
    assert "clsact" in command("tc", "qdisc", "show", "dev", "near")


def test_a_filter_that_is_not_there_is_not_removed(sample, interface):
    with pytest.raises(LibbpfError, match="detach filter 5 from interface"):
        detach_clsact(interface, 5, 77)


@pytest.mark.parametrize(("mode", "shown"), [("generic", "xdpgeneric"), ("native", "xdp")])
def test_xdp_is_attached_in_the_mode_asked_for_and_goes_with_its_link(sample, interface, mode, shown):
    link = attach_xdp(sample.programs["pass"], interface, mode)
    assert xdp_of() == shown
    assert link.info() == LinkInfo(sample.programs["pass"].info().id, interface)
    link.update(sample.programs["drop"])
    assert link.info() == LinkInfo(sample.programs["drop"].info().id, interface)
    link.close()
    assert xdp_of() is None


def test_a_second_program_at_xdp_is_refused(sample, interface):
    link = attach_xdp(sample.programs["pass"], interface, "generic")
    with pytest.raises(LibbpfError, match="generic XDP"):
        attach_xdp(sample.programs["drop"], interface, "generic")
    assert link.info() == LinkInfo(sample.programs["pass"].info().id, interface)
    link.close()


def test_a_driver_that_refuses_xdp_says_why(sample, interface):
    command("ip", "link", "set", "far", "mtu", "9000")
    with pytest.raises(LibbpfError, match="Peer MTU is too large to set XDP"):
        attach_xdp(sample.programs["pass"], interface, "native")
    assert xdp_of() is None
