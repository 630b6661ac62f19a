"""The daemon: one process that owns a gateway's services from ``l4lb run`` until it is stopped.

SIGHUP reloads the config. SIGTERM and SIGINT stop and keep what a restart needs; the API's stop
removes everything. Beside the control socket ``NAME.sock`` lie the files of the parts that keep
some: ``NAME.vips``, ``NAME.drains``, ``NAME.down``, and those of the datapath.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from l4lb import privileges
from l4lb.control import log as logs
from l4lb.control.api.server import Api
from l4lb.control.cleanup import clean_up
from l4lb.control.config.config import ConfigError, read
from l4lb.control.control_plane import ControlPlane, Edges
from l4lb.control.datapath_choice import attached_before, choose_datapath, mount_for
from l4lb.control.desired import DesiredState
from l4lb.control.down_file import DownFile
from l4lb.control.drain_file import DrainFile
from l4lb.control.installed_code import InstalledCode
from l4lb.control.lock import ControlSocket, Lock, Refused, claim_socket, lock_namespace
from l4lb.control.state_files import down_file, drain_file, state_prefix, vip_file
from l4lb.datapath.base import DatapathError
from l4lb.netlink.ledger import Ledger
from l4lb.netlink.vips import VipKeeper
from l4lb.netlink.watch import KernelWatch
from l4lb.service import units
from l4lb.service.notify import notify, reloading
from l4lb.service.stop_signals import STOP, ignored_at_the_end
from l4lb.service.watchdog import give_signs_of_life

__all__ = ["Daemon", "clean_up", "run"]

log = logging.getLogger(__name__)

_LAST_ANSWERS: Final = 5.0
"""Seconds that requests under way get to finish once the daemon has stopped."""


def run(config_path: Path, socket_path: Path, *, log_level: str = "info") -> int:
    """Balance until stopped.

    Returns:
        The exit status: 0 after a stop, 1 if the daemon could not start; why is on stderr.
    """
    logs.configure(log_level)
    _use_all_descriptors()
    if not faulthandler.is_enabled():
        faulthandler.enable()  # where it hung, when the service manager aborts it
    try:
        with ignored_at_the_end():
            asyncio.run(_run(config_path, socket_path))
    except ConfigError as error:
        for line in error.errors:
            print(f"{logs.error_mark()}{line}", file=sys.stderr)
        return 1
    except (Refused, DatapathError) as error:
        print(f"{logs.error_mark()}l4lb: {error}", file=sys.stderr)
        return 1
    return 0


def _use_all_descriptors() -> None:
    """Probes and the datapath take many, and the soft limit is there for programs that call select."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # more than fs.nr_open, which was larger once
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _run(config_path: Path, socket_path: Path) -> None:
    desired = DesiredState(config_path)
    mount_for(desired.config)
    _give_up_privileges()
    read(config_path)  # once more: who could not at a reload is told now
    with ignored_at_the_end(), contextlib.closing(lock_namespace()) as lock:
        control_socket = claim_socket(socket_path)
        # What a start leaves, stays: the collector of garbage, which stops all else meanwhile, is not to
        # walk over it each time. What of it is replaced later is freed as it is let go.
        await Daemon(desired, host_edges(socket_path), control_socket, lock, started=gc.freeze).serve()


def _give_up_privileges() -> None:
    """From here on it may do what it may under its unit. Before there is a thread, a child or a packet.

    Raises:
        Refused: the kernel does not let it.
    """
    has = privileges.held()
    kept = privileges.for_daemon(has)
    search = privileges.Capability.DAC_READ_SEARCH
    # Modules are imported and processes are started later, too.
    if search in has and (shut := units.out_of_reach(units.GATEWAY, *units.parts())):
        log.warning(
            "%s is kept, as root may not enter %s without it: install l4lb elsewhere, in /opt for instance",
            search,
            shut[0],
        )
        kept |= {search}
    try:
        privileges.keep_only(kept)
    except OSError as error:
        raise Refused(f"capabilities cannot be given up: {error.strerror}") from None


