"""The scapy layer and protocol.py know the same packets."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from l4lb.agent.layer import AgentPacket, bind
from l4lb.agent.protocol import answer, question
from l4lb.agent.report import LARGEST, Administrative, Figures, Operating, Report
from tests.unit.agent.packets import KEY, NONCE

figures = st.builds(
    Figures, **{name: st.none() | st.floats(0.0, largest, width=32) for name, largest in LARGEST.items()}
)


@given(st.binary(min_size=16, max_size=16))
def test_a_question(nonce: bytes):
    data = question(nonce, KEY)
    assert bytes(AgentPacket(nonce=nonce).sealed(KEY)) == data
    dissected = AgentPacket(data)
    assert (dissected.kind, dissected.nonce, dissected.mac) == (1, nonce, data[-16:])
    assert bytes(dissected) == data


@given(
    figures,
    st.sampled_from(Administrative),
    st.sampled_from(Operating),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
def test_an_answer(
    figures: Figures, administrative: Administrative, operating: Operating, uptime: int, sequence: int
):
    given_figures = {name: getattr(figures, name) for name in LARGEST}
    known = {name: value for name, value in given_figures.items() if value is not None}
    built = AgentPacket(
        kind="answer",
        nonce=NONCE,
        present="+".join(known),
        administrative=administrative.label,
        operating=operating.label,
        uptime=uptime,
        sequence=sequence,
        **known,
    ).sealed(KEY)
    data = answer(NONCE, Report(figures, administrative, operating, uptime=uptime, sequence=sequence), KEY)
    assert bytes(built) == data
    dissected = AgentPacket(data)
    assert {name: getattr(dissected, name) for name in known} == known
    assert str(dissected.present) == "+".join(known)
    assert bytes(dissected) == data


def test_scapy_finds_it_in_udp():
    bind(47700)
    frame = IP(bytes(IP(dst="192.0.2.1") / UDP(dport=47700) / AgentPacket(nonce=NONCE).sealed(KEY)))
    assert frame[AgentPacket].nonce == NONCE
    assert frame[AgentPacket].sprintf("%kind%") == "question"


@pytest.mark.parametrize("module", ["agent.answerer", "agent.protocol", "agent.report", "cli.main"])
def test_scapy_is_imported_only_when_used(module: str):
    code = f"import sys, l4lb.{module}; sys.exit('scapy' in sys.modules or 'psutil' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
