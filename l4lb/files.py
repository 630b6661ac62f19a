"""Small files in which a part of l4lb keeps something for the one that comes after."""

from __future__ import annotations

import contextlib
from pathlib import Path


def keep(path: Path, text: str) -> None:
    """Have this in a file, all of it or what it had before; without text there is no file. Its directory is
    made.

    Raises:
        OSError: it cannot be written, or removed; it is as it was.
    """
    if not text:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(text)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise
