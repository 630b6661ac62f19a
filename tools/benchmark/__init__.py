"""The benchmark: l4lb beside other balancers on the lab, and its parts on their own.

Used by ``tools/bench``; needs the development packages of ``.venv``.
"""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark could not go on. The message is one line for people."""
