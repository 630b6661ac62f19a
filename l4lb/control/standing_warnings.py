"""Warnings that stand for a while: logged once when they come up and once when they are over."""

from __future__ import annotations

import logging
from collections.abc import Iterable

log = logging.getLogger(__name__)


class StandingWarnings:
    """What ``l4lb status`` warns of now."""

    def __init__(self) -> None:
        self._lines: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """The warnings that stand, one line each."""
        return self._lines

    def replace(self, lines: Iterable[str]) -> None:
        """These and no others stand from now on."""
        before, self._lines = self._lines, tuple(dict.fromkeys(lines))
        for line in self._lines:
            if line not in before:
                log.warning("%s", line)
        for line in before:
            if line not in self._lines:
                log.info("no longer: %s", line)
