"""Whether the code on the disk is still the code that runs: an upgrade in place changes the one only.

What is read from there later - the packet process, programs for the kernel, modules that are imported where
they are used - would be of another l4lb than the daemon that uses it. Edge: files.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import l4lb

_SUFFIXES: Final = (".py", ".o")


class InstalledCode:
    """The files of a package, as they were when the process began."""

    def __init__(self, package: Path = Path(l4lb.__file__).parent) -> None:
        self._package = package
        self._began_with = self._digest()

    def has_changed(self) -> bool:
        """Also while an upgrade is under way. By what is in the files, and not by a version: that stays the
        same where l4lb is installed from a checkout."""
        return self._digest() != self._began_with

    def _digest(self) -> bytes:
        """Of names and contents, some 20 ms; of a file that cannot be read, of its name."""
        digest = hashlib.sha256()
        for path in sorted(each for each in self._package.rglob("*") if each.suffix in _SUFFIXES):
            try:
                content = path.read_bytes()
            except OSError:
                content = b""
            digest.update(f"{path.relative_to(self._package)} {len(content)}\n".encode() + content)
        return digest.digest()
