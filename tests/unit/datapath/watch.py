"""The kernel's configuration for tests of datapaths: whatever a test says."""

import threading

from l4lb.netlink.state import KernelState


class Watch:
    """The kernel's configuration, which only the loop's thread may ask for."""

    def __init__(self, **state):
        self._loop = threading.get_ident()
        self._state = KernelState(**state)
        self.subscribers = set()

    @property
    def state(self):
        assert threading.get_ident() == self._loop
        return self._state

    def subscribe(self, subscriber):
        self.subscribers.add(subscriber)
        return lambda: self.subscribers.discard(subscriber)

    def change(self, change, **state):
        """The kernel's configuration is another one, and who subscribed is told."""
        self._state = KernelState(**state)
        for subscriber in self.subscribers:
            subscriber(change)
