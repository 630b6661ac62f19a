"""What sends each kind of probe. A new kind is a method here, or a line in ``send``.

One object for all of a process, because probes share their sockets.
"""

from __future__ import annotations

from l4lb.health.agents.ask import AgentSocket
from l4lb.health.probes import agent, http
from l4lb.health.probes.result import ProbeKind, ProbeResult
from l4lb.health.probes.syn import SynProbes
from l4lb.model import AgentCheck, Endpoint, HealthCheck


class Senders:
    """Sends probes of every kind."""

    def __init__(self) -> None:
        self._syn = SynProbes()
        self._agents = AgentSocket()

    @property
    def late(self) -> int:
        """Answers that came after their probe was given up, since the start. Of SYN probes only: what comes
        late on a connection meets a closed socket."""
        return self._syn.handshakes.late

    @property
    def forged(self) -> int:
        """Answers with a wrong acknowledgement number, since the start."""
        return self._syn.handshakes.forged

    @property
    def repeated(self) -> int:
        """Answers that came once more, since the start: where the host's firewall drops the RST that is to
        end a SYN probe, the backend goes on for a minute."""
        return self._syn.handshakes.repeated

    async def send(self, kind: ProbeKind, target: Endpoint, check: HealthCheck) -> ProbeResult:
        """Probe ``target`` once.

        Args:
            kind: what to ask.
            target: the address and port.
            check: its timeout in seconds; for HTTP path, host and good statuses.

        Raises:
            CannotProbe: this host does not let us.
        """
        match kind:
            case ProbeKind.SYN:
                return await self._syn.probe(target, check.timeout)
            case ProbeKind.HTTP:
                return await http.probe(target, check)
        raise ValueError(f"ask an agent: {kind.value} is no check")

    async def ask(self, target: Endpoint, how: AgentCheck) -> ProbeResult:
        """Ask the agent at ``target`` once.

        Raises:
            CannotProbe: its key cannot be read.
        """
        return await agent.probe(self._agents, target, how)

    def close(self) -> None:
        """Give up what is under way."""
        self._syn.close()
        self._agents.close()
