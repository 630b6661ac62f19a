"""The programs in the kernel: loaded, pinned, taken over from the daemon before, removed."""

from __future__ import annotations

import contextlib
import errno
import logging
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import l4lb.datapath
from l4lb.datapath.ebpf import clock, layout, pins
from l4lb.datapath.ebpf.hooks import Hooks, attached, detach, have_lost_all
from l4lb.datapath.libbpf import LibbpfError, Map, Object
from l4lb.model import Limits

log = logging.getLogger(__name__)

_OBJECTS: Final = Path(l4lb.datapath.__file__).with_name("bpf")


_INTERFACES: Final = 65_536
"""That the programs know something of; 1,024 are too few for a host of containers."""


def are_installed() -> bool:
    """Whether there was a clang to compile them when l4lb was built."""
    return any(_OBJECTS.glob("*.bpf.o"))


class Programs:
    """All objects of one datapath, with the maps that they share.

    Attributes:
        maps: by name; those of the datapath's programs.
        sweep, query: the objects of the daemon's own programs.
        hooks: where the datapath's programs are attached.
        adopted: a daemon before has left the maps.
        made_for: the limits that the maps have room for.
    """

    def __init__(self, kind: str, limits: Limits, namespace: Path) -> None:
        """Load and pin, or take over what is pinned. Attached is what a daemon before had attached.

        Args:
            kind: tc or xdp.
            limits: how large new maps are.
            namespace: the directory of our network namespace's pins.

        Raises:
            LibbpfError: the kernel or the host cannot do it. What was new of it is removed, and what was
                there goes on, of another layout too.
        """
        self._namespace = namespace
        self._directory = pins.version_directory(namespace)
        self._loaded = ExitStack()
        self._pinned: dict[str, Map] = {}
        self.adopted = (self._directory / "maps").is_dir()
        try:
            self._load_beside_others(kind, limits)
        except BaseException:
            self._loaded.close()
            if not self.adopted:
                if self._directory.is_dir():
                    _remove_version(self._directory)
                pins.remove_if_empty(namespace)
                pins.remove_if_empty(namespace.parent)
            raise
        remove_versions(namespace, keep=self._directory)

    def _load_beside_others(self, kind: str, limits: Limits) -> None:
        """What another layout has left balances meanwhile, unless there is no memory for both."""
        try:
            self._load(kind, limits)
        except LibbpfError as error:
            if error.errno != errno.ENOMEM or not remove_versions(self._namespace, keep=self._directory):
                raise
            self._loaded.close()
            self._load(kind, limits)

    def _load(self, kind: str, limits: Limits) -> None:
        maps, links = self._make_directories()
        sizes = _sizes(limits, maps)
        self.made_for = Limits(
            half_open=sizes["half_open4"],
            established=sizes["connections4"],
            affinity=sizes["affinities4"],
            fragments=sizes["fragments"],
        )
        if not are_installed():
            raise LibbpfError(
                "l4lb was installed without its eBPF programs: there was no clang to compile them"
            )
        self._clock = clock.constants(_OBJECTS)
        tc = self._object("tc", maps, sizes)
        xdp = self._object("xdp", maps, sizes) if kind == "xdp" else None
        self.sweep = self._object("sweep", maps, sizes)
        self.query = self._object("query", maps, sizes)
        self.maps: Mapping[str, Map] = tc.maps
        self.hooks = Hooks(links, tc.programs["l4lb_tc"], xdp.programs["l4lb_xdp"] if xdp else None)
        self.hooks.take_over()

    def _object(self, name: str, maps: Path, sizes: Mapping[str, int]) -> Object:
        path = _OBJECTS / f"{name}.bpf.o"
        opened = Object.open(path, rodata=self._clock, pins=maps, max_entries=sizes)
        self._loaded.callback(opened.close)
        opened.load()
        self._pinned.update(opened.maps)
        return opened

    def _make_directories(self) -> tuple[Path, Path]:
        """For maps and for links; made if they are not there."""
        maps, links = self._directory / "maps", self._directory / "links"
        for directory in (maps, links):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return maps, links

    def pin_again(self) -> bool:
        """Pin the maps whose pins somebody has removed; False if there are none.

        Raises:
            LibbpfError, OSError: they cannot be pinned.
        """
        maps, _ = self._make_directories()
        removed = {name: each for name, each in self._pinned.items() if not (maps / name).exists()}
        for name, each in removed.items():
            each.pin(maps / name)
        return bool(removed)

    @property
    def directory(self) -> Path:
        """Where all is pinned."""
        return self._directory

    def close(self) -> None:
        """Let go. What is pinned goes on: programs take packets, maps remember."""
        self._loaded.close()

    def remove(self) -> None:
        """Detach, unpin and let go of everything."""
        self._loaded.close()
        remove(self._namespace)


def _sizes(limits: Limits, maps: Path) -> dict[str, int]:
    """Entries of the maps: as they are if they are there, or else as the limits say."""
    sizes = {}
    for names, entries in (
        (("connections", "reverse"), limits.established),
        (("half_open", "half_open_reverse", "direct", "newcomers"), limits.half_open),
        (("affinities",), limits.affinity),
    ):
        sizes.update({f"{name}{version}": entries for name in names for version in (4, 6)})
    sizes["fragments"] = limits.fragments
    sizes["interfaces"] = _INTERFACES
    for name in sizes:
        if (maps / name).exists():
            found = Map.from_pin(maps / name)
            found.close()
            sizes[name] = found.max_entries
    sizes["blocks"] = -(-sizes["connections4"] // layout.BLOCK_PAIRS)
    return sizes


def remove(namespace: Path) -> bool:
    """Detach and unpin everything of a network namespace; False if there was nothing."""
    there = namespace.is_dir()
    remove_versions(namespace, keep=None)
    if there:
        namespace.rmdir()
        pins.remove_if_empty(namespace.parent)
    return there


def remove_abandoned(namespaces: Path, ours: Path) -> list[Path]:
    """Unpin what was left in network namespaces that are gone, with all their interfaces.

    Args:
        namespaces: the directory with those of all namespaces.
        ours: of them the one that we are in, though its interfaces may have been made anew.

    Returns:
        What was removed.
    """
    removed = []
    for namespace in namespaces.iterdir():
        if namespace == ours:
            continue
        # Another daemon may be doing the same.
        with contextlib.suppress(OSError, LibbpfError):
            layouts = list(namespace.iterdir())
            if layouts and all(have_lost_all(layout / "links") for layout in layouts):
                remove(namespace)
                removed.append(namespace)
    return removed


def remove_versions(namespace: Path, keep: Path | None) -> bool:
    """Detach and unpin what other versions of l4lb have left, whose maps we do not understand; False if
    there was nothing."""
    others = [each for each in namespace.iterdir() if each != keep] if namespace.is_dir() else []
    for directory in others:
        if keep is not None:
            log.warning(
                "the daemon before kept its connections in another layout (%s, not %s): starting anew, "
                "and they are lost",
                directory.name,
                keep.name,
            )
        _remove_version(directory)
    return bool(others)


def _remove_version(directory: Path) -> None:
    for hook, index in attached(directory / "links"):
        detach(directory / "links", hook, index)
    shutil.rmtree(directory)
