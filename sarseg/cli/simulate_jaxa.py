"""`sarseg simulate jaxa-mosaic`: mosaic tiles and the forest map over a landscape whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sarseg.cli.common import echo_json, progress_bar


@click.command("jaxa-mosaic")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="Folder for the tiles and the truth.")
@click.option("--year", type=click.IntRange(2007, 2091), help="Of the mosaic: 2007 to 2010, or from 2015 on.  [default: 2020]")
@click.option("--seed", type=click.IntRange(min=0), help="Of landscape and speckle.  [default: 1]")
@click.option("--size", "size_px", type=click.IntRange(32, 8192), help="Side of the made-up landscape, pixels of 10 m.  [default: 800]")
@click.option("--centre", type=float, nargs=2, metavar="LON LAT", help="Middle of the made-up landscape, degrees.")
@click.option("--relief", "relief_m", type=click.FloatRange(0.0, 9000.0), help="Range of the made-up heights, metres.  [default: 80]")
@click.option("--slope", "steepest_deg", type=click.FloatRange(0.0, 60.0), help="Steepest made-up slope, degrees, instead of --relief.")
@click.option("--field", "field_ha", type=click.FloatRange(0.1, 400.0), help="Median size of a made-up field, ha.  [default: 15]")
@click.option("--variation", type=click.Choice(["full", "fields", "none"]), help="Spread within classes.  [default: full]")
@click.option(
    "--landscape", "landscape_dir", type=click.Path(path_type=Path), help="Folder of an earlier run: its landscape is seen again."
)
@click.option("--pass", "direction", type=click.Choice(["ascending", "descending"]), help="Of the orbit.  [default: ascending]")
@click.option("--incidence", "incidence_deg", type=click.FloatRange(20.0, 50.0), help="At the middle, degrees.  [default: 36]")
@click.option("--no-speckle", "speckle", flag_value=False, type=bool, default=None, help="Write the mean power.")
@click.option("--trimmed", is_flag=True, help="End each tile at its last row and column with data; JAXA's have 4500 x 4500.")
@click.option("--folders", is_flag=True, help="Write folders, not tar.gz archives.")
@click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")
def jaxa_mosaic(out: Path, as_json: bool, **given: Any) -> None:
    """Write tiles of JAXA's 25 m mosaic and of its forest map over a known landscape.

    Names, codes and formats are those of the year: raw files with ENVI headers and a forest map of three classes until 2016,
    GeoTIFFs and four classes from 2017 on. The mosaic's archives lie in the folder, those of the forest map in its folder fnf.
    --landscape takes the landscape of an earlier run, of whatever sensor.

    Example: sarseg simulate jaxa-mosaic -o sim --year 2015 --size 1200
    """
    from dataclasses import fields

    from sarseg.simulate.jaxa import JaxaOptions, simulate_jaxa
    from sarseg.simulate.options import LandscapeOptions

    chosen = {name: value for name, value in given.items() if value is not None}
    if "centre" in chosen:
        chosen["lon_deg"], chosen["lat_deg"] = chosen.pop("centre")
    land = {one.name: chosen[one.name] for one in fields(LandscapeOptions) if one.name in chosen}
    own = {one.name: chosen[one.name] for one in fields(JaxaOptions) if one.name in chosen}
    with progress_bar() as progress:
        written = simulate_jaxa(out, JaxaOptions(**own, landscape=LandscapeOptions(**land)), progress)
    if as_json:
        echo_json({one.name: getattr(written, one.name) for one in fields(written)})
        return
    for name, tiles in (("mosaic", written.mosaic), ("fnf", written.fnf)):
        click.echo("\n".join(f"{name} {path}" for path in tiles))
    click.echo(f"dem {written.dem}\ntruth {written.truth}\nlegend {written.legend}")
