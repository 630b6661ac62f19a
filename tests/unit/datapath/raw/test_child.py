"""Programs that run on when the daemon is told to stop."""

import asyncio
import signal
import subprocess

import pytest

from l4lb.datapath.raw.child import start_child

STOPPING = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGABRT}


def test_the_signals_that_stop_the_daemon_do_not_reach_its_children():
    async def run():
        script = "kill -HUP $$; kill -INT $$; kill -TERM $$; kill -ABRT $$; echo still here"
        child = await start_child("/bin/sh", "-c", script, stdout=subprocess.PIPE)
        return (await child.communicate())[0], child.returncode

    assert asyncio.run(run()) == (b"still here\n", 0)


@pytest.mark.parametrize("program", ["/bin/true", "/nonexistent"])
def test_they_reach_the_daemon_as_before(program):
    async def run():
        child = await start_child(program)
        await child.wait()

    try:
        asyncio.run(run())
    except FileNotFoundError:
        assert program == "/nonexistent"
    assert not STOPPING & signal.pthread_sigmask(signal.SIG_BLOCK, ())
