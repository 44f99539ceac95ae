"""Write a data set: windows of products and their labels, split by space, with an index; their pixels as sharded arrays, or not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sarseg.bands import choose_scales
from sarseg.legend import IGNORE
from sarseg.patches.contact import draw_contact_sheet
from sarseg.patches.cut import Cures, Cutter
from sarseg.patches.dataset import open_dataset
from sarseg.patches.layout import CONTACT_SHEET, DATASET, IMAGES, INDEX, LEGEND, MASKS, describe
from sarseg.patches.shards import ShardWriter
from sarseg.patches.sources import Source, open_sources
from sarseg.patches.split import PatchOptions, split_scenes
from sarseg.patches.tally import Tally
from sarseg.product.folder import create_folder, write_json
from sarseg.progress import Progress, silent
from sarseg.raster.cog import check_space

__all__ = ["INDEX", "PatchOptions", "Source", "write_dataset"]

log = logging.getLogger(__name__)

_SPACE_EVERY = 256  # patches between two looks at the free disk space
_CURES = Cures(
    nothing_trains=(
        "try a smaller --size, --block, --guard, --val-share, --min-valid or --test-bounds"
        " (in a configuration patches_size, patches_block_m, patches_guard_m, patches_val_share, patches_min_valid, patches_test_bounds)"
    ),
    nothing_validates=(
        "try a smaller --size, --block or --guard, a larger --val-share, or hold a scene out by --val-scene"
        " (in a configuration patches_size, patches_block_m, patches_guard_m, patches_val_share, patches_val_scenes)"
    ),
)


def write_dataset(out: Path, sources: Sequence[Source], options: PatchOptions, progress: Progress = silent) -> Path:
    """Cut windows of products and their labels into the data set folder `out`, and return it.

    The folder holds dataset.json, index.parquet, legend.yaml, contact_sheet.png to look at, images.zarr (float32 (n, band,
    size, size): linear power or raw values, NaN = nodata) and masks.zarr (uint8 (n, size, size): codes, 255 = not trained
    on, also under layover and shadow); with the store "windows" no arrays: the sources are then read when they are needed,
    and refused when they have changed. Windows are read in the order of blocks; memory does not grow with the scenes. Two
    runs write the same bytes.

    Raises
    ------
    InputError : images that differ in bands, labels on another grid, an image smaller than a patch, no training window
    """
    scenes = open_sources(sources, options)
    first = scenes[0]
    bands = choose_scales(first.bands, [first.usual_scale(band) for band in first.bands], options.scales)
    splitters = split_scenes([scene.grid for scene in scenes], [scene.name for scene in scenes], options)
    cutter = Cutter(scenes, splitters, options)
    tally = Tally(bands, first.legend, options.size)
    with create_folder(out, mark=DATASET) as part:
        if options.store == "arrays":
            _write_arrays(part, cutter, tally, progress)
        else:
            for patch in cutter.patches(progress):
                tally.add(patch)
        warnings = cutter.judge(tally, _CURES)
        tally.write_index(part / INDEX)
        first.legend.to_file(part / LEGEND)
        known = [{**scene.info(), **({"place": scene.place(out)} if options.store == "windows" else {})} for scene in scenes]
        kind = {"store": options.store, "quantity": first.product.quantity}
        write_json(part / DATASET, describe(tally, options, known, splitters, warnings, kind))
        draw_contact_sheet(open_dataset(part), part / CONTACT_SHEET, name=out.name)
    for warning in warnings:
        log.warning("%s: %s", out.name, warning)
    return out


def _write_arrays(part: Path, cutter: Cutter, tally: Tally, progress: Progress) -> None:
    size = cutter.options.size
    with (
        ShardWriter(part / IMAGES, (len(tally.bands), size, size), "float32", np.nan) as images,
        ShardWriter(part / MASKS, (size, size), "uint8", IGNORE) as masks,
    ):
        for patch in cutter.patches(progress):
            image, mask = patch.pixels.image, patch.pixels.mask
            if len(tally) % _SPACE_EVERY == 0:
                check_space(part, _SPACE_EVERY * (image.nbytes + mask.nbytes))
            images.append(image)
            masks.append(mask)
            tally.add(patch)
