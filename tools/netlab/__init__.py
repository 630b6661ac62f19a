"""The lab: real hosts' worth of network namespaces with real servers in them.

Used by ``tools/lab``, the demonstration, the benchmark, the soak and the tests. Standard library only: the
lab runs before ``tools/setup`` has.
"""

from __future__ import annotations


class LabError(Exception):
    """The lab could not do what was asked. The message is one line for people."""
