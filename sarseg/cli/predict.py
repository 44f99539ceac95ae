"""`sarseg predict`: products in, maps out."""

from __future__ import annotations

from pathlib import Path

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.errors import InputError, UsageError


@click.command("predict")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("products", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="ARD...")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="Folder for the maps, one folder each in it.")
@click.option("--tile", "tile_px", type=click.IntRange(min=1), default=512, show_default=True, help="Side of the tiles, pixels.")
@click.option("--overlap", "overlap_px", type=click.IntRange(min=0), default=64, show_default=True, help="Their overlap, pixels.")
@click.option("--both-ways", is_flag=True, help="Also map each tile turned by 180 degrees and take the mean: twice the time, fewer errors.")
@click.option("--probabilities", is_flag=True, help="Also write the probability of every class.")
@click.option("--compress", type=click.Choice(["zstd", "deflate"]), default="zstd", show_default=True, help="deflate for old readers.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads; torch decides when absent.")
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

    options = PredictOptions(
        tiles=TileOptions(tile_px=tile_px, overlap_px=overlap_px),
        both_ways=both_ways,
        probabilities=probabilities,
        threads=threads,
        compress="deflate" if compress == "deflate" else "zstd",
    )
    opened = load_model(model)
    ids = [_id_of(path) for path in products]
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


def _id_of(path: Path) -> str:
    """The id of a product; InputError with a word about what it is instead."""
    from sarseg.cli.kinds import kind_of
    from sarseg.patches.pairs import IMAGE_SUFFIXES
    from sarseg.product.open import open_product
    from sarseg.scene.open import is_scene

    kind = kind_of(path)
    if kind not in (None, "product"):
        hint = "give the images: the files in images/" if kind == "images and masks" else "give a product folder or a raster file"
        raise InputError(f"is no product but {'' if kind == 'images and masks' else 'a '}{kind}", path, hint)
    try:
        return open_product(path).id
    except InputError as error:
        if kind is not None or not path.exists():
            raise
        if is_scene(path):
            raise InputError("is a scene, which does not lie on the map yet", path, "`sarseg preprocess` makes a product of it") from error
        rasters = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else []
        if not rasters:
            raise
        count = f"{len(rasters)} raster file{'s' if len(rasters) > 1 else ''}"
        raise InputError(f"is no product but a folder with {count}", path, f"give the files: {path}/*{rasters[0].suffix}") from error
