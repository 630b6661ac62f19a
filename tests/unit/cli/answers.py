"""What a daemon answers."""

from __future__ import annotations

from typing import Any

from l4lb.control.api.report import times_report
from l4lb.times import Stopwatch


def responses(*seconds: float) -> dict[str, Any]:
    """The times that answers took, as the daemon reports them."""
    watch = Stopwatch()
    for each in seconds:
        watch.took(each)
    return times_report(watch.read())


def backend(address: str = "10.2.0.11:80", **changes: Any) -> dict[str, Any]:
    """A backend as the daemon reports it."""
    return {
        "service": "web",
        "address": address,
        "weight": 1,
        "state": "up",
        "reason": "since 2026-01-02 03:04:05",
        "since": 3723.0,
        "counted": True,
        "connections_total": 1000,
        "half_open": 1,
        "established": 12,
        "outstanding": 3,
        "responses": responses(*[0.2] * 9),
        "packets_in": 10,
        "packets_out": 20,
        "bytes_in": 5000,
        "bytes_out": 60000,
        "check": {"age": 1.5, "latency": 0.0004},
        "agent": None,
        "probe": None,
        "source": "file",
    } | changes


def agent(state: str = "ok", **changes: Any) -> dict[str, Any]:
    """What the daemon reports of a backend's agent."""
    return {
        "state": state,
        "reason": "",
        "age": 0.7,
        "rtt": 0.0003,
        "cpu": 0.4217,
        "memory": 0.08,
        "load": 1.2,
        "queue": 0.0,
        "application": None,
        "weight": None,
    } | changes


def service(*backends: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A service as the daemon reports it."""
    return {
        "name": "web",
        "address": "10.1.0.100:80",
        "protocol": "tcp",
        "scheduler": "maglev",
        "nat": "destination",
        "affinity": "none",
        "affinity_timeout": 300.0,
        "when_all_down": "refuse",
        "when_backend_down": "reset",
        "health": {
            "check": "http",
            "interval": 2.0,
            "timeout": 1.0,
            "rise": 2,
            "fall": 3,
            "port": 8080,
            "path": "/health",
            "host": "www.example.org",
            "status": ["200-299", "304"],
        },
        "agent": None,
        "backends": list(backends),
    } | changes


STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "pid": 4711,
    "uptime": 93784.5,
    "config": "/etc/l4lb/l4lb.toml",
    "socket": "/run/l4lb/l4lb.sock",
    "datapath": {
        "name": "raw",
        "running": True,
        "capabilities": {"name": "raw", "survives_daemon": False, "restores_connections": True},
        "details": {"interfaces": "eth0, eth1"},
    },
    "connections": {"half_open": 3, "established": 1200},
    "verdicts": {"pass": 1, "forward": 2, "reply": 3, "drop": 4},
    "drops": {"no_backend": 5, "ttl_exceeded": 6},
    "probes": {
        "sent": 20,
        "answered": 17,
        "refused": 0,
        "wrong": 0,
        "lost": 3,
        "unsent": 0,
        "late": 1,
        "forged": 0,
        "withheld": 40,
        "packets": 56,
        "forwarded_packets": 100_000,
        "part": 0.00056,
        "agents": {"asked": 9, "answered": 8, "withheld": 1, "packets": 17},
        "limits": {"enabled": True, "share": 0.001, "floor": 1.0, "ceiling": 1000.0, "burst": 24.0},
    },
    "checks": {"made": 50, "packets": 200},
    "agents": {"refused": {"unauthenticated": 3, "late": 1}},
    "services": 2,
    "vips": [
        {"address": "10.1.0.100", "interface": "eth0", "ours": True},
        {"address": "2001:db8::100", "interface": "eth0", "ours": False},
        {"address": "10.1.0.101", "interface": None, "ours": False},
    ],
    "warnings": ["IPv6 forwarding is off"],
}
