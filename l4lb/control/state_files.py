"""Where the daemon's parts keep what outlives it: beside the control socket ``NAME.sock``."""

from __future__ import annotations

from pathlib import Path


def state_prefix(socket_path: Path) -> Path:
    """``NAME``, to which each part adds a suffix of its own."""
    return socket_path.with_suffix("")


def vip_file(socket_path: Path) -> Path:
    """Which addresses l4lb added to the host."""
    return _with_suffix(socket_path, ".vips")


def drain_file(socket_path: Path) -> Path:
    """Which weights drained backends had."""
    return _with_suffix(socket_path, ".drains")


def down_file(socket_path: Path) -> Path:
    """Which backends were down."""
    return _with_suffix(socket_path, ".down")


def _with_suffix(socket_path: Path, suffix: str) -> Path:
    prefix = state_prefix(socket_path)
    return prefix.with_name(prefix.name + suffix)
