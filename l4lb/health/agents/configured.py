"""Asks an agent as the config says: which protocol, with which key. Edge: files, sockets."""

from __future__ import annotations

from pathlib import Path

from l4lb.agent.keys import BadKeyFile, read_keys
from l4lb.health.agents.ask import AgentSocket, Answer, NoAnswer
from l4lb.health.agents.ask_line import LineAnswer, ask_line
from l4lb.model import AgentCheck, Endpoint
from l4lb.os_errors import in_words


async def ask_agent(socket: AgentSocket, endpoint: Endpoint, how: AgentCheck) -> Answer | LineAnswer:
    """Ask an agent once, as the config says.

    The key file is looked at for every question, so that a key is changed by changing the file.

    Raises:
        NoAnswer: it does not answer, or wrongly.
        BadKeyFile: the key cannot be had.
        OSError: the question cannot be sent.
    """
    if how.protocol == "tcp":
        return await ask_line(endpoint, how.timeout)
    if how.key is None:
        raise BadKeyFile("no key is configured")
    return await socket.ask(endpoint, read_keys(Path(how.key))[0], how.timeout)


def why(error: BaseException) -> str:
    """Why there is no answer, in one line."""
    if isinstance(error, OSError):
        return in_words(error)
    return str(error) if isinstance(error, NoAnswer | BadKeyFile) else f"internal error: {error!r}"
