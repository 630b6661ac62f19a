"""``l4lb top`` on a real terminal."""

import os
import signal

import pytest

from netlab.daemon import L4LB
from tests.lab.clients import ask, wait_for
from tests.lab.services import UNCHECKED, VIP, backend, listed, service
from tests.lab.tmux import Tmux, why_not

pytestmark = [pytest.mark.lab, pytest.mark.datapath("tc", "raw")]

WEB1, WEB2, WEB3 = (backend(name) for name in ("web1", "web2", "web3"))
CONFIG = service(weights={"web1": 1, "web2": 2, "web3": 1}) + service(
    "second", port=8001, backend_port=80, health=UNCHECKED
)


@pytest.fixture(scope="module")
def daemon(lab):
    if reason := why_not():
        pytest.skip(reason)
    with lab.daemon(CONFIG) as daemon:
        yield daemon


@pytest.fixture
def terminal():
    with Tmux() as terminal:
        yield terminal


@pytest.fixture
def top(daemon, terminal):
    terminal.enter(L4LB, "--socket", daemon.socket, "top", "--interval", "0.2")
    terminal.sees("packets/s")
    return terminal


@pytest.fixture
def before(terminal):
    """The modes of the terminal before it runs."""
    return terminal.modes()


def is_as(before, terminal):
    """Nothing of the screen is left, and the terminal does what it did."""

    def prompts():  # which the shell does when the program is gone; its own line above has the command
        lines = [line.rstrip() for line in terminal.screen()]
        return next((line for line in reversed(lines) if line), "") == "ready>"

    wait_for("the shell's prompt", prompts)
    assert not any("BACKEND" in line for line in terminal.screen())
    assert terminal.cursor_is_seen()
    assert terminal.modes() == before


def row(terminal, address):
    """A backend's line, by the titles of the columns."""
    titles = terminal.sees("BACKEND  ").split()
    words = terminal.sees(f" {address} ").removeprefix(">").split()
    return dict(zip(titles, words, strict=False))  # a reason may be of many words, or of none


def shown(terminal):
    """The backends of the first service from top to bottom."""
    lines = [line.removeprefix(">").split() for line in terminal.screen()]
    return [words[0] for words in lines if words and words[0] in (WEB1, WEB2, WEB3)][:3]


def test_what_happens_is_seen(lab, top):
    def busy():
        ask(lab, VIP)
        web2 = row(top, WEB2)
        return web2["SHARE"] not in ("-", "0%") and web2["NEW/S"] != "0" and web2["P99"].endswith("s")

    wait_for("the second backend to be seen at work", busy)
    assert top.sees("web 10.1.0.100:80/tcp").split()[2:4] == ["3/3", "up"]


def test_draining_and_enabling(daemon, top):
    top.press("Down")
    top.sees(f"> {WEB2}")
    top.press("d")
    top.sees(f"drain {WEB2} of web? y/n")
    top.press("n")
    top.sees("not drained")
    assert listed(daemon, "weight")["web2"] == 2
    top.press("d", "y")
    top.sees(f"web: draining {WEB2}, ")
    wait_for("the drain to show", lambda: row(top, WEB2)["STATE"] == "drain")
    assert listed(daemon, "state")["web2"] == "drain"
    top.press("e")
    top.sees(f"web: enabled {WEB2}, weight 2")
    wait_for("the backend to be up", lambda: row(top, WEB2)["STATE"] == "up")
    assert listed(daemon, "weight")["web2"] == 2


def test_sorting(top):
    assert shown(top) == [WEB1, WEB2, WEB3]
    top.press("r")
    top.sees("by BACKEND, backwards")
    assert shown(top) == [WEB3, WEB2, WEB1]
    top.press("s", "s")
    top.sees("by WEIGHT, falling")
    assert shown(top) == [WEB2, WEB1, WEB3]


@pytest.mark.parametrize("size", [(40, 10), (60, 8), (160, 40)])
def test_other_sizes(top, size):
    columns, lines = size

    def drawn():
        screen = top.screen()
        header = next((line for line in screen if line.startswith("BACKEND")), "")
        fits = ("WEIGHT" in header) == (columns == 160) and screen[-1].startswith("?: keys")
        return screen if fits else None

    top.resize(columns, lines)
    wait_for("a frame of this size", drawn)
    top.press("End")
    top.sees("> 10.2.0.13:80")
    screen = drawn()
    assert len(screen) == lines
    assert screen[0].startswith("l4lb on ")
    # Every line below the titles begins as a line should: none is the rest of another.
    below = screen[screen.index(next(line for line in screen if line.startswith("BACKEND"))) + 1 : -1]
    beginnings = ("web ", "second ", "> 10.2.0.", "  10.2.0.", "not checked")
    assert [line for line in below if line and not line.startswith(beginnings)] == []
    assert sum(line.startswith("> ") for line in below) == 1


def test_keys_are_told(top):
    top.press("?")
    top.sees("space: pause")
    top.sees("q: quit")
    top.press("Space")
    top.sees("paused")


@pytest.mark.parametrize("key", ["q", "C-c"])
def test_it_leaves_the_terminal_as_it_was(before, top, key):
    top.press(key)
    is_as(before, top)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_and_leave_the_terminal_as_it_was(before, top, number):
    os.kill(top.child(), number)
    is_as(before, top)
    assert not any("Traceback" in line for line in top.screen())


def test_stopping_and_going_on(before, top):
    top.press("C-z")
    top.sees("Stopped")
    assert top.cursor_is_seen()
    top.enter("fg")
    top.sees("packets/s")
    top.press("j")
    top.sees(f"> {WEB2}")
    top.press("q")
    is_as(before, top)


def test_while_the_daemon_is_away_it_says_so_and_goes_on_afterwards(before, daemon, top):
    daemon.stop()
    try:
        top.sees("s: no daemon answers at")
        assert sum("no daemon" in line for line in top.screen()) == 1
        assert row(top, WEB2)["STATE"] == "up"  # as it was last seen
    finally:
        daemon.start()
    top.no_longer_sees("no daemon")
    top.press("q")
    is_as(before, top)


def test_without_a_terminal_one_interval_is_printed(daemon):
    done = daemon.cli("top", "--interval", "0.2", "--service", "web")
    assert WEB3 in done.stdout
    assert "second" not in done.stdout
    assert "\x1b" not in done.stdout
