"""Three hosts in network namespaces, and sockets inside them, for the tests of the shield.

    client ---- c0  g0 ---- gateway ---- g1  s0 ---- server
    192.0.2.7               VIPs on g0               10.9.2.10
    2001:db8::7             10.9.2.1, fd09:2::1      10.9.2.11, fd09:2::10

The addresses are those of tests/property/claim_samples.py.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import threading
from pathlib import Path

from l4lb.datapath.raw.claim import HAND_BACK_MARK
from l4lb.director.parse import parse
from netlab.command import inside as command_in
from netlab.namespace import entered
from tests.property.claim_samples import OTHER_MAC, OWN_MAC

SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
SO_ATTACH_FILTER = 26
SO_RCVBUFFORCE = 33
UDP_SEGMENT = 103
ETH_P_ALL = 3
TUNSETIFF = 0x4004_54CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000

PREFIX = "l4cl"
SETUP = rf"""
nsenter --net=/run/netns/$client ip link add c0 address {OTHER_MAC.hex(":")} type veth \
    peer name g0 netns $gateway address {OWN_MAC.hex(":")}
nsenter --net=/run/netns/$server ip link add s0 type veth peer name g1 netns $gateway
nsenter --net=/run/netns/$client ip addr add 192.0.2.7/24 dev c0
nsenter --net=/run/netns/$client ip addr add 2001:db8::7/64 dev c0 nodad
nsenter --net=/run/netns/$gateway ip addr add 192.0.2.1/24 dev g0
nsenter --net=/run/netns/$gateway ip addr add 2001:db8::1/64 dev g0 nodad
nsenter --net=/run/netns/$gateway ip addr add 10.9.0.100/32 dev g0
nsenter --net=/run/netns/$gateway ip addr add 10.9.0.101/32 dev g0
nsenter --net=/run/netns/$gateway ip addr add fd09::100/128 dev g0 nodad
nsenter --net=/run/netns/$gateway ip addr add fd09::101/128 dev g0 nodad
nsenter --net=/run/netns/$gateway ip addr add 10.9.2.1/24 dev g1
nsenter --net=/run/netns/$gateway ip addr add fd09:2::1/64 dev g1 nodad
nsenter --net=/run/netns/$server ip addr add 10.9.2.10/24 dev s0
nsenter --net=/run/netns/$server ip addr add 10.9.2.11/24 dev s0
nsenter --net=/run/netns/$server ip addr add fd09:2::10/64 dev s0 nodad
nsenter --net=/run/netns/$gateway sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
"""
SETUP += "".join(
    f"nsenter --net=/run/netns/${host} ip link set {link} up\n"
    for host, link in (("client", "c0"), ("gateway", "g0"), ("gateway", "g1"), ("server", "s0"))
)
SETUP += """
nsenter --net=/run/netns/$client ip route add default via 192.0.2.1
nsenter --net=/run/netns/$client ip route add default via 2001:db8::1
nsenter --net=/run/netns/$server ip route add default via 10.9.2.1
nsenter --net=/run/netns/$server ip route add default via fd09:2::1
"""


class Host:
    """A network namespace."""

    def __init__(self, name):
        self.name = name

    def run(self, *argv):
        return subprocess.run(
            command_in(self.name, *argv), check=True, capture_output=True, text=True
        ).stdout

    @contextlib.contextmanager
    def tun(self, name):
        """An interface without Ethernet, up, and the file that its packets are written to."""
        with self.entered(), Path("/dev/net/tun").open("r+b", buffering=0) as device:
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
            self.run("ip", "link", "set", name, "up")
            yield device

    @contextlib.contextmanager
    def without_gso(self, interface):
        """What one call sends in segments goes out as so many frames."""
        before = json.loads(self.run("ip", "-j", "-d", "link", "show", interface))[0]["gso_max_segs"]
        self.run("ip", "link", "set", interface, "gso_max_segs", "1")
        try:
            yield
        finally:
            self.run("ip", "link", "set", interface, "gso_max_segs", str(before))

    def entered(self):
        """This thread is in the namespace; sockets and processes made here stay in it."""
        return entered(self.name)

    def socket(self, *kind):
        with self.entered():
            return socket.socket(*kind)

    def listen(self, address):
        with self.entered():
            return socket.create_server(address, family=family(address))

    def udp(self, address):
        sock = self.socket(family(address), socket.SOCK_DGRAM)
        sock.bind(address)
        sock.settimeout(10)
        return sock

    def connect(self, address):
        """A TCP socket that has begun to connect. Closing it resets the connection, so that no packet of
        it comes later."""
        sock = self.socket(family(address), socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.setblocking(False)
        sock.connect_ex(address)
        return sock

    def packet_socket(self, interface, *, program=None, mark=None):
        """A packet socket that sees what comes in by an interface, and sends there."""
        sock = self.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        if mark is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if program is not None:
            attach_filter(sock, program)
        sock.bind((interface, ETH_P_ALL if program is not None else 0))
        sock.settimeout(10)
        return sock


def family(address):
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def attach_filter(sock, program):
    buffer = ctypes.create_string_buffer(program, len(program))
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    )


def outcome(sock, seconds=10.0):
    """What became of a connection attempt: 0, an error number, or None if nothing until now."""
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    if not poll.poll(seconds * 1000):
        return None
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def remove_abandoned():
    """Take away what killed test runs have left."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            subprocess.run(["ip", "netns", "delete", path.name], check=True)


class Net:
    """The three hosts, up for a ``with``."""

    def __enter__(self):
        remove_abandoned()
        names = {host: f"{PREFIX}-{os.getpid()}-{host}" for host in ("client", "gateway", "server")}
        self.client, self.gateway, self.server = map(Host, names.values())
        self._names = names
        try:
            for name in names.values():
                subprocess.run(["ip", "netns", "add", name], check=True)
                subprocess.run(command_in(name, "ip", "link", "set", "lo", "up"), check=True)
            subprocess.run(["sh", "-e"], input=SETUP, env={**os.environ, **names}, check=True, text=True)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self._names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


class HandBack:
    """The least datapath there can be: nothing is its own, it hands back all it is given."""

    def __init__(self, host, claim, local, interfaces=("g0", "g1")):
        self._claim = claim
        self._local = local
        self.frames = []  # lengths of what was handed back
        self._stop = os.eventfd(0)
        self._sockets = {}
        for interface in interfaces:
            receiver = host.packet_socket(interface, program=claim.packet_filter())
            self._sockets[receiver] = host.packet_socket(interface, mark=HAND_BACK_MARK)
        self._thread = threading.Thread(target=self._loop)

    def _loop(self):
        while True:
            readable, _, _ = select.select([self._stop, *self._sockets], [], [])
            if self._stop in readable:
                return
            for receiver in readable:
                frame = bytearray(receiver.recv(1 << 17))
                packet = parse(frame, len(frame))
                if packet is not None and self._claim.covers(packet, self._local):
                    self._sockets[receiver].send(frame)
                    self.frames.append(len(frame))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)
        for pair in self._sockets.items():
            for sock in pair:
                sock.close()
