"""An upgrade in place is seen, whatever its version says."""

import os
import shutil

import pytest

from l4lb.control.installed_code import InstalledCode


@pytest.fixture
def package(tmp_path):
    for name, text in {"model.py": "A = 1\n", "raw/worker.py": "B = 2\n", "bpf/tc.bpf.o": "ELF"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_what_stays_has_not_changed(package):
    code = InstalledCode(package)
    assert not code.has_changed()
    (package / "raw" / "worker.py").touch()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "model.cpython-311.pyc").write_bytes(b"written when it is first imported")
    assert not code.has_changed()


@pytest.mark.parametrize("name", ["model.py", "raw/worker.py", "bpf/tc.bpf.o"])
def test_other_code_or_another_program_is_a_change(package, name):
    code = InstalledCode(package)
    text = (package / name).read_text()
    (package / name).write_text(text[::-1])  # of the same length
    assert code.has_changed()
    (package / name).write_text(text)
    assert not code.has_changed()
    (package / name).unlink()  # in the middle of an upgrade
    assert code.has_changed()


def test_so_is_code_that_goes_while_it_is_looked_at(package, monkeypatch):
    code = InstalledCode(package)
    walk = os.walk

    def gone_meanwhile(top):
        for found in walk(top):
            yield found
            shutil.rmtree(package / "raw", ignore_errors=True)

    monkeypatch.setattr("os.walk", gone_meanwhile)
    assert code.has_changed()


def test_so_is_a_new_module(package):
    code = InstalledCode(package)
    (package / "new.py").touch()
    assert code.has_changed()


def test_this_one_has_not_changed():
    assert not InstalledCode().has_changed()
