"""Whether the code on the disk is still the code that runs: an upgrade in place changes the one only.

What is read from there later - the packet process, programs for the kernel, modules that are imported where
they are used - would be of another l4lb than the daemon that uses it. Edge: files.
"""

from __future__ import annotations

import hashlib
import os
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
        """Of names and contents, some 20 ms. What goes while it is looked at is as if it were not there."""
        digest = hashlib.sha256()
        for directory, subdirectories, names in os.walk(self._package):
            subdirectories.sort()
            for path in sorted(Path(directory, name) for name in names):
                if path.suffix in _SUFFIXES:
                    content = _content(path)
                    digest.update(f"{path.relative_to(self._package)} {len(content)}\n".encode() + content)
        return digest.digest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
