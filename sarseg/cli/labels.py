"""`sarseg labels`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)
_SOURCE_NAMES = "fnf3, fnf4, worldcover, lc100, corine, hrlulc21.11"
_REMAP_NAMES = "sar5, fnf, worldcover"


@click.command()
@click.argument("source", type=_FILE)
@click.option("--like", required=True, type=_FILE, metavar="ARD", help="Product folder or raster whose grid the labels get.")
@click.option("-o", "--out", required=True, type=_FILE, metavar="FILE", help="GeoTIFF to write.")
@click.option("--remap", metavar="NAME|YAML", help=f"{_REMAP_NAMES}; or a file with a line `value: code` each (0 nodata, 255 ignore).")
@click.option(
    "--legend",
    metavar="NAME|YAML",
    help=f"What SOURCE is, where its name does not say it: {_SOURCE_NAMES}; or a file with the classes (code, name, color) that come out.",
)
@click.option(
    "--min-purity", type=float, metavar="P", help="Finer labels: ignore pixels whose class has a smaller share (0..1) of the area."
)
@click.option("--class-field", metavar="NAME", help="Vector files: the field that holds the class.")
@click.option("--year", type=int, help="Year of the labels, where their name does not say it.")
@click.option("--max-years", type=click.IntRange(min=0), help="Refuse labels more years from the scene.  [default: 3]")
def command(
    source: Path,
    like: Path,
    out: Path,
    remap: str | None,
    legend: str | None,
    min_purity: float | None,
    class_field: str | None,
    year: int | None,
    max_years: int | None,
) -> None:
    """Put labels on a product's grid.

    SOURCE is a class raster, a folder or archive of its tiles (read in place), a GeoPackage, GeoJSON or Shapefile of polygons, or
    Dstl's table of polygons. JAXA FNF, ESA WorldCover, LC100, CORINE and HRLULC are known by their names; --remap sar5 makes five
    classes of each of them. Finer labels go by the largest area, coarser ones by the nearest pixel, labels on the same lattice
    are copied, polygons are drawn at pixel centres.

    \b
    Examples:
      sarseg labels ESA_WorldCover_10m_2021_v200_N45E012_Map.tif --like ard/S1A_..._gamma0 -o labels.tif --remap sar5
      sarseg labels S16W150_15_FNF_F02DAR.tar.gz --like mosaic.tif -o labels.tif --remap fnf --min-purity 0.8
      sarseg labels N05W060_17_FNF_F02DAR.zip --legend fnf4 --remap fnf --like mosaic.tif -o labels.tif
      sarseg labels fields.gpkg --class-field crop --legend crops.yaml --like ard/S1A_..._gamma0 -o labels.tif
      sarseg labels my_classes.tif --remap remap.yaml --legend legend.yaml --like ard/S1A_..._gamma0 -o labels.tif
      # remap.yaml:  10: 4
      #              80: 1
      #              default: 255
    """
    from sarseg.cli.common import progress_bar
    from sarseg.errors import UsageError
    from sarseg.labels.known import KINDS
    from sarseg.labels.options import LabelOptions
    from sarseg.labels.resample import make_labels
    from sarseg.legend import Legend

    named = legend in KINDS
    years = {} if max_years is None else {"max_years": max_years}
    options = LabelOptions(kind=legend if named else None, remap=remap, min_purity=min_purity, class_field=class_field, year=year, **years)
    if legend is not None and not named and not Path(legend).exists():
        raise UsageError(f"--legend {legend} is no known source and no file", None, f"known are {', '.join(KINDS)}")
    classes = Legend.from_file(Path(legend)) if legend is not None and not named else None
    with progress_bar() as progress:
        made = make_labels(source, like, out, options, legend=classes, progress=progress)
    click.echo(str(made))
