"""The way of a thread into a network namespace, and back."""

import os
import subprocess
from contextlib import suppress

import pytest

from netlab.command import NAMESPACES
from netlab.namespace import entered


def own():
    """The network namespace of this thread."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def test_one_that_is_not_there_is_not_made():
    name = f"l4none-{os.getpid()}"
    with pytest.raises(FileNotFoundError, match=name), entered(name):
        pass
    assert not (NAMESPACES / name).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="no root: namespaces are for it alone")
def test_the_thread_is_there_and_comes_back_whatever_happens():
    name, home = f"l4in-{os.getpid()}", own()
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no network namespaces: {made.stderr.strip()}")
    try:
        with suppress(ZeroDivisionError), entered(name):
            assert own() == (NAMESPACES / name).stat().st_ino
            raise ZeroDivisionError
        assert own() == home
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="no root: files of /run are for it alone")
def test_what_is_no_namespace_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(OSError, match="cannot enter a network namespace"), entered(str(path)):
        pass
