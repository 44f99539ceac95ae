"""`sarseg labels`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("source", type=_FILE)
@click.option("--like", required=True, type=_FILE, metavar="ARD", help="Product folder or raster whose grid the labels get.")
@click.option("-o", "--out", required=True, type=_FILE, metavar="FILE", help="GeoTIFF to write.")
@click.option("--legend", type=_FILE, metavar="YAML", help="Classes (code, name, color); default: the tags of SOURCE.")
@click.option("--remap", type=_FILE, metavar="YAML", help="Codes for the values of SOURCE, one `value: code` a line; 0 nodata, 255 ignore.")
def command(source: Path, like: Path, out: Path, legend: Path | None, remap: Path | None) -> None:
    """Put the class raster SOURCE on a product's grid.

    Finer labels of the same CRS go by majority, others by the nearest pixel; labels on the same lattice are copied.

    \b
    Example:
      sarseg labels worldcover.tif --like ard/S1A_..._gamma0 -o labels.tif --legend legend.yaml --remap remap.yaml
      # remap.yaml:  10: 4
      #              80: 1
      #              default: 255
    """
    from sarseg.cli.common import progress_bar
    from sarseg.labels.resample import make_labels
    from sarseg.labels.sources import Remap
    from sarseg.legend import Legend

    with progress_bar() as progress:
        made = make_labels(
            source,
            like,
            out,
            legend=Legend.from_file(legend) if legend is not None else None,
            remap=Remap.from_file(remap) if remap is not None else None,
            progress=progress,
        )
    click.echo(str(made))
