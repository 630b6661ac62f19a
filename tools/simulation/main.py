"""What ``tools/simulate`` does, from the command line to the tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from progress import progress
from simulation.clients import POOLS
from simulation.figures import Figures, figures
from simulation.policies import BOUNDS, POLICIES
from simulation.scenes import SCENES, WARM_UP
from simulation.simulator import Simulation
from simulation.table import tables

Results = dict[str, dict[str, Figures]]
"""Scene -> policy -> figures."""

_WIDTH: Final = 130  # columns, where the output is no terminal


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--scene", "scenes", multiple=True, type=click.Choice(list(SCENES)), help="All if none is named."
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    type=click.Choice([*POLICIES, *BOUNDS]),
    help="All but the oracles if none is named.",
)
@click.option("--backends", default=5, type=click.IntRange(3, 10_000))
@click.option("--seconds", default=60.0, type=click.FloatRange(2 * WARM_UP), help="Simulated, of each run.")
@click.option(
    "--seeds", default=8, type=click.IntRange(1), help="Runs of each policy; all policies the same."
)
@click.option(
    "--pools",
    default=POOLS,
    type=click.IntRange(1),
    help="Clients that keep connections, each its own; those of the lab share one.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw a picture, .png or .svg."
)
def main(
    scenes: tuple[str, ...],
    policies: tuple[str, ...],
    backends: int,
    seconds: float,
    seeds: int,
    pools: int,
    as_json: bool,
    plot: Path | None,
) -> None:
    """The schedulers against modelled servers: who waits how long under which policy.

    The servers do four requests at a time, 100 ms each on average. Clients come at random, at 60% of
    what all backends can do when they are well, and the same ones under each policy.
    10,000 backends for 10 seconds take a policy two to three minutes.
    """
    chosen, rivals = scenes or tuple(SCENES), policies or tuple(POLICIES)
    with progress(len(chosen) * len(rivals) * seeds * seconds, "") as step:
        results = {
            scene: {
                policy: _figures(scene, policy, backends, seconds, seeds, pools, step) for policy in rivals
            }
            for scene in chosen
        }
    if as_json:
        click.echo(json.dumps(_for_programs(results, backends, seconds, seeds, pools), indent=1))
    else:
        console = Console() if Console().is_terminal else Console(width=_WIDTH)
        for table in tables(results):
            console.print(table)
    if plot is not None:
        from simulation.plot import draw  # matplotlib takes half a second to import

        try:
            draw(results, seconds, plot)
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{plot}: {error}") from None


def _figures(
    scene: str,
    policy: str,
    backends: int,
    seconds: float,
    seeds: int,
    pools: int,
    step: Callable[[str, float], None],
) -> Figures:
    name = f"{scene}, {policy}"
    logs = [
        Simulation(SCENES[scene], {**POLICIES, **BOUNDS}[policy](), backends, seconds, seed, pools).run(
            seconds, lambda passed: step(name, passed)
        )
        for seed in range(seeds)
    ]
    return figures(logs, backends, seconds)


def _for_programs(
    results: Results, backends: int, seconds: float, seeds: int, pools: int
) -> dict[str, object]:
    scenes: dict[str, dict[str, object]] = {
        scene: {policy: asdict(figures) for policy, figures in of.items()} for scene, of in results.items()
    }
    return {"backends": backends, "seconds": seconds, "seeds": seeds, "pools": pools, "scenes": scenes}


def run(arguments: Sequence[str]) -> None:
    """Do what the arguments say, and exit."""
    main.main(list(arguments), prog_name="tools/simulate")
