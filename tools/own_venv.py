"""The tools go on with the Python of .venv, which has the packages that they need."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def enter() -> None:
    """Start the tool anew with that Python, unless it runs already; exits with one line without one.

    PATH has the administrator's programs then: a plain ``su`` leaves root without their directories.
    """
    venv = Path(__file__).resolve().parent.parent / ".venv"
    if Path(sys.prefix).resolve() != venv.resolve():
        python = venv / "bin" / "python"
        if not python.exists():
            tool = Path(sys.argv[0]).name
            sys.exit(f"tools/{tool}: there is no .venv with the development packages: run tools/setup")
        os.execv(python, [str(python), *sys.argv])
    # Like netlab.tool: this file needs no other one, and the machines of the lab have netlab without it.
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
