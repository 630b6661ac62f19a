"""A compiled object, a BPF file system, a network namespace; and that no test leaves a descriptor."""

import functools
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

import build_bpf
from l4lb.datapath.libbpf import LibbpfError, Map, Object
from l4lb.datapath.libbpf.library import library
from netlab.namespace import entered

SAMPLE = Path(__file__).with_name("sample.c")


@functools.cache
def why_not():
    """What keeps programs from being loaded here; None if nothing does."""
    if os.geteuid() != 0:
        return "no root: the kernel takes eBPF programs only from it"
    try:
        Map.create_array(4, 1).close()
    except LibbpfError as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def compile_source(tmp_path_factory):
    """Compile C source into an object file, once for each source."""
    folder = tmp_path_factory.mktemp("objects")

    @functools.cache
    def compiled(source: Path | str, name: str = "sample"):
        target = folder / f"{name}.bpf.o"
        if isinstance(source, str):
            source, text = folder / f"{name}.c", source
            source.write_text(text)
        try:
            build_bpf.compile_object(source, target)
        except build_bpf.CannotCompileError as error:
            pytest.skip(str(error))
        return target

    return compiled


@pytest.fixture
def installed():
    """Skip where there is no libbpf: opening an object needs nothing else."""
    try:
        library()
    except LibbpfError as error:
        pytest.skip(str(error))


@pytest.fixture
def possible(installed):
    """Skip where the kernel takes no programs from us, and say why."""
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _no_descriptor_is_left():
    """Of every test here: what it opened is closed."""
    why_not()  # opens what stays open
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def sample_file(compile_source):
    return compile_source(SAMPLE)


@pytest.fixture
def sample(possible, sample_file):
    """The sample, loaded."""
    loaded = Object.open(sample_file)
    try:
        loaded.load()
        yield loaded
    finally:
        loaded.close()


@pytest.fixture
def pins(possible, tmp_path):
    """A directory of a BPF file system."""
    mounted = tmp_path / "bpffs"
    mounted.mkdir()
    done = subprocess.run(["mount", "-t", "bpf", "bpf", mounted], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no BPF file system: {done.stderr.strip()}")
    try:
        yield mounted / "l4lb" / "maps"
    finally:
        subprocess.run(["umount", mounted], check=True)


@pytest.fixture
def interface(possible):
    """The index of one end of a veth pair, in a namespace that this thread is in."""
    if shutil.which("ip") is None:
        pytest.skip("no ip: tools/setup installs iproute2")
    name = f"l4bpf-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no network namespaces: {made.stderr.strip()}")
    try:
        with entered(name):
            subprocess.run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"], check=True)
            yield socket.if_nametoindex("near")
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)
