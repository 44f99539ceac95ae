"""`sarseg demo`: the first five minutes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sarseg.cli.common import echo_json, progress_bar

if TYPE_CHECKING:
    from sarseg.batch.demo import DemoResult


@click.command("demo")
@click.option("-o", "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder for all that is made.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Landscapes, each with its speckle and training.")
@click.option("--size", "size_px", type=click.IntRange(384, 4096), default=1408, show_default=True, help="Side of a landscape, pixels.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of the table.")
def command(out: Path, seeds: int, size_px: int, as_json: bool) -> None:
    """Show the whole line on simulated scenes in a few minutes.

    Two Sentinel-1 scenes of different orbits are simulated over one landscape whose truth is known; one model is trained on
    its west, both scenes are mapped, the maps become one mosaic, and the mosaic is assessed on the landscape's east, which
    nothing was trained on, beside per-pixel classifiers. Everything lies under OUT; what is done is not done again.

    Example: sarseg demo --seeds 1
    """
    from sarseg.batch.demo import DemoOptions, run_demo

    with progress_bar() as progress:
        result = run_demo(out, DemoOptions(seeds=seeds, size_px=size_px), progress)
    if as_json:
        echo_json(result.to_dict())
    else:
        _print(result)
    for sentence in result.missed():
        logging.getLogger(__name__).warning("a promise of the demo is not kept: %s", sentence)


def _print(result: DemoResult) -> None:
    names = list(result.results[0].baselines)
    click.echo("Accuracy on the held-out region, each scene by itself; ratio = errors of the network / errors of the best baseline")
    click.echo("".join(f"{title:>12}" for title in ("seed", "network", *names, "ratio")))
    for one in result.results:
        shares = [one.network.scenes.oa, *(one.baselines[name].scenes.oa for name in names)]
        click.echo(f"{one.seed:>12}" + "".join(f"{share:>12.1%}" for share in shares) + f"{one.error_ratio:>12.3f}")
    click.echo("The same with both scenes together: the mosaic of the network's maps, and classifiers that see both scenes")
    for one in result.results:
        shares = [one.network.together.oa, *(one.baselines[name].together.oa for name in names)]
        click.echo(f"{one.seed:>12}" + "".join(f"{share:>12.1%}" for share in shares) + f"{one.mosaic_error_ratio:>12.3f}")
    ratios = result.ratios
    click.echo(f"ratio: mean {sum(ratios) / len(ratios):.3f}, worst {max(ratios):.3f}; {result.seconds:.0f} s")
    click.echo(f"map: {result.landcover / 'landcover.tif'}")
    click.echo(f"picture: {result.summary.parent / 'comparison.png'}")
    click.echo(f"summary: {result.summary}")
