"""Where things are pinned."""

import os
from pathlib import Path

import pytest

from l4lb.datapath.base import DatapathError
from l4lb.datapath.ebpf import pins, programs
from l4lb.datapath.ebpf.layout import LAYOUT_VERSION
from tests.unit.datapath.ebpf.kernel import file_system

MOUNTS = """\
22 1 0:21 / / rw - ext4 /dev/vda rw
23 22 0:22 / /sys rw - sysfs sysfs rw
24 23 0:23 / /sys/fs/bpf rw,nosuid shared:9 - {} bpf rw,mode=700
"""


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    file = tmp_path / "mountinfo"
    monkeypatch.setattr(pins, "_MOUNTS", file)
    return file


def test_each_network_namespace_and_each_layout_has_its_directory():
    namespace = pins.namespace_directory(Path("/bpf"))
    assert namespace == pins.namespace_directory(Path("/bpf"))
    assert namespace.parent == Path("/bpf/l4lb")
    assert pins.version_directory(namespace).name == f"layout-{LAYOUT_VERSION}"


def test_a_mounted_file_system_is_seen(mounts):
    mounts.write_text(MOUNTS.format("bpf"))
    assert pins.is_mounted(Path("/sys/fs/bpf"))
    assert not pins.is_mounted(Path("/sys/fs"))


def test_the_last_mount_counts(mounts):
    mounts.write_text(MOUNTS.format("bpf") + "25 23 0:24 / /sys/fs/bpf rw - tmpfs none rw\n")
    assert not pins.is_mounted(Path("/sys/fs/bpf"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_one_that_is_really_there(tmp_path):
    with file_system() as directory:
        assert pins.is_mounted(directory)
    assert not pins.is_mounted(tmp_path)


def test_what_is_ours_is_not_abandoned_though_its_interfaces_are_gone(tmp_path, monkeypatch):
    """They may have been made anew while the daemon was away; the connections are still in the maps."""
    monkeypatch.setattr(programs, "have_lost_all", lambda links: True)
    for namespace in ("net-1", "net-2"):
        (tmp_path / namespace / "layout-1" / "links").mkdir(parents=True)
    assert programs.remove_abandoned(tmp_path, tmp_path / "net-1") == [tmp_path / "net-2"]
    assert (tmp_path / "net-1").is_dir()
    assert not (tmp_path / "net-2").exists()


def test_where_none_can_be_mounted_it_says_what_to_do(tmp_path):
    with pytest.raises(
        DatapathError, match=r"mounting one failed: .*; try 'mount -t bpf -o mode=0700 bpf .*missing'$"
    ):
        pins.mount(tmp_path / "missing")


def test_empty_directories_go_and_others_stay(tmp_path):
    (tmp_path / "empty").mkdir()
    pins.remove_if_empty(tmp_path / "empty")
    pins.remove_if_empty(tmp_path / "empty")
    (tmp_path / "full").touch()
    pins.remove_if_empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
