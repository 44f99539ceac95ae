"""`generate_train_data`: random patches of images and masks as plain files, from two plain folders."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as GdalWindow

from sarseg.bands import BandScale
from sarseg.errors import UsageError
from sarseg.grid import MapGrid
from sarseg.legend import IGNORE, Legend
from sarseg.patches.contact import draw_contact_sheet
from sarseg.patches.cut import Cures, Cutter
from sarseg.patches.dataset import open_dataset
from sarseg.patches.layout import CONTACT_SHEET, DATASET, INDEX, LEGEND, describe
from sarseg.patches.pairs import MaskCodes, Pair, find_pairs, mask_codes
from sarseg.patches.split import folder_options, split_scenes
from sarseg.patches.tally import Pixels, Tally
from sarseg.patches.windows import check_size
from sarseg.product.folder import create_folder, write_json
from sarseg.progress import Progress, silent
from sarseg.raster.cog import check_space
from sarseg.raster.read import Raster
from sarseg.tiles import Window

log = logging.getLogger(__name__)

_PNG_BANDS = (1, 3)
_SPACE_EVERY = 256  # patches between two looks at the free disk space
_CURES = Cures(
    nothing_trains="try a smaller size, val_share or min_valid",
    nothing_validates="try a smaller size, a larger val_share, or more images",
)


def generate_train_data(  # noqa: PLR0913 - the signature that users of the older script know, and what it lacked
    nb_of_patches: int = 80000,
    size: int = 256,
    image_dir: str | Path = "data/train/images/",
    mask_dir: str | Path = "data/train/masks/",
    out_dir: str | Path = "dataset/train",
    legend: Legend | str | Path | None = None,
    *,
    seed: int = 0,
    min_valid: float = 0.5,
    val_share: float = 0.2,
    progress: Progress = silent,
) -> Path:
    """Cut different random windows of images and masks into `out_dir`/images and `out_dir`/masks, and return `out_dir`.

    Files are called 00001, 00002, ... in both folders: PNG for images uint8 of 1 or 3 bands without georeference, else
    GeoTIFF with the image's dtype, bands, CRS, place, nodata, scale and band names. Masks hold codes of the legend, 255 =
    ignore. index.parquet says where each patch lies and to which split it belongs, dataset.json holds bands, statistics and
    legend, legend.yaml the classes, contact_sheet.png shows it all. The sources are only read, a window at a time.

    Parameters
    ----------
    nb_of_patches : so many are written, unless there are not so many different windows; then a warning says why
    image_dir, mask_dir : rasters of any kind, paired by name (without the ending) and place
    legend : classes with colours (or its YAML file) for masks that are coloured, or that do not name their codes
    min_valid : least share of pixels with data in a patch
    val_share : share of whole images (where some stand apart), else of blocks of the map or image, that validates

    Raises
    ------
    InputError : no pairs, a mask on another grid or of another size, an image smaller than a patch, a colour without class
    """
    out = Path(out_dir)
    if nb_of_patches < 1 or size < 1:
        raise UsageError(f"{nb_of_patches} patches of {size} pixels cannot be made")
    _keep_apart(out, (Path(image_dir), Path(mask_dir)))
    pairs, said = find_pairs(Path(image_dir), Path(mask_dir))
    for pair in pairs:
        check_size(pair.image.grid.shape, size, pair.image.path)
    codes, more = mask_codes(pairs, Legend.from_file(Path(legend)) if isinstance(legend, str | Path) else legend)
    said += more
    grids, names = [pair.image.grid for pair in pairs], [pair.name for pair in pairs]
    plan = folder_options(grids, names, size=size, seed=seed, val_share=val_share)
    options = replace(plan, count=nb_of_patches, min_valid=min_valid)
    splitters = split_scenes(grids, names, options)
    scenes = [_PairScene(pair, codes) for pair in pairs]
    cutter = Cutter(scenes, splitters, options, guard_bands="in")
    bands = pairs[0].image.bands
    tally = Tally([BandScale(name=name, scale="raw") for name in bands], codes.legend, size)
    with create_folder(out, mark=DATASET) as part:
        files = _write_files(part, scenes, cutter, tally, progress)
        said += cutter.judge(tally, _CURES)
        tally.write_index(part / INDEX, file=files)
        codes.legend.to_file(part / LEGEND)
        sources = [
            {
                "name": pair.name,
                "image": Path(pair.image.path).name,
                "labels": Path(pair.mask.path).name,
                "shape": list(pair.image.grid.shape),
            }
            for pair in pairs
        ]
        kind = {"store": "files", "quantity": "raw"}
        write_json(part / DATASET, describe(tally, options, sources, splitters, said, kind))
        draw_contact_sheet(open_dataset(part), part / CONTACT_SHEET, name=out.name)
    for warning in said:
        log.warning("%s: %s", out.name, warning)
    return out


@dataclass(frozen=True)
class _PairScene:
    pair: Pair
    codes: MaskCodes

    @property
    def name(self) -> str:
        return self.pair.name

    @property
    def grid(self) -> MapGrid:
        return self.pair.image.grid

    @property
    def labels_path(self) -> str:
        return self.pair.mask.path

    @cached_property
    def scaling(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and offset of every band: they travel with the stored numbers."""
        with _quiet(), rasterio.open(self.pair.image.path) as dataset:
            numbers = self.pair.image.numbers
            return tuple(dataset.scales[at - 1] for at in numbers), tuple(dataset.offsets[at - 1] for at in numbers)

    def read(self, window: Window) -> Pixels:
        image, mask = self.pair.image.read(window), self.codes.read(self.pair, window)
        mask[np.isnan(image).any(0)] = IGNORE
        return Pixels(image=image, mask=mask, stored=_stored(self.pair.image, window))


