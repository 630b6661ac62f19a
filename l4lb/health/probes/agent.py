"""An agent probe: one question to the agent on a backend, by UDP or by HAProxy's line. Edge: sockets."""

from __future__ import annotations

from l4lb.agent.keys import BadKeyFile
from l4lb.agent.report import Report
from l4lb.health.agents.ask import AgentSocket, NoAnswer
from l4lb.health.agents.configured import ask_agent
from l4lb.health.probes.result import CannotProbe, Outcome, ProbeResult
from l4lb.model import AgentCheck, Endpoint
from l4lb.os_errors import in_words


async def probe(socket: AgentSocket, target: Endpoint, how: AgentCheck) -> ProbeResult:
    """Ask once.

    Args:
        socket: for questions by UDP.
        target: the agent's address and port.
        how: the protocol, the file with the key, the timeout.

    Raises:
        CannotProbe: the key cannot be read.
    """
    try:
        answer = await ask_agent(socket, target, how)
    except NoAnswer as error:
        outcome = Outcome.WRONG if error.wrong else Outcome.LOST
        return ProbeResult(outcome, packets=error.packets, reason=str(error))
    except BadKeyFile as error:
        raise CannotProbe(str(error)) from None
    except OSError as error:
        return ProbeResult(Outcome.UNSENT, reason=in_words(error))
    return ProbeResult(Outcome.ANSWERED, answer.rtt, answer.packets, said=said(answer.report))


def said(report: Report) -> str:
    """A report in one line."""
    figures = report.figures
    shares = (("cpu", figures.cpu), ("memory", figures.memory), ("queue", figures.queue))
    words = [f"{report.operating.label} {report.administrative.label}"]
    words += [f"{name} {share:.0%}" for name, share in shares if share is not None]
    if figures.load is not None:
        words.append(f"load {figures.load:.2f} a CPU")
    if figures.application is not None:
        words.append(f"application {figures.application:.0%}")
    if report.weight is not None:
        words.append(f"weight {report.weight:.0%}")
    return ", ".join(words) + (f" ({report.note})" if report.note else "")
