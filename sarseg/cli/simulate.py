"""`sarseg simulate`: complete downloads over a landscape whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.errors import UsageError


@click.group("simulate")
def command() -> None:
    """Write a complete product over a known landscape.

    The product is in the agency's format; beside it lie the truth (truth.tif), the heights (dem.tif, ellipsoidal) and the
    classes' backscatter.
    """


def _window(_context: click.Context, _option: click.Parameter, value: tuple[int, int, int, int] | None) -> Any:
    from sarseg.tiles import Window

    if value is None:
        return None
    line, pixel, lines, pixels = value
    if line < 0 or pixel < 0 or lines < 1 or pixels < 1:
        raise click.BadParameter("give first line, first pixel (from 0), lines, pixels (from 1)")
    return Window(row=line, col=pixel, rows=lines, cols=pixels)


_LANDSCAPE = (
    click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="Folder for what is made, and its truth."),
    click.option("--seed", type=click.IntRange(min=0), help="Of landscape and speckle.  [default: 1]"),
    click.option("--size", "size_px", type=click.IntRange(32, 8192), help="Side of the made-up landscape, pixels of 10 m.  [default: 800]"),
    click.option("--centre", type=float, nargs=2, metavar="LON LAT", help="Middle of the made-up landscape, degrees."),
    click.option(
        "--relief", "relief_m", type=click.FloatRange(0.0, 9000.0), help="Range of the made-up heights, metres; 0 is flat.  [default: 80]"
    ),
    click.option("--slope", "steepest_deg", type=click.FloatRange(0.0, 60.0), help="Steepest made-up slope, degrees, instead of --relief."),
    click.option("--field", "field_ha", type=click.FloatRange(0.1, 400.0), help="Median size of a made-up field, ha.  [default: 15]"),
    click.option("--variation", type=click.Choice(["full", "fields", "none"]), help="Spread within classes.  [default: full]"),
    click.option(
        "--landscape", "landscape_dir", type=click.Path(path_type=Path), help="Folder of an earlier run: its landscape is seen again."
    ),
    click.option("--pass", "direction", type=click.Choice(["ascending", "descending"]), help="Of the orbit.  [default: ascending]"),
)
_HEIGHTS = (
    click.option("--dem", type=click.Path(path_type=Path), help="Heights to use instead of made-up ones (ellipsoidal, or with --geoid)."),
    click.option("--landcover", type=click.Path(path_type=Path), help="Class raster to use with --dem; made up when absent."),
    click.option("--geoid", type=click.Path(path_type=Path), help="Geoid grid of the DEM's heights (us_nga_egm96_15.tif)."),
)
_MADE = ("size_px", "centre", "relief_m", "steepest_deg")
_IDLE_BESIDE: dict[str, tuple[str, ...]] = {
    "landscape_dir": (*_MADE, "field_ha", "variation", "dem", "landcover", "geoid"),
    "template": ("centre", "direction", "incidence_deg"),
    "dem": _MADE,
    "landcover": ("field_ha",),
    "steepest_deg": ("relief_m",),
}
"""What an option leaves without effect."""
_ZIP = click.option("--zip", "zipped", is_flag=True, help="Zip the product, as downloads come.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the paths as JSON.")


def _all(options: tuple[Callable[..., Any], ...]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that adds options in their order."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _options(kind: Any, given: dict[str, Any]) -> Any:
    """The options of a simulation from the words that were given; what is absent keeps its default.

    UsageError for words without effect beside others.
    """
    from dataclasses import fields

    from sarseg.simulate.options import LandscapeOptions

    chosen = {name: value for name, value in given.items() if value is not None}
    words = {option.name: option.opts[0] for option in click.get_current_context().command.params}
    for name, others in _IDLE_BESIDE.items():
        idle = [words[one] for one in others if one in chosen and name in chosen]
        if idle:
            raise UsageError(f"{' and '.join(idle)} without effect beside {words[name]}", None, f"leave {words[name]} away, or the other")
    if "centre" in chosen:
        chosen["lon_deg"], chosen["lat_deg"] = chosen.pop("centre")
    if "polarisations" in chosen:
        chosen["polarisations"] = tuple(chosen["polarisations"].split("+"))
    land = {one.name: chosen[one.name] for one in fields(LandscapeOptions) if one.name in chosen}
    scene = {one.name: chosen[one.name] for one in fields(kind) if one.name in chosen}
    return kind(**scene, landscape=LandscapeOptions(**land))


def _say(paths: dict[str, Path], *, as_json: bool) -> None:
    if as_json:
        echo_json(paths)
    else:
        click.echo("\n".join(f"{name} {path}" for name, path in paths.items()))


@command.command("sentinel1")
@_all((*_LANDSCAPE, *_HEIGHTS))
@click.option("--incidence", "incidence_deg", type=click.FloatRange(30.0, 46.0), help="At the middle, degrees.  [default: 39]")
@click.option("--template", type=click.Path(path_type=Path), help="Product (SAFE or zip) whose annotation is kept and filled.")
@click.option(
    "--window",
    type=int,
    nargs=4,
    metavar="LINE PIXEL LINES PIXELS",
    callback=_window,
    help="With --template: fill only these lines and pixels.",
)
@click.option("--polarisations", type=click.Choice(["VV", "VH", "VV+VH"]), help="[default: VV+VH, or what the template has]")
@click.option("--no-speckle", "speckle", flag_value="none", help="Write the root of the expected power.")
@_ZIP
@_JSON
def sentinel1(out: Path, as_json: bool, **given: Any) -> None:
    """Write a Sentinel-1 IW GRDH product over a known landscape.

    Geometry (foreshortening, layover, shadow), backscatter by class, polarisation and local incidence, thermal noise and
    4.4-look speckle are simulated; manifest, annotation, calibration and noise tables are complete. --landscape lets a second
    orbit see the landscape of an earlier run.

    Example: sarseg simulate sentinel1 -o sim --seed 7 && sarseg simulate sentinel1 -o sim --landscape sim --pass descending
    """
    from sarseg.simulate.options import Sentinel1Options
    from sarseg.simulate.sentinel1 import simulate_sentinel1

    options = _options(Sentinel1Options, given)
    with progress_bar() as progress:
        written = simulate_sentinel1(out, options, progress)
    paths = {"product": written.safe, "dem": written.dem, "truth": written.truth, "legend": written.legend}
    _say(paths, as_json=as_json)


@command.command("palsar")
@_all((*_LANDSCAPE, *_HEIGHTS))
@click.option("--mission", type=click.Choice(["alos1", "alos2"]), help="PALSAR (2010) or PALSAR-2 (2020).  [default: alos2]")
@click.option("--level", type=click.Choice(["1.1", "1.5"]), help="1.1 complex in slant range, 1.5 amplitude on the ground.  [default: 1.5]")
@click.option("--geocoded", is_flag=True, help="Level 1.5 on a UTM map, not along the track.")
@click.option("--polarisations", type=click.Choice(["HH", "HH+HV", "HH+HV+VH+VV"]), help="[default: HH+HV]")
@click.option("--incidence", "incidence_deg", type=click.FloatRange(20.0, 50.0), help="At the middle, degrees.  [default: 39]")
@click.option(
    "--doppler", "doppler_hz", type=click.FloatRange(-500.0, 500.0), help="Of alos1, which is not zero-Doppler, Hz.  [default: 55]"
)
@click.option("--no-speckle", "speckle", flag_value=False, type=bool, default=None, help="Write the root of the expected power.")
@_ZIP
@_JSON
def palsar(out: Path, as_json: bool, **given: Any) -> None:
    """Write a PALSAR or PALSAR-2 product (CEOS) over a known landscape.

    Volume, leader, images, trailer and summary.txt have JAXA's records and names. Geometry, L-band backscatter by class,
    polarisation and local incidence, noise and speckle are simulated; the polarisations of quad are correlated. The landscape
    is that of simulate sentinel1 and simulate jaxa-mosaic with the same seed; --landscape takes the one of an earlier run.

    Example: sarseg simulate palsar -o sim --mission alos1 --level 1.1 && sarseg preprocess sim/ALPSR* -o ard --dem sim/dem.tif
    """
    from sarseg.simulate.palsar import simulate_palsar
    from sarseg.simulate.palsar_modes import PalsarOptions

    options = _options(PalsarOptions, given)
    with progress_bar() as progress:
        written = simulate_palsar(out, options, progress)
    _say({"product": written.product, "dem": written.dem, "truth": written.truth, "legend": written.legend}, as_json=as_json)


@command.command("jaxa-mosaic")
@_all(_LANDSCAPE)
@click.option("--year", type=click.IntRange(2007, 2091), help="Of the mosaic: 2007 to 2010, or from 2015 on.  [default: 2020]")
@click.option("--incidence", "incidence_deg", type=click.FloatRange(20.0, 50.0), help="At the middle, degrees.  [default: 36]")
@click.option("--no-speckle", "speckle", flag_value=False, type=bool, default=None, help="Write the mean power.")
@click.option("--trimmed", is_flag=True, help="End each tile at its last row and column with data; JAXA's have 4500 x 4500.")
@click.option("--folders", is_flag=True, help="Write folders, not tar.gz archives.")
@_JSON
def jaxa_mosaic(out: Path, as_json: bool, **given: Any) -> None:
    """Write tiles of JAXA's 25 m mosaic and of its forest map over a known landscape.

    Names, codes and formats are those of the year: raw files with ENVI headers and a forest map of three classes until 2016,
    GeoTIFFs and four classes from 2017 on. The mosaic's archives lie in the folder, those of the forest map in its folder fnf.
    --landscape takes the landscape of an earlier run, of whatever sensor.

    Example: sarseg simulate jaxa-mosaic -o sim --year 2015 --size 1200
    """
    from dataclasses import asdict

    from sarseg.simulate.jaxa import JaxaOptions, simulate_jaxa

    options = _options(JaxaOptions, given)
    with progress_bar() as progress:
        written = simulate_jaxa(out, options, progress)
    if as_json:
        echo_json(asdict(written))
        return
    for name, tiles in (("mosaic", written.mosaic), ("fnf", written.fnf)):
        click.echo("\n".join(f"{name} {path}" for path in tiles))
    _say({"dem": written.dem, "truth": written.truth, "legend": written.legend}, as_json=False)
