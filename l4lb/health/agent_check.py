"""The check that asks a backend's agent. Edge: sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from l4lb.agent.keys import BadKeyFile
from l4lb.agent.protocol import Refusal
from l4lb.agent.report import Administrative, Operating, Report
from l4lb.health.agents.ask import AgentSocket, NoAnswer
from l4lb.health.agents.configured import ask_agent, why
from l4lb.health.exchange import GATEWAY_FAULTS
from l4lb.health.rise_fall import Outcome, Result
from l4lb.model import AgentCheck, Endpoint, HealthCheck


async def check_agent(
    target: Endpoint, check: HealthCheck, agent: AgentCheck, refused: Counter[Refusal] | None = None
) -> Result:
    """Ask once, in at most ``check.timeout`` seconds.

    Passes if the agent answers, authentically where there is a key, and does not say that the backend is
    down, has failed, is stopped or in maintenance. A line by TCP counts by itself: one that only has a
    weight passes. With a key that cannot be read nothing is known of the backend.

    Args:
        target: the agent's address and port.
        check: for its timeout.
        agent: how to ask; its own interval and timeout are not looked at.
        refused: counts packets that are no answer.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    socket = AgentSocket(refused)  # of its own: what belongs to a check ends with it
    try:
        answer = await ask_agent(socket, target, replace(agent, timeout=check.timeout))
    except NoAnswer as error:
        return Result(Outcome.FAILED, f"agent: {error}", packets=error.packets)
    except BadKeyFile as error:
        return Result(Outcome.UNDECIDED, f"the gateway cannot check: {error}")
    except OSError as error:
        if error.errno in GATEWAY_FAULTS:
            return Result(Outcome.UNDECIDED, f"the gateway cannot check: {why(error)}")
        return Result(Outcome.FAILED, f"agent: {why(error)}")
    finally:
        socket.close()
    if (against := objection(answer.report)) is not None:
        return Result(Outcome.FAILED, f"agent: {against}", packets=answer.packets)
    return Result(Outcome.PASSED, latency=loop.time() - started, packets=answer.packets)


def objection(report: Report) -> str | None:
    """Why a backend that says this should not be used; None if nothing is against it."""
    if report.operating is not Operating.UP:
        return f"{report.operating.label}: {report.note}" if report.note else report.operating.label
    return Administrative.MAINT.label if report.administrative is Administrative.MAINT else None
