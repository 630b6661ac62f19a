"""Installed files, and a record of them: what somebody has changed is neither overwritten nor removed.

The record has the SHA-256 of every file as it was written, by unit and path.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from l4lb.files import replacing
from l4lb.service.units import File

RECORD: Final = PurePosixPath("/var/lib/l4lb/installed.json")


class Changed(Exception):
    """A file is not as it was installed. The message is one line for people."""


class Installation:
    """The files of one unit under a root directory, ``/`` or that of an image.

    Its methods tell what they did, one line for each file, and raise OSError where they may not.
    """

    def __init__(self, unit: str, root: Path = Path("/")) -> None:
        self._unit = unit
        self._root = root

    def install(self, files: Iterable[File], *, force: bool) -> list[str]:
        """Write the files that are missing or out of date.

        Raises:
            Changed: one was changed since it was installed, and ``force`` does not say to overwrite it;
                nothing was written.
        """
        files = tuple(files)
        record = self._read()
        for file in files:
            if not (force or file.theirs or self._may_replace(file, record)):
                raise Changed(
                    f"{file.path} is not as it was installed: --force overwrites it, and 'systemctl edit "
                    f"{self._unit.removesuffix('.service')}' keeps changes apart from it"
                )
        lines = []
        for file in files:
            there = self._digest(file.path)
            wanted = _digest(file.text.encode())
            if there == wanted:
                lines.append(f"{file.path} is there already")
            elif file.theirs and not self._may_replace(file, record):
                lines.append(f"{file.path} stays as it is")
                continue
            else:
                self._write(file.path, file.text)
                lines.append(f"{file.path} {'installed' if there is None else 'brought up to date'}")
            record[str(file.path)] = wanted
        self._save(record)
        return lines

    def remove(self) -> list[str]:
        """Remove what was installed and is as it was; directories only if nothing else is in them."""
        lines = []
        for name, digest in self._read().items():
            path = PurePosixPath(name)
            there = self._digest(path)
            if there is None:
                lines.append(f"{path} is gone already")
            elif there != digest:
                lines.append(f"{path} stays: it was changed")
            else:
                self._at(path).unlink()
                lines.append(f"{path} removed")
            self._remove_if_empty(path.parent)
        self._save({})
        return lines

    @property
    def is_recorded(self) -> bool:
        """Whether something was installed and not removed since."""
        return bool(self._read())

    def has(self, path: PurePosixPath) -> bool:
        """Whether there is such a file."""
        return self._at(path).exists()

    def _may_replace(self, file: File, record: dict[str, str]) -> bool:
        there = self._digest(file.path)
        return there in (None, _digest(file.text.encode()), record.get(str(file.path)))

    def _at(self, path: PurePosixPath) -> Path:
        return self._root / path.relative_to("/")

    def _digest(self, path: PurePosixPath) -> str | None:
        """None if there is nothing; a link that leads nowhere is something, and like no file."""
        try:
            return _digest(self._at(path).read_bytes())
        except FileNotFoundError:
            return "" if os.path.lexists(self._at(path)) else None

    def _write(self, path: PurePosixPath, text: str) -> None:
        """Whole or not at all."""
        target = self._at(path)
        try:
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with replacing(target, 0o644) as file:
                file.write(text.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(target)) from None  # not of the other name

    def _remove_if_empty(self, directory: PurePosixPath) -> None:
        """Only l4lb's own."""
        if directory.name == "l4lb":
            with contextlib.suppress(OSError):
                self._at(directory).rmdir()

    def _read_all(self) -> dict[str, dict[str, str]]:
        try:
            everything: dict[str, dict[str, str]] = json.loads(self._at(RECORD).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return everything

    def _read(self) -> dict[str, str]:
        return self._read_all().get(self._unit, {})

    def _save(self, record: dict[str, str]) -> None:
        everything = self._read_all()
        everything.pop(self._unit, None)
        if record:
            everything[self._unit] = record
        if everything:
            self._write(RECORD, json.dumps(everything, indent=2) + "\n")
        else:
            self._at(RECORD).unlink(missing_ok=True)
            self._remove_if_empty(RECORD.parent)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
