"""`sarseg compare`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("a", metavar="A", type=str)
@click.argument("b", metavar="B", type=str)
@click.option("--classes", type=_FILE, metavar="FILE", help="Class raster or map folder, on any grid: differences by class too.")
@click.option("--legend", type=_FILE, metavar="YAML", help="Its classes, where the file does not name them.")
@click.option("--incidence-step", type=float, default=5.0, show_default=True, metavar="DEG", help="Width of the incidence bins.")
@click.option("--mixed", is_flag=True, help="Compare although one is sigma0 and the other gamma0.")
@click.option("-o", "--out", type=_FILE, metavar="FILE", help="Write the result as JSON, and beside it a picture (PNG).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(
    a: str,
    b: str,
    classes: Path | None,
    legend: Path | None,
    incidence_step: float,
    mixed: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure how the product or raster B differs from A.

    Shift in pixels and metres, bias, rms and percentiles in dB, agreement of masks.

    A and B are whatever lies on the map: product folders, SNAP's .dim files, HyP3, OPERA, JAXA mosaics, GeoTIFFs. On another
    grid B is resampled to A's pixels, which the result says. Every difference is B - A; dB count only where both are above
    -50 dB, "power ratio" is of the mean powers of all pixels.

    \b
    Examples:
      sarseg compare native/S1A_..._gamma0 snap/S1A_..._gamma0
      sarseg compare ard/S1A_..._gamma0 S1A_..._RTC30_G_gpuned_FD6A --classes worldcover.tif -o difference.json
    """
    from sarseg.assess.compare import CompareOptions, compare
    from sarseg.assess.compare_report import describe, text, write
    from sarseg.cli.common import echo_json, progress_bar
    from sarseg.legend import Legend

    names = Legend.from_file(legend) if legend is not None else None
    options = CompareOptions(classes=classes, legend=names, mixed=mixed, incidence_step_deg=incidence_step)
    with progress_bar() as progress:
        found = compare(a, b, options, progress)
    if out is not None:
        write(found, out)
    if as_json:
        echo_json(describe(found))
    else:
        click.echo(text(found))