def host_edges(socket_path: Path) -> Edges:
    """This host's kernel, as the control plane sees it."""
    watch = KernelWatch()
    prefix = state_prefix(socket_path)
    return Edges(
        watch=watch,
        vips=VipKeeper(watch, vip_file(socket_path)),
        our_vips=lambda: tuple(Ledger(vip_file(socket_path))),
        make_datapath=lambda config: choose_datapath(config, watch, prefix),
        attached_before=attached_before,
        drain_file=DrainFile(drain_file(socket_path)),
        down_file=DownFile(down_file(socket_path)),
        code_has_changed=InstalledCode().has_changed,
    )


class Daemon:
    """A control plane with its API, signals and service manager."""

    def __init__(
        self,
        desired: DesiredState,
        edges: Edges,
        control_socket: ControlSocket,
        lock: Lock,
        started: Callable[[], object] = lambda: None,
    ) -> None:
        """Takes over the socket and the namespace's lock; both are released when it has stopped.
        ``started`` is called once it balances."""
        self._plane = ControlPlane(desired, edges)
        self._socket = control_socket
        self._lock = lock
        self._on_start = started
        self._stop_asked = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self._holds = False  # of a stop that has begun
        self._reloads: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Start, balance, and stop when asked to.

        Raises:
            DatapathError: it could not start, or is to be started anew.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))
        for number in STOP:
            loop.add_signal_handler(number, self._stop_asked.set)
        try:
            if await self._started():
                await self._serve_api()
        finally:
            self._lock.close()
            self._socket.close()

    async def stop(self, *, hold: bool) -> None:
        """Stop balancing; returns once another daemon could start. A second call joins the first.

        Raises:
            DatapathError: something is left on the host that was to be removed.
        """
        if self._stopping is None:
            self._holds = hold
            self._stopping = asyncio.create_task(self._stop(hold=hold))
        await asyncio.shield(self._stopping)
        if self._holds and not hold:
            raise DatapathError(
                "the daemon was stopping already and has kept what a restart needs: "
                "'l4lb stop' once more removes it"
            )

    async def _started(self) -> bool:
        """Start, unless asked to stop meanwhile."""
        starting = asyncio.create_task(self._plane.start())
        stop_asked = asyncio.create_task(self._stop_asked.wait())
        await asyncio.wait((starting, stop_asked), return_when=asyncio.FIRST_COMPLETED)
        stop_asked.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))
            return False
        await starting
        return True

    async def _serve_api(self) -> None:
        api = Api(self._plane, self._socket.path, lambda: self.stop(hold=False))
        runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=_LAST_ANSWERS)
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket.listening).start()
            self._on_start()
            notify("READY=1")
            log.info("ready: the control socket is %s", self._socket.path)
            async with give_signs_of_life(self._plane.datapath_answers):
                await self._asked_or_outdated()
        finally:
            try:
                # What is left is in the log, and told to who asked; ending in failure would start us anew.
                with contextlib.suppress(DatapathError):
                    await self.stop(hold=True)
            finally:
                await runner.cleanup()

    async def _asked_or_outdated(self) -> None:
        """Until asked to stop.

        Raises:
            DatapathError: the datapath has died, and a new one takes a new daemon.
        """
        asked = asyncio.create_task(self._stop_asked.wait())
        outdated = asyncio.create_task(self._plane.outdated())
        try:
            await asyncio.wait((asked, outdated), return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise DatapathError(
                    "another l4lb was installed since this daemon began, whose datapath has died: it ends, "
                    "for its unit to start the new one; without a unit, start it again"
                )
        finally:
            asked.cancel()
            outdated.cancel()

    async def _stop(self, *, hold: bool) -> None:
        notify("STOPPING=1")
        log.info("stopping")
        try:
            await self._plane.stop(hold=hold)
        finally:
            self._lock.close()
            self._socket.remove()  # closed later: the answer to the request is still to be sent
            self._stop_asked.set()
        log.info("stopped")

    def _reload_soon(self) -> None:
        task = asyncio.create_task(self._reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        reloading()
        try:
            changes = await self._plane.reload()
        except ConfigError as error:
            for line in error.errors:
                log.error("%s", line)
            log.error("not reloaded: the config has errors, and what was in force stays")
        except DatapathError as error:
            log.error("reload: %s", error)
        except Exception:
            log.exception("the reload failed")
        else:
            log.info("reloaded: %d change%s", len(changes), "" if len(changes) == 1 else "s")
        notify("READY=1")
