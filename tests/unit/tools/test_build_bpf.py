"""Compiling the eBPF programs: what is compiled when, and what comes into a wheel."""

import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

import build_bpf

PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "verdict.h"
char gpl[] SEC("license") = "GPL";
SEC("xdp") int run(struct xdp_md *ctx) { return ctx->data ? VERDICT : XDP_DROP; }
"""

TOOLS = ("tools/build_hook.py", "tools/build_bpf.py", "tools/build_man.py")

needs_clang = pytest.mark.skipif(shutil.which("clang") is None, reason="no clang: tools/setup installs it")


@pytest.fixture(autouse=True)
def _clang_is_looked_for_anew():
    build_bpf._command.cache_clear()
    yield
    build_bpf._command.cache_clear()


@pytest.fixture
def folder(tmp_path):
    """Two programs and a header, older than anything made from now on."""
    place = tmp_path / "bpf"
    place.mkdir()
    for name, text in (("one.c", PROGRAM), ("two.c", PROGRAM), ("verdict.h", "#define VERDICT XDP_PASS\n")):
        (place / name).write_text(text)
        age(place / name)
    return place


def age(path):
    long_ago = path.stat().st_mtime - 60
    os.utime(path, (long_ago, long_ago))


def touch(path):
    """As edited a moment after everything that was made."""
    later = time.time() + 5
    os.utime(path, (later, later))


def names(paths):
    return [path.name for path in paths]


@pytest.fixture
def clang(tmp_path, monkeypatch):
    """Have a shell script, or nothing, be clang, and nothing else on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def become(script):
        (programs / "clang").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "clang").chmod(0o755)

    return become


@needs_clang
def test_programs_are_compiled_once(folder):
    assert names(build_bpf.build(folder)) == ["one.bpf.o", "two.bpf.o"]
    assert build_bpf.build(folder) == []


@needs_clang
@pytest.mark.parametrize(
    ("edited", "compiled"), [("two.c", ["two.bpf.o"]), ("verdict.h", ["one.bpf.o", "two.bpf.o"])]
)
def test_what_an_edit_concerns_is_compiled_anew(folder, edited, compiled):
    build_bpf.build(folder)
    touch(folder / edited)
    assert names(build_bpf.build(folder)) == compiled


@needs_clang
def test_an_object_is_bpf_with_btf_and_knows_no_path_of_this_machine(folder):
    build_bpf.build(folder)
    data = (folder / "one.bpf.o").read_bytes()
    assert data[:4] == b"\x7fELF"
    assert int.from_bytes(data[18:20], sys.byteorder) == 247  # EM_BPF
    assert b".BTF.ext" in data
    assert str(folder).encode() not in data


@needs_clang
def test_a_source_with_an_error_is_shown_and_does_not_keep_others_from_being_compiled(folder, capfd):
    (folder / "one.c").write_text(PROGRAM.replace("VERDICT :", "UNKNOWN :"))
    with pytest.raises(build_bpf.SourceError, match=r"^clang does not compile one\.c$"):
        build_bpf.build(folder)
    assert "use of undeclared identifier 'UNKNOWN'" in capfd.readouterr().err
    assert sorted(names(folder.iterdir())) == ["one.c", "two.bpf.o", "two.c", "verdict.h"]


@needs_clang
def test_a_warning_is_an_error_for_the_tests_only(folder, capfd):
    source = folder / "one.c"
    source.write_text(PROGRAM + "static int unused;")
    assert names(build_bpf.build(folder)) == ["one.bpf.o", "two.bpf.o"]
    assert "unused" in capfd.readouterr().err
    with pytest.raises(build_bpf.SourceError):
        build_bpf.compile_object(source, folder / "again.o", strict=True)


@needs_clang
@pytest.mark.parametrize("source", sorted(build_bpf.FOLDER.glob("*.c")), ids=lambda source: source.name)
def test_the_programs_compile_without_a_warning(source, tmp_path):
    build_bpf.compile_object(source, tmp_path / "made.o", strict=True)


@needs_clang
def test_a_source_that_is_refused_has_no_object_of_before(folder):
    build_bpf.build(folder)
    (folder / "one.c").write_text("no C")
    touch(folder / "one.c")
    with pytest.raises(build_bpf.SourceError):
        build_bpf.build(folder)
    assert names(folder.glob("*.o")) == ["two.bpf.o"]


def test_without_clang_nothing_is_compiled_and_nothing_old_stays(folder, clang):
    (folder / "one.bpf.o").touch()
    for _ in range(2):
        age(folder / "one.bpf.o")
    with pytest.raises(build_bpf.CannotCompileError, match=r"^clang is not installed$"):
        build_bpf.build(folder)
    assert sorted(names(folder.iterdir())) == ["one.c", "two.c", "verdict.h"]