def _stored(raster: Raster, window: Window) -> NDArray[Any]:
    """The file's own numbers (band, rows, cols), without an alpha band."""
    with _quiet(), rasterio.open(raster.path) as dataset:
        return np.asarray(dataset.read(list(raster.numbers), window=GdalWindow(window.col, window.row, window.cols, window.rows)))


def _write_files(part: Path, scenes: list[_PairScene], cutter: Cutter, tally: Tally, progress: Progress) -> list[str]:
    """Write the patches as files, and return their names, which are the same in both folders."""
    names: list[str] = []
    for folder in ("images", "masks"):
        (part / folder).mkdir()
    for patch in cutter.patches(progress):
        pixels, scene = patch.pixels, scenes[patch.scene]
        raster = scene.pair.image
        assert pixels.stored is not None
        if len(tally) % _SPACE_EVERY == 0:
            check_space(part, _SPACE_EVERY * (pixels.stored.nbytes + pixels.mask.nbytes))
        window = Window(row=patch.place.row, col=patch.place.col, rows=tally.size, cols=tally.size)
        grid = raster.grid.crop(window)
        name = f"{len(tally) + 1:05d}"
        if grid.crs is None and raster.dtype == "uint8" and len(raster.bands) in _PNG_BANDS:
            name += ".png"
            _write_png(part / "images" / name, pixels.stored)
            _write_png(part / "masks" / name, pixels.mask[np.newaxis])
        else:
            name += ".tif"
            _write_tiff(part / "images" / name, pixels.stored, grid, like=scene)
            _write_tiff(part / "masks" / name, pixels.mask[np.newaxis], grid, legend=tally.legend)
        names.append(name)
        tally.add(patch)
    return names


def _write_png(path: Path, data: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(data[0] if len(data) == 1 else np.moveaxis(data, 0, -1)).save(path, compress_level=1)


def _write_tiff(path: Path, data: NDArray[Any], grid: MapGrid, *, like: _PairScene | None = None, legend: Legend | None = None) -> None:
    """A small plain GeoTIFF: the folder is published in one step, so that files need not be, and overviews are of no use.

    Images stay uncompressed: training reads them twice as fast.
    """
    bands, rows, cols = data.shape
    profile: dict[str, Any] = {"driver": "GTiff", "count": bands, "height": rows, "width": cols, "dtype": data.dtype.name}
    if bands != 3:
        profile["photometric"] = "MINISBLACK"  # or GDAL calls the fourth band of uint8 transparency
    if grid.crs is not None:
        profile |= {"crs": grid.crs, "transform": grid.transform}
    profile |= {"compress": "deflate"} if like is None else {"nodata": like.pair.image.nodata}
    with _quiet(), rasterio.open(path, "w", **profile) as file:
        if like is not None:
            file.descriptions = like.pair.image.bands
            file.scales, file.offsets = like.scaling
        if legend is not None:
            file.update_tags(**legend.tags())
            file.write_colormap(1, legend.colormap())
        file.write(data)


def _quiet() -> warnings.catch_warnings[None]:
    """Images without georeference are no cause for a warning here."""
    return warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning)


def _keep_apart(out: Path, sources: tuple[Path, ...]) -> None:
    for source in sources:
        if source.resolve().is_relative_to(out.resolve()):
            raise UsageError(f"{source} lies in the output folder", out, "sources are never replaced: choose another output folder")
