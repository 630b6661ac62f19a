"""``tools/demo``: the balancer's main job on real traffic, step by step, for a person who watches.

Everything happens in network namespaces that are made for it. Exit status 0 only if every step was
seen to work; whatever happens, the lab is taken down in the end, unless --keep is given.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from demonstration.site import Site
from demonstration.stage import Stage, StepFailed
from demonstration.steps import STEPS, stop
from netlab import LabError
from netlab.daemon import DATAPATHS
from netlab.record import alone
from netlab.tool import end_as_after_an_error

_PREFIX: Final = "l4lb-demo"


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--prefix",
        default=_PREFIX,
        help="how the lab's namespaces begin; a lab that is up is taken down first (default: %(default)s)",
    )
    parser.add_argument(
        "--datapath",
        choices=["auto", *DATAPATHS],
        default="auto",
        help="what forwards the packets (default: the best that runs here)",
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab up, with l4lb running")
    return parser


def play(site: Site, *, keep: bool) -> bool:
    """All the steps; whether all of them were seen to work."""
    stage, began = site.stage, time.monotonic()
    steps = [(headline, step) for headline, step in STEPS if not (keep and step is stop)]
    for number, (headline, step) in enumerate(steps, 1):
        stage.headline(number, headline)
        try:
            step(site)
        except (StepFailed, LabError) as error:
            stage.failure(f"Step {number} failed: {error}")
            if words := site.daemon.last_words(25):
                stage.tell(f"The end of {site.daemon.log}:")
                stage.output(words)
            return False
    stage.success(f"All {len(steps)} steps were seen to work, in {time.monotonic() - began:.0f} s.")
    return True


def tell_what_is_left(site: Site) -> None:
    """For --keep."""
    stage = site.stage
    stage.tell("The lab stays up, with l4lb on its gateway. To play with it:")
    stage.command("", f"export L4LB_CONFIG={site.daemon.config} L4LB_SOCKET={site.daemon.socket}")
    stage.command("", f"{Path(sys.executable).parent}/l4lb backend list")
    stage.command(
        "", f"tools/lab --prefix {site.lab.prefix} exec client curl http://{site.lab.topology.vip(4)}/"
    )
    stage.command("", f"tail -f {site.daemon.log}")
    stage.tell("To take it down:")
    stage.command("", f"tools/lab --prefix {site.lab.prefix} down")


def main(argv: Sequence[str]) -> int:
    """Run the demo; its exit status."""
    options = arguments().parse_args(argv)
    site = Site(Stage(), options.prefix, options.datapath)
    end_as_after_an_error()
    with alone(options.prefix):
        worked = False
        try:
            site.lab.down()  # what an earlier one has kept
            worked = play(site, keep=options.keep)
            if options.keep:
                tell_what_is_left(site)
        except (KeyboardInterrupt, SystemExit):
            site.stage.failure("Interrupted: taking the lab down.")
            options.keep = False
        finally:
            if not options.keep:
                site.close()
    return 0 if worked else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LabError as error:
        sys.exit(f"tools/demo: {error}")
    except BrokenPipeError:  # who reads it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
