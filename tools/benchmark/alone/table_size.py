"""What a large connection table costs: memory, lookups in random order, expiry.

    python -m benchmark.alone.table_size CONNECTIONS ROUND

Run by ``measure`` in a process of its own, whose memory is then the table's. Every connection is made
by its handshake, three packets through the director. Then packets come in two ways: each of another
connection at random, so that nothing the table holds is in the processor's caches, which is worse than
any real traffic; and of a thousand busy connections among all, which shows what the size alone does.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import process_time
from typing import Final

from benchmark import BenchError
from benchmark.alone.frames import ACK, SYN, SYN_ACK, VIP, backends, client, gateway, segment
from benchmark.alone.timing import each, no_collector, seconds
from l4lb.director.connection import tuple_key
from l4lb.director.director import Director
from l4lb.director.fastpath import fast_path
from l4lb.model import Key, State, Table, Timeouts
from l4lb.wire.frame import FRAME_MAX

_RATES: Final = (1_000, 10_000)  # new connections a second of the director's time, between these
_LEAST_PACKETS: Final = 200_000  # for a repeat with a small table to last long enough
_BUSY: Final = 1_000
_REPEATS: Final = 3
_TUPLE: Final = slice(36, 48)  # of an IPv4 packet in a frame
_NUMBERS: Final = slice(48, 56)  # sequence and acknowledgement of its TCP header
_IP_AND_TCP: Final = 24  # where the part of a frame begins that differs from packet to packet


@dataclass(frozen=True, slots=True)
class TableSize:
    """A table of ``connections`` established connections. Times of one, CPU."""

    round: int  # from 1
    connections: int
    bytes_each: float
    handshake_us: float
    fast_path_ns: float  # the whole fast path, each packet of another connection at random
    busy_ns: float  # the same, all packets of ``_BUSY`` connections
    lookup_ns: float  # of the first, only the dictionary lookup, of a key not hashed before
    expiry_us: float
    longest_tick_ms: float  # how long packets wait for one step of it; the last gives the memory back


def _resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class _Handshakes:
    """Makes connections out of three frames whose tuples are replaced."""

    def __init__(self, director: Director) -> None:
        self.director = director
        (server, *_) = backends(1)
        to_vip, to_client = (client(0), VIP[4]), (server, client(0))
        self.syn = segment(*to_vip, SYN)
        self.syn_ack = segment(*to_client, SYN_ACK)
        self.ack = segment(*to_vip, ACK)
        self.buffer = bytearray(FRAME_MAX)
        self.random = Random(2)

    def make(self, original: bytes, now: float) -> None:
        """A connection that becomes established at ``now``."""
        ours, theirs = (self.random.getrandbits(31) for _ in range(2))
        self._packet(self.syn, original, ours, 0, now)
        connection = self.director.table.tcp[original]
        self._packet(self.syn_ack, connection.reply, theirs, ours + 1, now)
        self._packet(self.ack, original, ours + 1, theirs + 1, now)
        if connection.state is not State.ESTABLISHED:
            raise BenchError(f"a connection did not get established: {dict(self.director.drops)}")

    def _packet(self, frame: bytes, key: bytes, sequence: int, acknowledgement: int, now: float) -> None:
        buffer, end = self.buffer, len(frame)
        buffer[:end] = frame
        buffer[_TUPLE] = key
        buffer[_NUMBERS] = (sequence << 32 | acknowledgement).to_bytes(8, "big")
        self.director.process(buffer, end, now)
        self.director.out.clear()


def _arrivals(keys: Sequence[bytes], count: int) -> tuple[bytes, int]:
    """``count`` packets as they might come in: of all these tuples in random order.

    One behind the other without their Ethernet part, and the length of each: read from front to
    back they do not themselves miss the caches.
    """
    random = Random(3)
    order = array("L", range(len(keys)))
    template = segment(client(0), VIP[4], ACK)[_IP_AND_TCP:]
    front, back = template[: _TUPLE.start - _IP_AND_TCP], template[_TUPLE.stop - _IP_AND_TCP :]
    pieces: list[bytes] = []
    while len(pieces) < count:
        random.shuffle(order)
        pieces += [front + keys[index] + back for index in order[: count - len(pieces)]]
    return b"".join(pieces), len(template)


def _fast_path(director: Director, arrivals: bytes, length: int, now: float) -> float:
    forward = fast_path(director.table)
    end = _IP_AND_TCP + length
    buffer = bytearray(FRAME_MAX)
    buffer[:end] = segment(client(0), VIP[4], ACK)
    # The Ethernet part and the IP checksum may stay as the packet before has left them.
    part = slice(_IP_AND_TCP, end)
    starts = range(0, len(arrivals), length)
    missed = 0

    def work() -> None:
        nonlocal missed
        for start in starts:
            buffer[part] = arrivals[start : start + length]
            if forward(buffer, end, now) is None:
                missed += 1

    def restore() -> None:
        for start in starts:
            buffer[part] = arrivals[start : start + length]

    cost = each(work, restore, len(starts), _REPEATS).median
    if missed:
        raise BenchError(f"the fast path did not take {missed} packets of established connections")
    return cost


def _lookup(director: Director, arrivals: bytes, length: int) -> float:
    get = director.table.tcp.get
    offset, width = _TUPLE.start - _IP_AND_TCP, _TUPLE.stop - _TUPLE.start
    starts = range(offset, len(arrivals), length)

    def work() -> None:
        for start in starts:
            get(arrivals[start : start + width])

    def loop() -> None:
        for start in starts:
            arrivals[start : start + width]

    return each(work, loop, len(starts), _REPEATS).median


def _expire(director: Director, now: float) -> list[float]:
    """CPU seconds of every tick that it takes to forget all connections, which have all been idle
    for long enough at ``now``."""
    ticks = []
    with no_collector():
        director.tick(Timeouts().established)  # up to the first: seconds in which nothing is due
        while len(director.table):
            ticks.append(seconds(lambda: director.tick(now)))
    return ticks


def measure_here(count: int, round: int = 1) -> TableSize:
    """Measure in this process; only the first time are the bytes right."""
    servers = backends(3)
    director = gateway(Table(Key.TURN, (0, 1, 2)), servers, limit=count)
    handshakes = _Handshakes(director)
    random = Random(1)
    now = 0.0
    with no_collector():
        before, begun = _resident(), process_time()
        left = 0
        for number in range(count):
            if not left:
                left = rate = random.randint(*_RATES)
            left -= 1
            now += 1 / rate
            handshakes.make(tuple_key(client(number), VIP[4]), now)
        took, memory = process_time() - begun, _resident() - before
    if len(director.table) != count:
        raise BenchError(f"{count} connections were made and {len(director.table)} are there")
    keys = list(director.table.tcp)  # of both directions
    arrivals, length = _arrivals(keys, max(len(keys), _LEAST_PACKETS))
    lookup = _lookup(director, arrivals, length)
    fast = _fast_path(director, arrivals, length, now)
    arrivals, length = _arrivals(random.sample(keys, min(_BUSY, len(keys))), _LEAST_PACKETS)
    busy = _fast_path(director, arrivals, length, now)
    del arrivals, keys
    ticks = _expire(director, now + Timeouts().established + 1)
    return TableSize(
        round=round,
        connections=count,
        bytes_each=memory / count,
        handshake_us=took / count * 1e6,
        fast_path_ns=fast * 1e9,
        busy_ns=busy * 1e9,
        lookup_ns=lookup * 1e9,
        expiry_us=sum(ticks) / count * 1e6,
        longest_tick_ms=max(ticks) * 1e3,
    )


def measure(count: int, round: int = 1) -> TableSize:
    """Measure a table of ``count`` connections in a process of its own, for this round.

    Raises:
        BenchError: it failed; says how.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(count), str(round)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        complaint = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise BenchError(f"a table of {count} connections: {complaint[-1]}")
    return TableSize(**json.loads(done.stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(measure_here(int(sys.argv[1]), int(sys.argv[2])))))
