"""SYN probes: half a handshake with each of thousands of backends, from one socket. Edge: raw sockets.

The SYN is ours, the rest is the kernel's. Our ports are held by TCP sockets that are bound but neither
listen nor connect: nobody else gets them, and no answer finds a connection there. So the kernel does what
RFC 9293 3.10.7.1 asks for and answers the backend's SYN/ACK with a RST. It is the one RST of the probe and
ends the half-open connection at once, also after a late or repeated SYN/ACK; one of our own would be a
fourth packet for nothing. A firewall that drops RSTs on their way out (as guides to scapy advise) leaves
backends with half-open connections until they time out.

A raw socket sees what the host's firewall lets in, as the health checks do. It gets a copy: a backend
that is asked by a connection of the kernel's at the same time is not disturbed.

Needs CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import ipaddress
import secrets
import socket
from dataclasses import dataclass
from struct import Struct
from types import ModuleType
from typing import Final

from l4lb.health import kernel_time
from l4lb.health.probes.handshakes import Flow, Handshakes, Verdict
from l4lb.health.probes.result import CannotProbe, Outcome, ProbeResult
from l4lb.health.probes.segments import port_filter, segment, sent_sequence, syn
from l4lb.model import Endpoint
from l4lb.os_errors import in_words

_PORTS: Final = 8
"""Ports to take turns with: a backend meets the same one again after as many probes, when nothing on
the way can still take the new SYN for one of the connection before."""

_RECEIVE_BUFFER: Final = 4 << 20  # bytes: the answers of some thousand backends at once
_SO_ATTACH_FILTER: Final = 26
_SO_RCVBUFFORCE: Final = 33
_IPV6_HDRINCL: Final = 36
_FILTER_PROGRAM: Final = Struct("@HP")  # struct sock_fprog
_FILTER_INSTRUCTION: Final = 8  # bytes
_AT_ONCE: Final = 256  # packets that are read before something else gets its turn
_PACKET_SIZE: Final = 256  # bytes: headers are all that is read
_TEMPLATE: Final = "l4lb.health.probes.syn_template"

_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY: Final = {4: "0.0.0.0", 6: "::"}


class SynProbes:
    """Sends SYN probes: one raw socket for each IP version, opened when it is first needed."""

    def __init__(self) -> None:
        self.handshakes = Handshakes()
        self._channels: dict[int, _Channel] = {}
        self._imported: asyncio.Task[ModuleType] | None = None

    async def probe(self, target: Endpoint, timeout: float) -> ProbeResult:
        """Ask a backend's kernel, and wait for its answer for at most ``timeout`` seconds.

        Raises:
            CannotProbe: no permission for raw sockets, or no port is free.
        """
        if self._imported is None:
            # It imports scapy. In a thread: that takes a quarter of a second, for which the event loop
            # would stand still, here or where another probe waits for the same import.
            self._imported = asyncio.create_task(asyncio.to_thread(importlib.import_module, _TEMPLATE))
        await asyncio.shield(self._imported)
        channel = self._channels.get(target.version)
        if channel is None:
            channel = self._channels[target.version] = _Channel(target.version, self.handshakes)
        return await channel.probe(target, timeout)

    def close(self) -> None:
        """Give up what is under way."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()


@dataclass(slots=True)
class _Question:
    """A probe under way."""

    answer: asyncio.Future[ProbeResult]
    began: kernel_time.Moment  # just before it was sent
    sent: int | None = None  # when by the kernel, where it tells: nanoseconds of the wall clock


