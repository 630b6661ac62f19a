"""Clients that a test holds in its hand: their sockets are on a host of the lab."""

import hashlib
import http.client
import select
import signal
import socket
import threading
import time
from collections import Counter

from netlab.namespace import entered

CHUNK = 1 << 16
DEADLINE = 10.0  # seconds until a test gives up


def wait_for(what, condition, seconds=DEADLINE):
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)
    return answer


def heed_interrupts():
    """For a child, before it runs: a shell's job in the background, as the tests may be, ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def on(lab, host):
    """This thread is on a host of the lab; sockets made here stay there."""
    return entered(lab.namespace(host))


def connect(lab, address, port=80, *, host="client", source="", source_port=0):
    """A TCP connection, made from ``source`` if that is named."""
    with on(lab, host):
        client = socket.socket(_family(address))
    try:
        client.settimeout(DEADLINE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if source or source_port:
            client.bind((source, source_port))
        client.connect((address, port))
    except BaseException:
        client.close()
        raise
    return client


def begin_connecting(lab, address, port=80, *, host="client"):
    """A TCP socket that has sent its SYN and goes on trying."""
    with on(lab, host):
        client = socket.socket(_family(address))
    client.setblocking(False)
    client.connect_ex((address, port))
    return client


def connected(client, seconds=DEADLINE):
    """Wait until it is; False if it was refused."""
    if not select.select([], [client], [], seconds)[1]:
        raise TimeoutError(f"neither connected nor refused after {seconds} s")
    client.settimeout(DEADLINE)
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def listen(lab, address, port, *, host):
    """A TCP socket that listens."""
    with on(lab, host):
        server = socket.create_server((address, port), family=_family(address))
    server.settimeout(DEADLINE)
    return server


def accept(server):
    """Who connects to a listening socket: address and port. The connection is closed."""
    connection, peer = server.accept()
    connection.close()
    return peer[:2]


def datagrams(lab, address, port, *, host="client", source=""):
    """A connected UDP socket: it learns of ICMP errors."""
    with on(lab, host):
        client = socket.socket(_family(address), socket.SOCK_DGRAM)
    client.settimeout(DEADLINE)
    if source:
        client.bind((source, 0))
    client.connect((address, port))
    return client


def _family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Browser:
    """One HTTP connection that is kept alive. It never connects a second time."""

    def __init__(self, lab, address, port=80, **options):
        self.connection = http.client.HTTPConnection(address, port)
        self.connection.auto_open = 0
        self.connection.sock = connect(lab, address, port, **options)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()

    @property
    def socket(self):
        return self.connection.sock

    def get(self, path="/"):
        """The text of a page; of ``/`` it is the name of the backend."""
        self.connection.request("GET", path)
        with self.connection.getresponse() as response:
            assert response.status == 200, response.status
            return response.read().decode().rstrip("\n")


def ask(lab, address, path="/", **options):
    """The text of a page, by a connection of its own."""
    with Browser(lab, address, **options) as browser:
        return browser.get(path)


def answers(lab, address, times, **options):
    """How many of so many new connections each backend gets."""
    return Counter(ask(lab, address, **options) for _ in range(times))


class Transfer(threading.Thread):
    """Moves bytes slowly, about 6 MB/s, until told to hurry: it is under way while a test does things
    to the balancer. Use it in a ``with``."""

    def __init__(self, lab, address, **options):
        super().__init__(daemon=True)
        self.moved = 0  # bytes
        self.error = None
        self._hurry = threading.Event()
        self.socket = connect(lab, address, **options)

    def __enter__(self):
        self.start()
        self.progress()
        return self

    def __exit__(self, *error):
        self.socket.close()
        self._hurry.set()
        self.join(DEADLINE)

    def run(self):
        try:
            self.transfer()
        except OSError as error:
            self.error = error

    def pause(self):
        self._hurry.wait(0.01)

    def progress(self, size=1 << 20, seconds=DEADLINE):
        """Wait until ``size`` more bytes have passed, or all."""
        goal = self.moved + size

        def passed():
            assert self.error is None, f"after {self.moved} bytes: {self.error!r}"
            return self.moved >= goal or not self.is_alive()

        wait_for(f"{size} more bytes after {self.moved}", passed, seconds)

    def failure(self, seconds=DEADLINE):
        """Wait until the transfer fails; what happened to it."""
        return wait_for("the transfer to fail", lambda: self.error, seconds)

    def finish(self, seconds=30.0):
        """Do the rest at full speed."""
        self._hurry.set()
        self.join(seconds)
        assert not self.is_alive(), f"hangs after {self.moved} bytes"
        assert self.error is None, f"after {self.moved} bytes: {self.error!r}"


class Download(Transfer):
    """Gets a file of the lab's; ``digest`` is its SHA-256 in the end."""

    def __init__(self, lab, address, name, **options):
        super().__init__(lab, address, **options)
        self._name = name
        self.digest = None

    def transfer(self):
        self.socket.sendall(f"GET /{self._name} HTTP/1.0\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.socket.recv(1)
        digest = hashlib.sha256()
        while data := self.socket.recv(CHUNK):
            digest.update(data)
            self.moved += len(data)
            self.pause()
        self.digest = digest.hexdigest()


class Upload(Transfer):
    """Stores a file of the lab's www directory on a backend, as /upload/NAME; ``status`` is what the
    backend says in the end."""

    def __init__(self, lab, address, name, **options):
        super().__init__(lab, address, **options)
        # Small, so that what was moved has left.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
        self._file = lab.www / name
        self.status = None

    def transfer(self):
        size = self._file.stat().st_size
        head = f"PUT /upload/{self._file.name} HTTP/1.0\r\nHost: l4lb\r\nContent-Length: {size}\r\n\r\n"
        self.socket.sendall(head.encode())
        with self._file.open("rb") as file:
            while data := file.read(CHUNK):
                self.socket.sendall(data)
                self.moved += len(data)
                self.pause()
        self.status = self.socket.recv(4096).split(b"\r\n")[0].decode()


def digest(path):
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
