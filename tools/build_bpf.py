"""Compiles l4lb/datapath/bpf/*.c into objects beside them, those that are out of date.

A command, `python tools/build_bpf.py`, and a part of the build hook, which has the objects in the wheel.
Without clang nothing is compiled and nothing fails: l4lb then runs its raw datapath.
"""

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "l4lb" / "datapath" / "bpf"

# Version 3 of the instructions: 32-bit jumps and arithmetic; Linux 5.1 and later have it.
FLAGS = ("-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Wextra")


class CannotCompileError(Exception):
    """There is no clang here, or not all that it needs: in one line what to install."""


class SourceError(Exception):
    """clang does not take a source; what it says has been printed."""


def object_of(source: Path) -> Path:
    """The object that a source is compiled into."""
    return source.with_suffix(".bpf.o")


def out_of_date(folder: Path = FOLDER) -> list[Path]:
    """The sources whose object is missing, or older than they, than any header or than this file."""
    shared = max(path.stat().st_mtime_ns for path in (Path(__file__), *folder.glob("*.h")))

    def is_old(source: Path) -> bool:
        made = object_of(source)
        return not made.exists() or made.stat().st_mtime_ns <= max(shared, source.stat().st_mtime_ns)

    return [source for source in sorted(folder.glob("*.c")) if is_old(source)]


def compile_object(source: Path, target: Path, *, strict: bool = False, clang: str = "clang") -> None:
    """Compiles one source. `target` is replaced at once, so a program that reads it meets no half of it.

    With `strict` a warning is an error, as in the tests; not where someone installs l4lb, whose clang may
    know warnings that ours does not.

    Raises CannotCompileError or SourceError.
    """
    command = _command(clang)
    begun = time.time_ns()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build_bpf-") as made:
        new = (Path(made) / target.name).resolve()
        folder = source.parent.resolve()
        # No path of this machine in what BTF and DWARF say of the lines.
        flags = (f"-ffile-prefix-map={folder}=.", *(["-Werror"] if strict else []))
        done = subprocess.run([*command, *flags, "-c", source.name, "-o", new], cwd=folder, check=False)
        if done.returncode != 0:
            raise SourceError(f"clang does not compile {source}")
        if strip := shutil.which("llvm-strip"):
            subprocess.run([strip, "--strip-debug", new], check=False)  # DWARF; BTF stays
        os.utime(new, ns=(begun, begun))  # a source edited meanwhile is newer
        new.replace(target)


def build(folder: Path = FOLDER) -> list[Path]:
    """Compiles what is out of date. Returns the objects that it has made.

    Raises CannotCompileError, with objects that are out of date deleted: they may not fit the Python
    beside them. Raises SourceError when all have been tried; those refused have no object then.
    """
    sources = out_of_date(folder)
    refused = []
    for source in sources:
        try:
            compile_object(source, object_of(source))
        except SourceError:
            object_of(source).unlink(missing_ok=True)
            refused.append(source.name)
        except CannotCompileError:
            for each in sources:
                object_of(each).unlink(missing_ok=True)
            raise
    if refused:
        raise SourceError(f"clang does not compile {', '.join(refused)}")
    return [object_of(source) for source in sources]


@functools.cache
def _command(clang: str) -> tuple[str, ...]:
    """clang with its flags, after trying that it finds the headers."""
    program = shutil.which(clang)
    if program is None:
        raise CannotCompileError(f"{clang} is not installed")
    command = [program, *FLAGS]
    # Debian keeps <asm/*.h> where only the compiler for its own machine looks.
    if machine := sysconfig.get_config_var("MULTIARCH"):
        command.append(f"-I/usr/include/{machine}")
    headers = ("-include", "linux/bpf.h", "-include", "bpf/bpf_helpers.h", "-x", "c", os.devnull)
    done = subprocess.run(
        [*command, "-fsyntax-only", *headers], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        complaint = next((line for line in done.stderr.splitlines() if "error:" in line), "clang fails")
        raise CannotCompileError(f"libbpf-dev or linux-libc-dev is not installed ({complaint})")
    return tuple(command)


def raw_only(error: CannotCompileError) -> str:
    """The line for someone who builds without clang."""
    return f"no eBPF datapaths, l4lb will run `raw` only: {error}"


def main(folder: Path = FOLDER) -> int:
    """The command."""
    try:
        made = build(folder)
    except CannotCompileError as error:
        print(f"build_bpf: {raw_only(error)}", file=sys.stderr)
    except SourceError as error:
        print(f"build_bpf: {error}", file=sys.stderr)
        return 1
    else:
        if made:
            print(f"build_bpf: compiled {', '.join(path.name for path in made)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