class _Channel:
    """The raw socket and the ports of one IP version."""

    def __init__(self, version: int, handshakes: Handshakes) -> None:
        self._handshakes = handshakes
        self._questions: dict[int, _Question] = {}  # by sequence number
        self._turn = 0
        with contextlib.ExitStack() as opened:
            self._socket = opened.enter_context(_raw_socket(version))
            try:
                held = [opened.enter_context(_hold_port(version)) for _ in range(_PORTS)]
            except OSError as error:
                raise CannotProbe(f"no port of its own for SYN probes: {in_words(error)}") from None
            self._ports = [int(sock.getsockname()[1]) for sock in held]
            _attach(self._socket, port_filter(version, self._ports))
            self._opened = opened.pop_all()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    async def probe(self, target: Endpoint, timeout: float) -> ProbeResult:
        flow = self._free_flow(target)
        if flow is None:
            return ProbeResult(Outcome.UNSENT, reason=f"{_PORTS} probes of it are under way")
        sequence = secrets.randbits(32)
        try:
            packet = syn(_source_towards(target), target, flow.port, sequence)
            question = _Question(self._loop.create_future(), kernel_time.moment())
            self._questions[sequence] = question
            self._handshakes.begin(flow, sequence, question.began.monotonic / 1e9)
            self._socket.sendto(packet, (target.host, 0))
            # Not asyncio.timeout: it may throw away an answer that has come in the same turn of the loop.
            await asyncio.wait((question.answer,), timeout=timeout)
            if question.answer.done():
                return question.answer.result()
            return ProbeResult(Outcome.LOST, packets=1, reason=f"no answer within {timeout:g} s")
        except OSError as error:
            return ProbeResult(Outcome.UNSENT, reason=in_words(error))
        finally:
            self._handshakes.give_up(flow)
            self._questions.pop(sequence, None)

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._opened.close()
        for question in self._questions.values():
            question.answer.cancel()

    def _free_flow(self, target: Endpoint) -> Flow | None:
        for _ in range(_PORTS):
            self._turn = (self._turn + 1) % _PORTS
            flow = Flow(target, self._ports[self._turn])
            if not self._handshakes.waits(flow):
                return flow
        return None

    def _read(self) -> None:
        """Take what has come. The send times first: an answer can be as quick as they are."""
        for flags in (socket.MSG_ERRQUEUE, 0):
            for _ in range(_AT_ONCE):
                if not self._read_one(flags):
                    break

    def _read_one(self, flags: int) -> bool:
        try:
            data, ancillary, _, sender = self._socket.recvmsg(
                _PACKET_SIZE, kernel_time.ANCILLARY_SIZE, flags
            )
        except OSError:  # nothing more, or an error of a packet sent before, which is taken off by this
            return False
        stamp = kernel_time.stamp(ancillary)
        if flags & socket.MSG_ERRQUEUE:
            self._sent(data, stamp)
        else:
            self._received(data, ipaddress.ip_address(sender[0].split("%")[0]).packed, stamp)
        return True

    def _sent(self, frame: bytes, stamp: int | None) -> None:
        sequence = sent_sequence(frame)
        if stamp is not None and sequence in self._questions:
            self._questions[sequence].sent = stamp

    def _received(self, data: bytes, source: bytes, stamp: int | None) -> None:
        found = segment(data, source)
        verdict = self._handshakes.receive(found) if found else Verdict.FOREIGN
        if found is None or verdict not in (Verdict.ANSWER, Verdict.REFUSAL):
            return
        question = self._questions[(found.acknowledgement - 1) & 0xFFFF_FFFF]
        seconds = kernel_time.round_trip(question.began, stamp, kernel_time.moment(), question.sent)
        if verdict is Verdict.ANSWER:
            result = ProbeResult(Outcome.ANSWERED, seconds, packets=3)
        else:
            result = ProbeResult(Outcome.REFUSED, seconds, packets=2, reason="connection refused")
        if not question.answer.done():  # cancelled, and its task has not run since
            question.answer.set_result(result)


def _raw_socket(version: int) -> socket.socket:
    try:
        sock = socket.socket(_FAMILIES[version], socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP)
    except PermissionError:
        raise CannotProbe("SYN probes need raw sockets: run this as root, or with CAP_NET_RAW") from None
    except OSError as error:
        raise CannotProbe(f"there can be no raw socket of IPv{version}: {in_words(error)}") from None
    if version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
    with contextlib.suppress(PermissionError):  # CAP_NET_ADMIN; without it, thousands at once lose some
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    kernel_time.stamp_both(sock)
    return sock


def _hold_port(version: int) -> socket.socket:
    with contextlib.ExitStack() as opened:
        sock = opened.enter_context(socket.socket(_FAMILIES[version], socket.SOCK_STREAM))
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((_ANY[version], 0))
        opened.pop_all()
        return sock


def _attach(sock: socket.socket, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _FILTER_PROGRAM.pack(len(program) // _FILTER_INSTRUCTION, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


def _source_towards(target: Endpoint) -> bytes:
    """The address that this host would use. A connected UDP socket knows it without a packet."""
    with socket.socket(_FAMILIES[target.version], socket.SOCK_DGRAM) as sock:
        sock.connect((target.host, target.port))
        return ipaddress.ip_address(sock.getsockname()[0]).packed
