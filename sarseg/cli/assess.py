"""`sarseg assess`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("map_path", metavar="MAP", type=_FILE)
@click.option("--truth", required=True, type=_FILE, metavar="FILE", help="Class raster with the map's classes, on any grid.")
@click.option("--legend", type=_FILE, metavar="YAML", help="Classes of the truth, where its file does not name them.")
@click.option("--bounds", type=float, nargs=4, metavar="XMIN YMIN XMAX YMAX", help="Score this region only, in the map's CRS.")
@click.option("-o", "--out", type=_FILE, metavar="FILE", help="Write the result as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    map_path: Path, truth: Path, legend: Path | None, bounds: tuple[float, float, float, float] | None, out: Path | None, as_json: bool
) -> None:
    """Compare the map MAP (folder or class raster) with the truth.

    Prints the accuracies of every class, overall accuracy, kappa and mean IoU. Each pixel of the map counts once; pixels
    without label or without class are counted apart.

    \b
    Example:
      sarseg assess maps/S1A_... --truth truth.tif --bounds 500000 4640000 510000 4650000 -o accuracy.json
    """
    from sarseg.assess.accuracy import assess
    from sarseg.cli.common import echo_json, progress_bar
    from sarseg.legend import Legend

    given = Legend.from_file(legend) if legend is not None else None
    with progress_bar() as progress:
        result = assess(map_path, truth, out, bounds=bounds, legend=given, progress=progress)
    if as_json:
        echo_json(result.to_dict())
    else:
        click.echo(result.table())
