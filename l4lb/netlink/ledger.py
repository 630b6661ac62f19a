"""Remembers in a file which addresses l4lb has added to the host.

So that after a kill -9 the next start knows its own from the administrator's. Runtime addresses do
not outlive a boot, and neither does what is written here about them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from l4lb.files import keep

_log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address was added.

    Attributes:
        interface, index: its interface, as it was called then. Only the index stays.
        settled: false if it was put there for want of a better one, which may come.
    """

    interface: str
    index: int
    settled: bool = True


class Ledger:
    """Addresses (4 or 16 bytes) and the place of each. What is noted is in the file after ``save``."""

    def __init__(self, path: Path) -> None:
        """Read the file. One that is missing, from before a reboot or unreadable counts as empty."""
        self._path = path
        self._boot = _BOOT_ID.read_text().strip()
        self._saved: dict[bytes, Place] = {}
        try:
            content = json.loads(path.read_text())
            if content["boot"] == self._boot:
                self._saved = {
                    ip_address(address).packed: _place(value)
                    for address, value in content["addresses"].items()
                }
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning(
                "%s cannot be read (%s): VIPs that a killed l4lb left behind are taken for the host's own",
                path,
                error.strerror if isinstance(error, OSError) else "it is damaged",
            )
        self._places = dict(self._saved)

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._places))

    def __contains__(self, ip: object) -> bool:
        return ip in self._places

    def place(self, ip: bytes) -> Place | None:
        """Where the address was added; None if it was not."""
        return self._places.get(ip)

    def interface(self, ip: bytes) -> str | None:
        """Its name alone."""
        place = self._places.get(ip)
        return place.interface if place is not None else None

    def record(self, ip: bytes, place: Place) -> None:
        """Note that an address is about to be added, or what is known of its place now."""
        self._places[ip] = place

    def forget(self, ip: bytes) -> None:
        """Note that an address is gone, or not ours."""
        self._places.pop(ip, None)

    def unsaved(self) -> list[bytes]:
        """The addresses of which something else is noted than the file says."""
        return sorted({ip for ip, _ in self._places.items() ^ self._saved.items()})

    def save(self) -> None:
        """Write down what has been noted; where that is nothing new, a full disk does not matter.

        Raises:
            OSError: the file cannot be written; what it says is noted again.
        """
        if self._places == self._saved:
            return
        addresses = {str(ip_address(ip)): asdict(place) for ip, place in self._places.items()}
        text = json.dumps({"boot": self._boot, "addresses": addresses}) + "\n"
        try:
            keep(self._path, text if addresses else "")
        except OSError:
            self._places = dict(self._saved)
            raise
        self._saved = dict(self._places)


def _place(value: Any) -> Place:
    if isinstance(value, str):  # of an l4lb that remembered the name alone; no interface has index 0
        return Place(value, 0)
    return Place(str(value["interface"]), int(value["index"]), bool(value["settled"]))
