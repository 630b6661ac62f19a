"""Remembers in a file which addresses l4lb has added to the host.

So that after a kill -9 the next start knows its own from the administrator's. Runtime addresses do
not outlive a boot, and neither does what is written here about them.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

_log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Ledger:
    """Addresses (4 or 16 bytes), and the name and the index of the interface each was added to.

    Every change is in the file before the method returns.
    """

    def __init__(self, path: Path) -> None:
        """Read the file. One that is missing, from before a reboot or unreadable counts as empty."""
        self._path = path
        self._boot = _BOOT_ID.read_text().strip()
        self._interfaces: dict[bytes, tuple[str, int]] = {}
        try:
            content = json.loads(path.read_text())
            if content["boot"] == self._boot:
                self._interfaces = {
                    ip_address(address).packed: (str(name), int(index))
                    for address, (name, index) in content["addresses"].items()
                }
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning(
                "%s cannot be read (%s): VIPs that a killed l4lb left behind are taken for the host's own",
                path,
                error.strerror if isinstance(error, OSError) else "it is damaged",
            )

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._interfaces))

    def __contains__(self, ip: object) -> bool:
        return ip in self._interfaces

    def interface(self, ip: bytes) -> str | None:
        """Where the address was added; None if it was not."""
        place = self._interfaces.get(ip)
        return place[0] if place is not None else None

    def index(self, ip: bytes) -> int | None:
        """The same interface, whatever it may be called by now."""
        place = self._interfaces.get(ip)
        return place[1] if place is not None else None

    def record(self, ip: bytes, interface: str, index: int) -> None:
        """Note that an address is about to be added, or what its interface is called now.

        Raises:
            OSError: the file cannot be written; nothing is noted.
        """
        place = interface, index
        if self._interfaces.get(ip) != place:  # so that a full disk does not matter to a restart
            self._write({**self._interfaces, ip: place})

    def forget(self, ip: bytes) -> None:
        """Note that an address is gone, or not ours.

        Raises:
            OSError: the file cannot be written; nothing is noted.
        """
        self._write({other: place for other, place in self._interfaces.items() if other != ip})

    def _write(self, interfaces: dict[bytes, tuple[str, int]]) -> None:
        if interfaces:
            addresses = {str(ip_address(ip)): place for ip, place in interfaces.items()}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_name(self._path.name + ".new")
            try:
                new.write_text(json.dumps({"boot": self._boot, "addresses": addresses}) + "\n")
                new.replace(self._path)
            except OSError:
                with contextlib.suppress(OSError):
                    new.unlink(missing_ok=True)
                raise
        else:
            self._path.unlink(missing_ok=True)
        self._interfaces = interfaces
