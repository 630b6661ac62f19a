"""tools/lab vm: the box that it makes, where it is interrupted."""

import subprocess
import sys
import time
from pathlib import Path

TOOLS = Path(__file__).parents[3] / "tools"

BOX = """#!/bin/bash
trap 'sleep 0.5; rm "$1".unfinished; kill $! 2>/dev/null' EXIT
trap 'exit 1' HUP INT TERM
touch "$1".unfinished
sleep 60 & # a trap waits for the end of what is in the foreground
wait
"""

INTERRUPTED = """\
import signal, sys
from pathlib import Path
from netlab import vm
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # as tools/lab has it
vm._ROOT = Path(sys.argv[1])
vm._make_box(vm._ROOT / "box")
"""


def test_a_box_that_is_not_finished_is_taken_down_by_who_makes_it(tmp_path):
    maker = tmp_path / "tools" / "vm" / "box"
    maker.parent.mkdir(parents=True)
    maker.write_text(BOX)
    maker.chmod(0o755)
    unfinished = tmp_path / "box.unfinished"
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, tmp_path], cwd=TOOLS) as process:
        try:
            deadline = time.monotonic() + 10
            while not unfinished.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.terminate()
            assert process.wait(10) == 1
            assert not unfinished.exists()
        finally:
            process.kill()
