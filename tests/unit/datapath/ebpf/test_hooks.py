"""What is attached, where the kernel answers with errors; the lab has the hooks themselves."""

import errno

import pytest

from l4lb.datapath.ebpf import hooks
from l4lb.datapath.ebpf.hooks import CLSACT, GENERIC, NATIVE, TCX, Hooks
from l4lb.datapath.libbpf import LibbpfError

TC, XDP = "tc", "xdp"


class Link:
    """A pinned link that does what a test says."""

    def __init__(self, opened=0, updated=0):
        self.opened, self.updated = opened, updated
        self.program = None
        self.detached = False

    def from_pin(self, path):
        if self.opened:
            raise LibbpfError(f"open {path}", self.opened)
        return self

    def update(self, program):
        if self.updated:
            raise LibbpfError("replace", self.updated)
        self.program = program

    def detach(self):
        self.detached = True

    def close(self):
        pass


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """Hooks with one link pinned, of the kind and with the answers that a test says."""

    def make(hook, **answers):
        (tmp_path / f"{hook}-5").touch()
        link = Link(**answers)
        monkeypatch.setattr(hooks, "Link", link)
        return Hooks(tmp_path, TC, XDP), link

    return make


@pytest.mark.parametrize(("hook", "program"), [(TCX, TC), (NATIVE, XDP), (GENERIC, XDP)])
def test_a_program_of_a_daemon_before_is_replaced(pinned, hook, program):
    ours, link = pinned(hook)
    ours.take_over()
    assert link.program == program
    assert ours.attached == {(hook, 5)}


@pytest.mark.parametrize("answers", [{"opened": errno.ENOENT}, {"updated": errno.ENOLINK}])
def test_of_an_interface_that_is_gone_the_pin_goes_too(pinned, answers):
    ours, _ = pinned(TCX, **answers)
    ours.take_over()
    assert not ours.attached


@pytest.mark.parametrize("answers", [{"opened": errno.EMFILE}, {"updated": errno.ENOMEM}])
def test_what_cannot_be_replaced_stays_and_takes_packets(pinned, answers):
    ours, _ = pinned(TCX, **answers)
    with pytest.raises(LibbpfError):
        ours.take_over()
    assert ours.attached == {(TCX, 5)}


def test_xdp_that_the_driver_does_not_replace_is_attached_anew(pinned):
    ours, link = pinned(NATIVE, updated=errno.EINVAL)
    ours.take_over()
    assert link.detached
    assert not ours.attached


def test_what_cannot_be_opened_is_not_taken_for_gone(pinned, monkeypatch):
    """A second program beside the first would see every packet twice."""
    ours, _ = pinned(TCX, opened=errno.EMFILE)
    monkeypatch.setattr(hooks, "attach_tcx", None)
    with pytest.raises(LibbpfError):
        ours.put_on({5: "eth0"})
    assert ours.attached == {(TCX, 5)}


def test_a_filter_is_written_down_before_it_is_there(tmp_path, monkeypatch):
    """A daemon that is killed in between leaves none that nobody removes."""

    def no_tcx(program, index):
        raise LibbpfError("attach", errno.EINVAL)

    def killed(program, index, handle, priority):
        raise KeyboardInterrupt

    monkeypatch.setattr(hooks, "attach_tcx", no_tcx)
    monkeypatch.setattr(hooks, "attach_clsact", killed)
    ours = Hooks(tmp_path, TC, None)
    with pytest.raises(KeyboardInterrupt):
        ours.put_on({5: "eth0"})
    assert ours.attached == {(CLSACT, 5)}


def test_names_that_others_have_put_beside_the_pins_are_none(pinned, tmp_path):
    ours, link = pinned(TCX)
    for name in ("notes", "tcx-", "tcx-five", "tcx--5", "tcx-05", "tcx-\u0665", "other-5", "-5"):
        (tmp_path / name).mkdir()
    ours.take_over()
    assert ours.attached == {(TCX, 5)}
    assert link.program == TC
