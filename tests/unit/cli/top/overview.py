"""Looks at a daemon: a service "web" of three backends and one "dns" of one."""

from __future__ import annotations

from typing import Any

from l4lb.cli.top.figures import Figures, Look, figures
from tests.unit.cli.answers import STATUS, backend, responses, service

WEB = ("10.2.0.11:80", "10.2.0.12:80", "10.2.0.13:80")
DNS = "[2001:db8::53]:53"


def overview(web: dict[str, dict[str, Any]] | None = None, **status: Any) -> dict[str, Any]:
    """What the daemon answers; ``web`` are changes of backends by address."""
    changes = web or {}
    return {
        "status": STATUS | status,
        "services": [
            service(*(backend(address, **changes.get(address, {})) for address in WEB)),
            service(
                backend(DNS, service="dns", state="down", reason="connection refused"),
                name="dns",
                address="10.1.0.100:53",
                protocol="udp",
            ),
        ],
    }


def look(at: float, web: dict[str, dict[str, Any]] | None = None, **status: Any) -> Look:
    """One look."""
    answer = overview(web, **status)
    return Look(at, answer["status"], answer["services"])


def two_looks() -> Figures:
    """Two seconds apart: 30 connections of web, two in three at the second backend; 8 answers."""
    grown = {
        WEB[0]: {"connections_total": 1010, "bytes_in": 6000, "outstanding": 0},
        WEB[1]: {
            "connections_total": 1020,
            "bytes_out": 62000,
            "outstanding": 9,
            "responses": responses(*[0.2] * 9, *[0.05] * 8),
        },
    }
    verdicts = STATUS["verdicts"] | {"forward": 2002, "reply": 3}
    drops = {"no_backend": 5 + 20, "ttl_exceeded": 6 + 4, "no_route": 2}
    return figures("gw", look(9.0, grown, verdicts=verdicts, drops=drops), look(7.0))
