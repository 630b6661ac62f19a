"""A real terminal for the programs that need one: tmux, on a server of its own."""

import os
import shlex
import shutil
import subprocess
import tempfile
import termios
from pathlib import Path

from tests.lab.clients import wait_for


def why_not():
    """What keeps the tests from having a terminal; None if nothing does."""
    return None if shutil.which("tmux") else "no tmux: tools/setup installs it"


class Tmux:
    """One terminal with a shell in it, to be used in a ``with``. In the end everything is gone that
    runs there."""

    def __init__(self, columns=100, lines=30):
        self._directory = tempfile.TemporaryDirectory(prefix="l4lb-tmux-")
        self._size = (columns, lines)

    def __enter__(self):
        columns, lines = self._size
        try:
            self._tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), "env 'PS1=ready> ' sh")
            self.sees("ready>")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *error):
        if any(error):
            print("--- the terminal\n" + "\n".join(self.screen()))
        self._kill()

    def _kill(self):
        self._tmux("kill-server", check=False)
        self._directory.cleanup()

    def _tmux(self, *arguments, check=True):
        done = subprocess.run(
            ["tmux", "-S", f"{self._directory.name}/socket", "-f", "/dev/null", *arguments],
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        assert not check or done.returncode == 0, f"tmux {arguments}: {done.stderr}"
        return done.stdout

    def press(self, *keys):
        """Keys by tmux's names for them: j, Up, Space, C-c."""
        self._tmux("send-keys", *keys)

    def enter(self, *argv):
        """A command line for the shell."""
        self._tmux("send-keys", "-l", shlex.join(map(str, argv)))
        self._tmux("send-keys", "Enter")

    def resize(self, columns, lines):
        """The size of the terminal, as of a window that is dragged."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self):
        """What is on it, a line each."""
        return self._tmux("capture-pane", "-p").splitlines()

    def modes(self):
        """How the kernel treats the terminal: what stty(1) sets."""
        name = self._tmux("display-message", "-p", "#{pane_tty}").strip()
        with open(name, "rb", buffering=0) as tty:
            return termios.tcgetattr(tty)

    def child(self):
        """The process number of what the shell runs."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        (child,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(child)

    def cursor_is_seen(self):
        """Programs may hide it."""
        return self._tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def sees(self, text, seconds=10.0):
        """Wait until this is on the screen; its line."""

        def line():
            return next((line for line in self.screen() if text in line), None)

        return wait_for(f"{text!r} on the screen", line, seconds)

    def no_longer_sees(self, text, seconds=10.0):
        """Wait until this is not on the screen."""
        wait_for(f"{text!r} to go", lambda: not any(text in line for line in self.screen()), seconds)
