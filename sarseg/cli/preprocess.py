"""`sarseg preprocess`: scenes in, analysis-ready products out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sarseg.cli.common import echo_json, progress_bar
from sarseg.progress import Progress


@click.command("preprocess")
@click.argument("scenes", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SCENE...")
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="Folder for the products, a folder each.")
@click.option(
    "--dem",
    "dem",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Heights: a raster, or a folder of tiles (GLO-30, SRTM, ASTER, AW3D30 as downloaded); may be given several times.",
)
@click.option(
    "--dem-datum",
    type=click.Choice(["ellipsoidal", "egm96", "egm2008"]),
    help="What the DEM's heights count from; wins over its CRS and its name.",
)
@click.option("--geoid", type=click.Path(path_type=Path), help="Geoid grid (us_nga_egm96_15.tif); else PROJ's folders are searched.")
@click.option("--engine", type=click.Choice(["native", "snap"]), default="native", show_default=True, help="snap: ESA SNAP computes.")
@click.option(
    "--radiometry",
    type=click.Choice(["gamma0", "gamma0-rtc", "sigma0", "beta0"]),
    default="gamma0",
    show_default=True,
    help="Backscatter; gamma0-rtc (terrain flattened) with --engine snap only, beta0 without it.",
)
@click.option("--spacing", "spacing_m", type=float, default=10.0, show_default=True, help="Pixel size in metres.")
@click.option("--crs", help="Of the product, such as EPSG:32633; the UTM zone of the scene's centre when absent.")
@click.option("--orbit", type=click.Path(path_type=Path), help="Orbit file (EOF), or a folder of them: the best one is taken.")
@click.option("--speckle", type=click.Choice(["none", "lee"]), default="none", show_default=True, help="Filter, in radar geometry.")
@click.option("--window", type=click.IntRange(min=1), default=7, show_default=True, help="Side of the filter's window, pixels, odd.")
@click.option("--looks", type=float, default=4.4, show_default=True, help="Equivalent number of looks, for the filter.")
@click.option("--polarimetry", type=click.Choice(["c3", "t3", "pauli"]), help="Matrix of a quad-polarised L1.1 scene, not its powers.")
@click.option("--compress", type=click.Choice(["zstd", "deflate"]), default="zstd", show_default=True, help="deflate for old readers.")
@click.option("--threads", type=click.IntRange(min=1), help="Workers; one a processor when absent.")
@click.option("--gpt", type=click.Path(path_type=Path), help="SNAP's gpt, or SNAP's folder; else $SNAP_HOME, else the PATH.")
@click.option(
    "--time-limit", "limit_min", type=click.FloatRange(min=0, min_open=True), help="Minutes for SNAP's work on a scene. [default: 1440]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    scenes: tuple[Path, ...],
    out: Path,
    dem: tuple[Path, ...],
    dem_datum: str | None,
    geoid: Path | None,
    engine: str,
    radiometry: str,
    spacing_m: float,
    crs: str | None,
    orbit: Path | None,
    speckle: str,
    window: int,
    looks: float,
    polarimetry: str | None,
    compress: str,
    threads: int | None,
    gpt: Path | None,
    limit_min: float | None,
    as_json: bool,
) -> None:
    """Make analysis-ready backscatter on a map grid from scenes.

    SCENE is a Sentinel-1 GRD or (with --engine snap) IW SLC product (its .SAFE folder, the zip as downloaded, or its
    manifest.safe) or a PALSAR or PALSAR-2 CEOS product of level 1.1 or 1.5 (its folder, the zip as downloaded, or its LED- file).
    Each becomes a folder OUTPUT/<scene id>_<radiometry> with a GeoTIFF a polarisation (linear power, thermal noise removed), mask.tif
    (layover, shadow ...), incidence.tif, a quicklook and item.json. The mask's bits are named inside the file.

    The heights may count from the ellipsoid or from a geoid (EGM96, EGM2008): the DEM's CRS or name says which, else
    --dem-datum must. Free tiles of the whole Earth: Copernicus GLO-30, for example the bucket copernicus-dem-30m of AWS Open Data.

    --polarimetry c3, t3 or pauli writes the covariance matrix (C11, C12_real ...), the coherency matrix (T11, T12_real ...) or the Pauli
    powers (T11, T22, T33) of a quad-polarised PALSAR scene, into OUTPUT/<scene id>_<radiometry>_<matrix>.

    --engine snap lets an installed ESA SNAP (10 or newer) compute the backscatter; the product has the same files, grid and mask.

    Example: sarseg preprocess S1A_IW_GRDH_*.zip -o ard --dem glo30/ --geoid us_nga_egm08_25.tif
    """
    from sarseg.ard.preprocess import PreprocessOptions, preprocess
    from sarseg.errors import UsageError

    flattened = radiometry == "gamma0-rtc"
    if engine == "native" and (flattened or gpt is not None or limit_min is not None):
        asked = "--radiometry gamma0-rtc" if flattened else "--gpt" if gpt is not None else "--time-limit"
        raise UsageError(f"{asked} is for SNAP", None, "add --engine snap, or leave it away")
    words: dict[str, Any] = {
        "radiometry": "gamma0" if flattened else radiometry,
        "dem_datum": dem_datum,
        "speckle": None if speckle == "none" else speckle,
        "polarimetry": polarimetry,
        "compress": compress,
    }
    options = PreprocessOptions(
        **words, spacing_m=spacing_m, crs=crs, geoid=geoid, orbit=orbit, window=window, looks=looks, threads=threads
    )

    def make(scene: Path, progress: Progress) -> Path:
        if engine == "native":
            return preprocess(scene, out, list(dem), options, progress)
        from sarseg.ard.snap.engine import SnapOptions, preprocess_snap

        limit: dict[str, Any] = {} if limit_min is None else {"time_limit_s": 60.0 * limit_min}
        return preprocess_snap(scene, out, list(dem), options, SnapOptions(gpt=gpt, flattened=flattened, **limit), progress)

    with progress_bar() as progress:
        folders = [make(scene, progress) for scene in scenes]
    if as_json:
        echo_json({"products": folders})
        return
    for folder in folders:
        click.echo(f"product: {folder}")
