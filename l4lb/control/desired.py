"""What the operator wants: the config file, and on top of it what was asked for with ``--runtime``.

The config in force is kept as text too, so that every change, whether it goes to the file or not, is
made and checked in the same way: edit the text, parse the whole, and only then take it. Whatever
fails leaves the file and the config in force as they were.

A change to the file is made to what is in the file now. Somebody may have edited it by hand since it
was read: that is kept, and comes into force with the next reload as it would have anyway; what is saved
while a change is under way is met by ``FileChanged``, for the change to begin anew. What was done with
``--runtime`` ends with the next reload.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from l4lb import files
from l4lb.control.config.config import Config, ConfigError, parse, read
from l4lb.control.config.edits import Conflict, Edit, NotFound, insist
from l4lb.model import Endpoint
from l4lb.privileges import refusal


@dataclass(frozen=True, slots=True)
class Change:
    """A checked change that ``DesiredState.take`` makes true."""

    text: str  # in force from now on
    config: Config
    file_config: Config
    file_text: str | None = None  # what to write to the file; None: nothing
    file_before: str = ""  # the text that this is to replace


class FileChanged(ConfigError):
    """Somebody else has saved the file while it was being edited; nothing has changed."""


class DesiredState:
    """The config in force and the one in the file."""

    def __init__(self, path: Path) -> None:
        """Read the file at ``path``.

        Raises:
            ConfigError: it cannot be read or has errors.
        """
        self._path = path
        text = read(path)
        config = parse(text, path)
        self.at_start: Final = config.gateway
        """What it said when the daemon was started: some of it holds until the next start."""
        self.take(Change(text, config, config))

    @property
    def config(self) -> Config:
        """The config in force."""
        return self._state.config

    def in_file(self, service: str, address: Endpoint, weight: int) -> bool:
        """Whether the file, as last read or written, has this backend with this weight."""
        return (service, address, weight) in self._in_file

    def reread(self) -> Change:
        """The file as it is now, without any runtime change.

        Raises:
            ConfigError: it cannot be read or has errors.
        """
        text, config = self._file("what is in force stays, and can be changed with --runtime")
        return Change(text, config, config)

    def edited(self, edit: Edit, *, runtime: bool) -> Change:
        """The config in force with ``edit``; unless ``runtime``, the file with it as well.

        Raises:
            NotFound, Conflict: the edit makes no sense.
            ConfigError: the file cannot be read, or the result would have errors.
        """
        state = self._state
        if runtime:
            edit.check(state.config)
            text = edit.written(state.text)
            return Change(text, parse(text, self._path, in_file=False), state.file_config)
        before, known = self._file("mend the file, or repeat the command with --runtime")
        self._check_file(edit, known)
        file_text = edit.written(before)
        file_config = parse(file_text, self._path, in_file=False)
        if before == state.text:
            return Change(file_text, file_config, file_config, file_text, before)
        try:
            text = insist(edit, state.text, state.config)
        except NotFound as problem:
            advice = "reload first"
            if self._was_sensible(edit):
                advice = "it was removed with --runtime: add it again with --runtime, or reload"
            raise Conflict(f"in force, {problem}, though {self._path} has: {advice}") from None
        return Change(text, parse(text, self._path, in_file=False), file_config, file_text, before)

    def _file(self, advice: str) -> tuple[str, Config]:
        """The file as it is now; ``advice`` is what to do while it has errors."""
        try:
            text = self._read()
            return text, parse(text, self._path)
        except ConfigError as error:
            raise ConfigError([*error.errors, f"nothing was changed: {advice}"]) from None

    def _read(self) -> str:
        """The text of the file; an empty one, as it is for a moment when an editor writes it, is refused
        where it would end all services."""
        text = read(self._path)
        if not text.strip() and self.config.services:
            raise ConfigError(
                [f"{self._path}: empty, which would end all services: end them with 'l4lb service remove'"]
            )
        return text

    def _check_file(self, edit: Edit, file_config: Config) -> None:
        """Check an edit against the file; where it makes sense in force only, say so."""
        try:
            edit.check(file_config)
        except (NotFound, Conflict) as problem:
            edit.check(self.config)
            raise Conflict(f"in {self._path}, {problem}: {self._advice(edit, problem)}") from None

    def _advice(self, edit: Edit, problem: Exception) -> str:
        """What to do about an edit that makes sense in force only. To reload ends what is there by
        ``--runtime``, so only who has changed the file by hand is told to."""
        if self._was_sensible(edit):
            return "reload first, or repeat the command with --runtime"
        if isinstance(problem, Conflict):
            return "it was removed with --runtime only: repeat the command with --runtime"
        return "it is there by --runtime only: repeat the command with --runtime, or add it to the file"

    def _was_sensible(self, edit: Edit) -> bool:
        """Whether an edit makes sense for the file as last read or written."""
        try:
            edit.check(self._state.file_config)
        except (NotFound, Conflict):
            return False
        return True

    def take(self, change: Change) -> None:
        """Make a change true: write the file if it is to be written, then put it in force.

        Raises:
            FileChanged: the file has another text than the change began with.
            ConfigError: the file cannot be written; nothing has changed.
        """
        if change.file_text is not None:
            try:
                files.rewrite(self._path, change.file_before, change.file_text)
            except files.Changed:
                raise FileChanged(
                    [f"{self._path}: somebody else changed it at the same time: repeat the command"]
                ) from None
            except OSError as error:
                raise ConfigError(
                    [f"{self._path}: cannot write the config: {refusal(error)}; --runtime leaves it alone"]
                ) from None
        self._state = change
        self._in_file = {
            (service.name, backend.address, backend.weight)
            for service in change.file_config.services
            for backend in service.backends
        }
