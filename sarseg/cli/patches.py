"""`sarseg patches`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("images", metavar="ARD...", nargs=-1, required=True, type=_FILE)
@click.option("--labels", multiple=True, required=True, type=_FILE, metavar="FILE", help="Labels of each ARD, in the same order; repeat.")
@click.option("-o", "--out", required=True, type=_FILE, metavar="DATASET", help="Data set folder to write.")
@click.option("--size", type=int, help="Side of a patch, pixels [256].")
@click.option("--stride", type=int, help="Step of the grid of windows, pixels [--size].")
@click.option("--count", type=int, help="Draw so many windows at random instead of a grid.")
@click.option("--block", "block_m", type=float, help="Side of a block of the split, m (pixels without georeference) [from --size].")
@click.option("--guard", "guard_m", type=float, help="Least gap between training and other patches, m (or pixels) [a quarter patch].")
@click.option("--val-share", type=float, help="Share of the blocks that validate [0.2].")
@click.option("--test-bounds", type=float, nargs=4, metavar="XMIN YMIN XMAX YMAX", help="Region to test, in the first image's CRS.")
@click.option("--val-scene", "val_scenes", multiple=True, metavar="NAME", help="Whole scene that validates (all others train); repeat.")
@click.option("--test-scene", "test_scenes", multiple=True, metavar="NAME", help="Whole scene that tests; repeat.")
@click.option("--split", type=click.Choice(["blocks", "random"]), help="'random' leaks, and says so [blocks].")
@click.option("--band", "bands", multiple=True, metavar="NAME", help="Band to take, `incidence` too; repeat [all backscatter].")
@click.option("--scale", "scales", multiple=True, metavar="NAME=SCALE", help="How a band is seen: db, linear, correlation or raw; repeat.")
@click.option("--store", type=click.Choice(["arrays", "windows"]), help="'windows' copies no pixels: they are read from ARD [arrays].")
@click.option("--min-valid", type=float, help="Least share of pixels with data in a patch [0.5].")
@click.option("--seed", type=int, help="Of blocks and random windows [0].")
@click.option("--legend", type=_FILE, metavar="YAML", help="Classes; default: the tags of the labels.")
def command(
    images: tuple[Path, ...], labels: tuple[Path, ...], out: Path, legend: Path | None, scales: tuple[str, ...], **given: Any
) -> None:
    """Cut products and their labels into a data set for training.

    Training and validation are split by blocks of the map with a guard band between them. Scenes are named by their
    products' ids (for a raster: the file's name without its ending). Labels lie on the products' grids: `sarseg labels`.
    Look at contact_sheet.png in the data set before you train.

    \b
    Example:
      sarseg patches ard/A ard/B --labels labels/A.tif --labels labels/B.tif -o dataset --size 256 --count 2000
      sarseg patches T3.tif --labels labels.tif -o dataset --scale T11=db --scale T22=db --scale T12_real=correlation
    """
    from sarseg.cli.common import progress_bar
    from sarseg.errors import UsageError
    from sarseg.legend import Legend
    from sarseg.patches.sources import Source
    from sarseg.patches.split import PatchOptions
    from sarseg.patches.store import write_dataset

    if len(images) != len(labels):
        raise UsageError(f"{len(images)} images but {len(labels)} label files", hint="give --labels once an image, in the same order")
    options = PatchOptions(
        legend=Legend.from_file(legend) if legend is not None else None,
        scales=_scales(scales),
        **{name: value for name, value in given.items() if value not in (None, ())},
    )
    sources = [Source(image=image, labels=label) for image, label in zip(images, labels, strict=True)]
    with progress_bar() as progress:
        click.echo(str(write_dataset(out, sources, options, progress)))


def _scales(given: tuple[str, ...]) -> dict[str, Any]:
    """{band: scale} from the words NAME=SCALE; the options check the scales."""
    from sarseg.errors import UsageError

    found: dict[str, Any] = {}
    for word in given:
        name, equals, scale = word.rpartition("=")
        if not equals or not name or not scale:
            raise UsageError(f"--scale {word} is not NAME=SCALE", hint="--scale T11=db")
        if name in found:
            raise UsageError(f"--scale gives band {name} twice")
        found[name] = scale
    return found
