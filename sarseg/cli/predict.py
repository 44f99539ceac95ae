"""`sarseg predict`: products in, maps out."""

from __future__ import annotations

from pathlib import Path

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.errors import UsageError


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("products", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ARD...")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="Folder for the maps, one folder each in it.")
@click.option("--tile", "tile_px", type=click.IntRange(min=1), default=512, show_default=True, help="Side of the tiles, pixels.")
@click.option("--overlap", "overlap_px", type=click.IntRange(min=0), default=64, show_default=True, help="Their overlap, pixels.")
@click.option("--both-ways", is_flag=True, help="Also map each tile turned by 180 degrees and take the mean: twice the time, fewer errors.")
@click.option("--probabilities", is_flag=True, help="Also write the probability of every class.")
@click.option("--compress", type=click.Choice(["zstd", "deflate"]), default="zstd", show_default=True, help="deflate for old readers.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; torch decides when absent.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    model: Path,
    products: tuple[Path, ...],
    out: Path,
    tile_px: int,
    overlap_px: int,
    both_ways: bool,
    probabilities: bool,
    compress: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Map products with a trained MODEL.

    ARD is a product folder of `sarseg preprocess`, or a raster file with the bands that the model was trained on. Each map
    becomes a folder OUTPUT/<product id> with landcover.tif (classes, names and colours inside), confidence.tif, a QGIS
    style, a quicklook and item.json. Where the product has no data, the map has none.

    Example: sarseg predict model ard/S1A_* -o maps
    """
    from sarseg.nets.infer import TileOptions
    from sarseg.nets.modelfile import load_model
    from sarseg.predict.engine import PredictOptions, predict
    from sarseg.product.open import open_product

    options = PredictOptions(
        tiles=TileOptions(tile_px=tile_px, overlap_px=overlap_px),
        both_ways=both_ways,
        probabilities=probabilities,
        threads=threads,
        compress="deflate" if compress == "deflate" else "zstd",
    )
    opened = load_model(model)
    ids = [open_product(path).id for path in products]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise UsageError(f"two products are named {', '.join(twice)}", hint="map them into different folders")
    with progress_bar() as progress:
        folders = [predict(opened, path, out, options, progress) for path in products]
    if as_json:
        echo_json({"maps": folders})
        return
    for folder in folders:
        click.echo(f"map: {folder}")