def test_without_clang_what_is_up_to_date_stays(folder, clang):
    for name in ("one.bpf.o", "two.bpf.o"):
        (folder / name).touch()
        touch(folder / name)
    assert build_bpf.build(folder) == []
    assert (folder / "one.bpf.o").exists()


def test_without_headers_the_packages_are_named(folder, clang):
    clang("echo \"<built-in>:1:10: fatal error: 'bpf/bpf_helpers.h' file not found\" >&2; exit 1")
    with pytest.raises(
        build_bpf.CannotCompileError, match=r"libbpf-dev .* is not installed \(.*bpf_helpers"
    ):
        build_bpf.build(folder)


def test_the_command_without_clang_says_so_and_succeeds(folder, clang, capsys):
    assert build_bpf.main(folder) == 0
    said = capsys.readouterr()
    assert said.err == ("build_bpf: no eBPF datapaths, l4lb will run `raw` only: clang is not installed\n")
    assert said.out == ""


@needs_clang
def test_the_command_says_what_it_has_compiled(folder, capsys):
    assert build_bpf.main(folder) == 0
    assert capsys.readouterr() == ("build_bpf: compiled one.bpf.o, two.bpf.o\n", "")
    assert build_bpf.main(folder) == 0
    assert capsys.readouterr() == ("", "")


@needs_clang
def test_the_command_fails_where_a_source_does(folder, capsys):
    (folder / "two.c").write_text("nonsense")
    assert build_bpf.main(folder) == 1
    assert capsys.readouterr().err == "build_bpf: clang does not compile two.c\n"


@pytest.fixture
def project(tmp_path, folder):
    """The project with the two programs for its own."""
    pytest.importorskip("hatchling", reason="no hatchling: tools/setup installs it")
    root = tmp_path / "project"
    (root / "tools").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore", *TOOLS):
        shutil.copy(build_bpf.ROOT / name, root / name)
    (root / "l4lb" / "datapath").mkdir(parents=True)
    (root / "l4lb" / "__init__.py").touch()
    folder.rename(root / "l4lb" / "datapath" / "bpf")
    return root


def hatch(project, *options, **environment):
    """Build with hatchling, as pip does. Returns what it has printed."""
    command = [sys.executable, "-m", "hatchling", "build", *options]
    environment = os.environ | environment
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def wheel_of(project, **environment):
    """Build a wheel. Returns its file name, what is in l4lb/, and what was printed."""
    printed = hatch(project, "--target", "wheel", **environment)
    (wheel,) = (project / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("l4lb/")}
    wheel.unlink()
    return wheel.name, packed, printed


@needs_clang
def test_a_wheel_has_the_objects_and_not_their_sources(project):
    name, packed, _ = wheel_of(project)
    assert name.endswith("-py3-none-any.whl")
    assert packed.keys() == {
        "l4lb/__init__.py",
        "l4lb/datapath/bpf/one.bpf.o",
        "l4lb/datapath/bpf/two.bpf.o",
    }
    assert packed["l4lb/datapath/bpf/one.bpf.o"][:4] == b"\x7fELF"


@needs_clang
def test_an_editable_install_has_the_objects_beside_their_sources(project):
    hatch(project, "--target", "wheel:editable", "--hooks-only")
    assert build_bpf.out_of_date(project / "l4lb" / "datapath" / "bpf") == []


@needs_clang
def test_an_object_whose_source_is_gone_is_in_no_wheel(project):
    assert "l4lb/datapath/bpf/one.bpf.o" in wheel_of(project)[1]
    (project / "l4lb" / "datapath" / "bpf" / "one.c").unlink()
    assert wheel_of(project)[1].keys() == {"l4lb/__init__.py", "l4lb/datapath/bpf/two.bpf.o"}


def test_a_wheel_is_built_without_clang_and_says_what_it_lacks(project, tmp_path):
    _, packed, printed = wheel_of(project, PATH=str(tmp_path))
    assert printed.count("no eBPF datapaths, l4lb will run `raw` only: clang is not installed") == 1
    assert packed.keys() == {"l4lb/__init__.py"}


@needs_clang
def test_a_wheel_with_a_source_that_does_not_compile_is_not_built(project):
    (project / "l4lb" / "datapath" / "bpf" / "one.c").write_text("nonsense")
    with pytest.raises(AssertionError, match=r"clang does not compile one\.c"):
        wheel_of(project)


@needs_clang
def test_an_sdist_has_the_sources_and_what_compiles_them(project):
    build_bpf.build(project / "l4lb" / "datapath" / "bpf")
    hatch(project, "--target", "sdist")
    (sdist,) = (project / "dist").iterdir()
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    sources = {f"l4lb/datapath/bpf/{name}" for name in ("one.c", "two.c", "verdict.h")}
    assert sources | set(TOOLS) <= packed
    assert not [name for name in packed if name.endswith(".o")]
