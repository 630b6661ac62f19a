"""What is said where the library is missing or the kernel refuses."""

import ctypes
import os
import subprocess
import sys

import pytest

from l4lb.datapath.libbpf import LibbpfError, Object
from l4lb.datapath.libbpf.library import Libbpf, library


def test_without_the_library_the_package_to_install_is_named(monkeypatch):
    def missing(name, **options):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(LibbpfError, match=r"^libbpf.so.1 is not installed: install libbpf1") as caught:
        Libbpf()
    assert "\n" not in str(caught.value)


def test_importing_needs_no_library():
    code = "import l4lb.datapath.libbpf; print('libbpf' in open('/proc/self/maps').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "not permitted: it needs root, with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
        (524, "this kernel does not support it"),
        (28, os.strerror(28)),
        (4003, "Endian mismatch"),
    ],
)
def test_errors_in_words(installed, number, text):
    error = library().error("do it", number)
    assert str(error) == f"do it: {text}"
    assert error.errno == number


LOAD_AS_NOBODY = """
import os, sys
from pathlib import Path
from l4lb.datapath.libbpf import LibbpfError, Object
opened = Object.open(Path(sys.argv[1]))
os.setuid(65534)
try:
    opened.load()
except LibbpfError as error:
    print(error, error.errno)
"""


@pytest.mark.lab
def test_loading_without_privileges_says_what_it_needs(possible, sample_file):
    command = [sys.executable, "-c", LOAD_AS_NOBODY, str(sample_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"load {sample_file}: not permitted: it needs root, with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN 1\n"
    )
    assert done.stderr == ""


@pytest.mark.lab
def test_a_warning_is_told_with_its_own_error_only(possible, sample, tmp_path):
    text = tmp_path / "text.bpf.o"
    text.write_text("not an object")
    with pytest.raises(LibbpfError, match=r"text\.bpf\.o"):
        Object.open(text)
    with pytest.raises(LibbpfError) as caught:
        sample.programs["constants"].test_run(b"")
    assert str(caught.value) == "run constants: Invalid argument"
