"""What the host hands over to the virtual machines, one archive: the lab's own programs and topology,
l4lb's wheel and those it needs, packages of Debian if there are, and the key of the agents."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from netlab import LabError, gateway
from netlab.topology import FILE, load

ROOT: Final = FILE.parent.parent
ARCHIVE: Final = "lab.tar"
KEPT: Final = ROOT / ".vagrant" / "l4lb"
_PYTHON: Final = ROOT / ".venv" / "bin" / "python"


def pack(target: Path, requirements: tuple[str, ...] = (), kept: Path = KEPT) -> list[str]:
    """Write ``target``/lab.tar.

    The wheels are for the Python and processor of this host; a machine with others takes what is missing
    from a package index. What was collected before is used again.

    Args:
        target: a directory; made if it is not there.
        requirements: more Python packages to collect.
        kept: a directory for what is collected, and for the key, which is the same whenever a machine comes
            up; nobody else must be able to write there.

    Returns:
        Warnings, for people.

    Raises:
        LabError: the topology is wrong, or there is no wheel.
    """
    load()
    target.mkdir(parents=True, exist_ok=True)
    wheels = kept / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    built = _build(wheels)
    complaint = _wheel("--find-links", str(wheels), "--wheel-dir", str(wheels), *built, *requirements)
    debs = os.environ.get("L4LB_DEBS")
    if debs and not list(Path(debs).glob("*.deb")):
        raise LabError(f"L4LB_DEBS: there are no packages in {debs}")
    key = kept / gateway.KEY
    if not key.exists():
        gateway.write_key(key)
    _archive(target / ARCHIVE, key, wheels, debs)
    if complaint:
        return [f"not all Python packages were collected, the machines need internet: {complaint}"]
    return []


def _build(wheels: Path) -> list[str]:
    """Put l4lb's wheel among the others, in the place of the one before; its path.

    Raises:
        LabError: it cannot be built.
    """
    if not _PYTHON.exists():
        raise LabError("there is no .venv to build l4lb's wheel with: run tools/setup")
    with tempfile.TemporaryDirectory() as fresh:
        if complaint := _wheel(str(ROOT), "--no-deps", "--wheel-dir", fresh):
            raise LabError(f"l4lb's wheel cannot be built: {complaint}")
        for old in wheels.glob("l4lb-*.whl"):
            old.unlink()
        return [str(shutil.copy(path, wheels)) for path in Path(fresh).iterdir()]


def _archive(target: Path, key: Path, wheels: Path, debs: str | None) -> None:
    """Write all of it, whole or not at all."""
    new = target.with_name(f".{target.name}.new")
    with tarfile.open(new, "w") as tar:
        new.chmod(0o600)  # for the key
        for path in sorted(FILE.parent.glob("netlab/*.py")):
            tar.add(path, f"tools/netlab/{path.name}")
        tar.add(FILE, f"tools/{FILE.name}")
        tar.add(key, gateway.KEY)
        tar.add(wheels, "wheels")
        if debs:
            tar.add(debs, "debs")
    new.replace(target)


def _wheel(*argv: str) -> str:
    """Run ``pip wheel``; what it complained of, empty if it did not."""
    done = subprocess.run(
        [_PYTHON, "-m", "pip", "wheel", "--quiet", "--no-input", "--disable-pip-version-check",
         "--no-build-isolation", *argv],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [
        done.stderr.strip()
    ]
    return lines[-1].removeprefix("ERROR: ") or f"pip: exit status {done.returncode}"
