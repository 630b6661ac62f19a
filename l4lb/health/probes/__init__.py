"""Probes ask one backend one question and time the answer. What a kind shows and costs is in ``result``,
the packets are in ``segments``, which answer belongs to which probe is in ``handshakes``: all pure. The
sockets are in ``syn`` and ``http``.

A *health check* decides whether a backend is up, at the interval its config says. A *probe* measures:
it is made only where traffic has not shown how a backend is, and within the budget of the gateway.
"""
