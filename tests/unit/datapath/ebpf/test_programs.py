"""What another layout has left, while this one is loaded."""

import errno

import pytest

from l4lb.datapath.ebpf import pins, programs
from l4lb.datapath.ebpf.programs import Programs
from l4lb.datapath.libbpf import LibbpfError, Object
from l4lb.model import Limits
from tests.unit.datapath.ebpf.kernel import file_system

SMALL = Limits(half_open=1024, established=1024, affinity=1024, fragments=1024)


@pytest.fixture
def namespace(bpf_possible):
    """The directory of a network namespace, with another layout in it."""
    with file_system() as directory:
        namespace = directory / "l4lb" / "net-1"
        for name in ("maps", "links"):
            (namespace / "layout-0" / name).mkdir(parents=True)
        yield namespace


@pytest.fixture
def loads(namespace, monkeypatch):
    """What was pinned when an object was loaded, and the errors that loading is to fail with."""
    load, seen, errors = Object.load, [], []

    def watched(self):
        seen.append(names(namespace))
        if errors:
            raise LibbpfError("load", errors.pop())
        load(self)

    monkeypatch.setattr(Object, "load", watched)
    return seen, errors


def names(namespace):
    return sorted(path.name for path in namespace.iterdir())


def test_it_goes_when_this_one_is_loaded(namespace, loads):
    ours, (seen, _) = pins.version_directory(namespace).name, loads
    loaded = Programs("tc", SMALL, namespace)
    assert not loaded.adopted
    assert seen[-1] == ["layout-0", ours]
    assert names(namespace) == [ours]
    loaded.remove()


def test_it_goes_on_when_this_one_does_not_load(namespace, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_OBJECTS", tmp_path)
    with pytest.raises(LibbpfError, match="installed without"):
        Programs("tc", SMALL, namespace)
    assert names(namespace) == ["layout-0"]


def test_why_there_can_be_no_pins_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Programs("tc", SMALL, tmp_path / "file" / "net-1")


def test_nothing_is_left_where_there_was_nothing(namespace, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_OBJECTS", tmp_path)
    programs.remove(namespace)
    with pytest.raises(LibbpfError, match="installed without"):
        Programs("tc", SMALL, namespace)
    assert not namespace.parent.exists()


def test_it_goes_first_where_there_is_no_memory_for_both(namespace, loads):
    ours, (seen, errors) = pins.version_directory(namespace).name, loads
    errors.append(errno.ENOMEM)
    loaded = Programs("tc", SMALL, namespace)
    assert seen[0] == ["layout-0", ours]
    assert seen[-1] == [ours]
    loaded.remove()


def test_no_memory_for_this_one_alone_is_an_error(namespace, loads):
    _, errors = loads
    errors += [errno.ENOMEM] * 2
    with pytest.raises(LibbpfError):
        Programs("tc", SMALL, namespace)
    assert not namespace.exists()
