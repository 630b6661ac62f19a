"""``tools/lab vm``: the lab on real machines, from a box to their end, and what they are asked meanwhile.

It needs some minutes where there is KVM, and the better part of an hour where QEMU has to emulate.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from netlab import LabError, check, handover, hypervisor
from netlab.command import find
from netlab.daemon import DATAPATHS
from netlab.machines import Machines, machines
from netlab.record import held

_ROOT: Final = handover.ROOT
_CASES: Final = ("tests/lab/test_conformance.py", "tests/lab/test_conformance_ebpf.py")
_FEWER: Final = ("-k", "not test_sum_of_the_device and not test_case_live")
"""Where QEMU emulates: raw on links and the programs by BPF_PROG_TEST_RUN, not on links too."""

_FOR_TESTS: Final = ("hypothesis", "pytest")
_TREE: Final = ("l4lb", "pyproject.toml", "tests", "tools")
_INSTALLER: Final = "tools/setup --vm"
_PYTHON: Final = "/opt/l4lb/bin/python"
_SOURCE: Final = "/opt/l4lb-source"
_COMPARED: Final = "raw,tc,xdp,ipvs,nftables,forwarding,bulk_download,keepalive,connections"


def outside(box: Path | None, *, keep: bool, emulate: bool) -> int:
    """Make what the machines need, run ``inside``, remove everything; the exit status.

    Args:
        box: a file to use instead of making a box.
        keep: leave the machines, until a Ctrl-C.
        emulate: without KVM.

    Raises:
        LabError: something is missing, or cannot be made.
    """
    if os.geteuid() != 0:
        raise LabError("virtual machines need namespaces and a hypervisor: run it as root")
    for program in hypervisor.PROGRAMS:
        find(program, _INSTALLER)
    if box is not None and not box.is_file():
        raise LabError(f"there is no box {box}: without --box one is made")
    if not emulate and not os.path.exists("/dev/kvm"):
        raise LabError("there is no /dev/kvm on this machine: --emulate does without, slowly")
    with _directory() as directory:
        if box is None:
            _say("making a box, some minutes")
            box = directory / "lab.box"
            _make_box(box)
        _say("packing what the machines need")
        for warning in handover.pack(directory / "handover", _FOR_TESTS, directory / "kept"):
            raise LabError(f"{warning} (there is none in them)")
        with tarfile.open(directory / "source.tar", "w") as tar:
            for name in _TREE:
                tar.add(_ROOT / name, name)
        plan = {"box": str(box.absolute()), "driver": "qemu" if emulate else "kvm", "keep": keep}
        (directory / "plan.json").write_text(json.dumps(plan))
        argv = hypervisor.entered(directory, sys.executable, "-m", "netlab.vm", str(directory))
        environment = {**os.environ, "PYTHONPATH": str(_ROOT / "tools")}
        # In a session of its own: a Ctrl-C is for this process, which ends them all at once.
        with subprocess.Popen(argv, env=environment, start_new_session=True) as process:
            try:
                if keep:
                    _say(f"the way in: nsenter --net --mount --pid --target $(pgrep -P {process.pid})")
                return process.wait()
            finally:
                process.kill()  # unshare heeds nothing less, and takes its namespaces with it


def _make_box(box: Path) -> None:
    """Run tools/vm/box; it takes down what it has made also when it does not come to its end.

    Raises:
        LabError: it failed; it has said why.
    """
    # In a session of its own, so that one signal ends it and what it runs; then it has time to clean up,
    # which subprocess.run would not give it.
    process = None
    # A signal while it is being started has to wait: it would be left to itself.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
    try:
        process = subprocess.Popen(
            [_ROOT / "tools" / "vm" / "box", box],
            start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        status = process.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    if status:
        raise LabError("there is no box, see above")


@contextmanager
def _directory() -> Iterator[Path]:
    """Where all files are; what a run that was killed has left there is removed too."""
    place = Path(tempfile.gettempdir() if "TMPDIR" in os.environ else "/var/tmp")
    lock, busy = place / "l4lb-vm.lock", "another lab of virtual machines is up: wait for its end"
    with held(lock, busy):  # the file stays, as record.alone says
        directory = place / "l4lb-vm"
        try:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700)
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def inside(directory: Path) -> None:
    """Bring the machines up and ask them everything; their end is that of the namespaces.

    Raises:
        LabError: something did not work; says what.
    """
    plan = json.loads((directory / "plan.json").read_text())
    hypervisor.start()
    (directory / "vagrant-home").mkdir()
    environment = hypervisor.environment(directory, directory / "handover", plan["driver"])
    _vagrant(directory, environment, "box", "add", "--name", hypervisor.BOX, plan["box"])
    _say("vagrant up: five machines boot and are provisioned")
    begin = time.monotonic()
    _vagrant(directory, environment, "up")
    _say(f"they are up after {time.monotonic() - begin:.0f} s")
    try:
        with machines(environment) as hosts:
            _check(hosts)
            _halt_one(hosts, directory, environment)
            _ask(hosts, directory, () if plan["driver"] == "kvm" else _FEWER)
    except (LabError, check.Failed) as error:
        if not plan["keep"]:
            raise
        print(f"tools/lab: {error}", file=sys.stderr)
    if plan["keep"]:
        _leave(environment)


def _leave(environment: Mapping[str, str]) -> None:
    """Say how Vagrant finds the machines from inside, and wait."""
    _say("left for looking, until a Ctrl-C here; for Vagrant in there:")
    for name, text in environment.items():
        if name.startswith(("VAGRANT_", "L4LB_")):
            print(f"    export {name}={text}", flush=True)
    signal.pause()


def _check(hosts: Machines) -> None:
    """All steps on the datapath that l4lb chooses, and the first one on each.

    Raises:
        LabError, check.Failed: something did not work.
    """
    for step, seen in check.check(hosts):
        print(f"  ok   {step.title}: {seen}", flush=True)
    for datapath in DATAPATHS:
        _use(hosts, datapath)
        check.STEPS[0].see(check.Check(hosts))
        print(f"  ok   {datapath} loads on Linux {_kernel(hosts)} and serves", flush=True)


def _halt_one(hosts: Machines, directory: Path, environment: Mapping[str, str]) -> None:
    """``vagrant halt`` of a backend: it leaves, and when it is up again it comes back by itself.

    Raises:
        LabError, check.Failed: it does not.
    """
    seen = check.Check(hosts)
    name = seen.names[1]
    _vagrant(directory, environment, "halt", name)
    left = seen.wait_state(name, "down")
    seen.l4lb("reload")  # what is listed is in place a moment later, and when this answers
    seen.all_answer(lambda: seen.curl(4), [other for other in seen.names if other != name])
    _vagrant(directory, environment, "up", name)
    back = seen.wait_state(name, "up")
    print(
        f"  ok   'vagrant halt {name}', down {left:.0f} s later; 'vagrant up', back {back:.0f} s later",
        flush=True,
    )


def _kernel(hosts: Machines) -> str:
    return hosts.must("gateway", "uname", "-r").strip()


def _ask(hosts: Machines, directory: Path, choice: Sequence[str]) -> None:
    """Compare with IPVS, and run the packet cases.

    Args:
        directory: where the source is.
        choice: pytest's arguments, which packet cases.

    Raises:
        LabError: one of them failed; the other one was run.
    """
    with (directory / "source.tar").open("rb") as source:
        hosts.must("gateway", "mkdir", "-p", _SOURCE)
        hosts.must("gateway", "tar", "-xC", _SOURCE, "--no-same-owner", stdin=source)
    pip = (_PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", "/opt/l4lb-lab/wheels")
    hosts.must("gateway", *pip, *_FOR_TESTS)
    hosts.must("gateway", "ln", "-sfn", "/opt/l4lb", f"{_SOURCE}/.venv")  # where tools/bench looks
    hosts.must("gateway", "systemctl", "stop", "l4lb")
    _say("l4lb beside the kernel's IPVS, in namespaces of the gateway")
    compare = ("tools/bench", "compare", "--only", _COMPARED, "--rounds", "3", "--seconds", "3")
    compared = _show(hosts, _PYTHON, *compare)
    _say(f"the packet cases on Linux {_kernel(hosts)}")
    passed = _show(hosts, _PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_CASES, *choice)
    if not compared or not passed:
        what = "packet cases" if compared else "comparison with IPVS"
        raise LabError(f"on the gateway, the {what} failed, see above")


def _use(hosts: Machines, datapath: str) -> None:
    """Let the gateway's l4lb run on this datapath."""
    hosts.must("gateway", "sed", "-i", f's/^datapath = .*/datapath = "{datapath}"/', "/etc/l4lb/l4lb.toml")
    hosts.must("gateway", "systemctl", "restart", "l4lb")


def _show(hosts: Machines, *argv: str) -> bool:
    """Run a command in the source tree on the gateway, its output here; True if it exits with 0."""
    words = hosts.command("gateway", "env", "-C", _SOURCE, "L4LB_NO_SETUP=1", *argv)
    return not subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode


def _vagrant(directory: Path, environment: Mapping[str, str], *words: str) -> None:
    """Run Vagrant on the lab.

    Raises:
        LabError: it failed; what it said is shown.
    """
    log = directory / "vagrant.log"
    with log.open("wb") as file:
        done = subprocess.run(
            [find("vagrant"), *words], cwd=_ROOT, env=environment, stdin=subprocess.DEVNULL,
            stdout=file, stderr=file, check=False,
        )  # fmt: skip
    if done.returncode:
        said = [line for line in log.read_text(errors="replace").splitlines() if "Progress: " not in line]
        print("\n".join(said[-20:]), file=sys.stderr)
        raise LabError(f"'vagrant {' '.join(words)}' failed, see above")


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


if __name__ == "__main__":
    try:
        inside(Path(sys.argv[1]))
    except (LabError, check.Failed) as error:
        sys.exit(f"tools/lab: {error}")
