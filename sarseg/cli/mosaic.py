"""`sarseg mosaic`: maps in, one map out."""

from __future__ import annotations

from pathlib import Path

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.errors import UsageError


@click.command("mosaic")
@click.argument("maps", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MAP...")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="The map folder to write.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Threads; their number changes no bit.")
@click.option("--compress", type=click.Choice(["zstd", "deflate"]), default="zstd", show_default=True, help="deflate for old readers.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(maps: tuple[Path, ...], out: Path, workers: int, compress: str, as_json: bool) -> None:
    """Fuse maps into one: landcover.tif, confidence.tif and count.tif (number of maps at a pixel).

    MAP is a map folder of `sarseg predict`, or a class raster with class names in its tags. At each pixel every map votes
    for its class with its confidence (with all probabilities, when every map has them); the order of the maps does not
    matter. Maps in other CRS are resampled to the nearest pixel.

    Example: sarseg mosaic maps/* -o landcover
    """
    from sarseg.mosaic.composite import MosaicOptions, mosaic

    if out.resolve() in [path.resolve() for path in maps]:
        raise UsageError("the mosaic would take the place of one of its maps", out, "choose another output folder")
    options = MosaicOptions(workers=workers, compress="deflate" if compress == "deflate" else "zstd")
    with progress_bar() as progress:
        folder = mosaic(maps, out, options, progress)
    if as_json:
        echo_json({"map": folder})
    else:
        click.echo(f"map: {folder}")
