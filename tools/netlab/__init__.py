"""The lab: real hosts' worth of network namespaces with real servers in them.

Used by ``tools/lab`` and by the tests. Standard library only: it runs before ``tools/setup`` has.
"""

from __future__ import annotations


class LabError(Exception):
    """The lab could not do what was asked. The message is one line for people."""
