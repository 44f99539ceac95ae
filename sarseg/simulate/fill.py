"""Fill the pixels of a product folder whose annotation is there: landscape -> power -> noise -> speckle -> DN."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sarseg.errors import InputError
from sarseg.progress import Progress, silent
from sarseg.raster.cog import check_space
from sarseg.simulate.annotation import (
    Calibration,
    Header,
    NoiseVectors,
    parse,
    read_calibration,
    read_geometry,
    read_header,
    read_noise,
)
from sarseg.simulate.landscape import Landscape
from sarseg.simulate.measurement import control_points, create_measurement
from sarseg.simulate.noise import beta0_amplitude, noise_power
from sarseg.simulate.options import Speckle
from sarseg.simulate.radar import Radar, make_radar
from sarseg.simulate.speckle import HALO, speckled
from sarseg.tiles import Window

_BLOCK_CELLS = 2_000_000
_LEAST_LINES = 64
_WORKERS = 4
_COVER_TOLERANCE = 1e-3

_Planes: TypeAlias = list[NDArray[np.uint16]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One polarisation of a product folder."""

    annotation: Path
    root: Any
    header: Header
    calibration: Calibration
    noise: NoiseVectors

    @property
    def measurement(self) -> Path:
        """Where its GeoTIFF belongs."""
        return self.annotation.parent.parent / "measurement" / f"{self.annotation.stem}.tiff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grain:
    """What makes the random numbers: the seed, and speckle or none."""

    seed: int
    speckle: Speckle


def read_channels(folder: Path, polarisations: tuple[str, ...] | None, origin: Path | None = None) -> tuple[Channel, ...]:
    """The channels whose annotation, calibration and noise are in a product folder, in the order VV, VH.

    `origin` is what an error should name when the folder is a copy. InputError when there is none, when a wanted one is
    absent, and for anything but an IW GRDH.
    """
    origin = origin or folder
    found: dict[str, Channel] = {}
    for path in sorted((folder / "annotation").glob("*.xml")):
        root = parse(path)
        header = read_header(root)
        if (header.mode, header.product_type) != ("IW", "GRD"):
            raise InputError(f"a template of mode {header.mode}, type {header.product_type}", origin, "give an IW GRDH product")
        tables = [folder / "annotation" / "calibration" / f"{name}-{path.name}" for name in ("calibration", "noise")]
        if header.polarisation in ("VV", "VH") and all(one.is_file() for one in tables):
            calibration, noise = (parse(one) for one in tables)
            found[header.polarisation] = Channel(
                annotation=path, root=root, header=header, calibration=read_calibration(calibration), noise=read_noise(noise)
            )
    wanted = polarisations or tuple(pol for pol in ("VV", "VH") if pol in found)
    missing = [pol for pol in wanted if pol not in found]
    if not wanted or missing:
        what = f"no annotation with calibration and noise for {' and '.join(missing) or 'VV or VH'}"
        raise InputError(what, origin, f"there is {' and '.join(found) or 'none'}")
    return tuple(found[pol] for pol in wanted)


def fill_product(
    landscape: Landscape, channels: tuple[Channel, ...], grain: Grain, *, window: Window | None = None, progress: Progress = silent
) -> dict[str, tuple[float, float]]:
    """Write the measurement files; returns mean and standard deviation of DN where there is data, by polarisation.

    Lines without landscape stay sparse. InputError when the landscape lies outside the image or the window.
    """
    geometry = read_geometry(channels[0].root)
    radar = make_radar(landscape, geometry, tuple(one.header.polarisation for one in channels))
    shape = geometry.lines, geometry.pixels
    place = channels[0].annotation.name
    if not radar.tiles:
        raise InputError("the landscape does not lie in the scene", place, "give heights inside the template's footprint")
    area = radar.extent().clip(shape)
    if area is not None and window is not None:
        area = area.intersect(window)
    if area is None:
        seen = radar.extent()
        hint = f"it covers the lines {seen.row} to {seen.row_stop - 1} and the pixels {seen.col} to {seen.col_stop - 1}"
        raise InputError("the landscape does not lie in the window", place, hint)
    folder = channels[0].measurement.parent
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, 2 * area.rows * geometry.pixels * len(channels))
    sums = {one.header.polarisation: np.zeros(3) for one in channels}
    with ExitStack() as stack:
        outputs = [stack.enter_context(create_measurement(one.measurement, shape, control_points(one.root))) for one in channels]
        blocks = _line_blocks(area)
        work = stack.enter_context(_in_order(partial(_block, radar, channels, grain), blocks))
        for number, (block, planes) in enumerate(zip(blocks, work, strict=True), start=1):
            for one, output, dn in zip(channels, outputs, planes, strict=True):
                output.write(block, dn)
                data = dn[dn > 0].astype(np.float64)
                sums[one.header.polarisation] += [len(data), data.sum(), (data**2).sum()]
            progress(number, len(blocks), "simulate")
    return {pol: _moments(one) for pol, one in sums.items()}


def _moments(sums: NDArray[np.float64]) -> tuple[float, float]:
    count = max(sums[0], 1.0)
    mean = float(sums[1] / count)
    return mean, float(np.sqrt(max(sums[2] / count - mean**2, 0.0)))


def _line_blocks(area: Window) -> list[Window]:
    """Whole-width blocks of lines: of bounded size, and enough of them for the workers."""
    share = -(-area.rows // min(_WORKERS, os.cpu_count() or 1))
    lines = max(_LEAST_LINES, min(_BLOCK_CELLS // area.cols, share))
    return [
        Window(row=row, col=area.col, rows=min(lines, area.row_stop - row), cols=area.cols) for row in range(area.row, area.row_stop, lines)
    ]


@contextmanager
def _in_order(function: Callable[[Window], _Planes], blocks: list[Window]) -> Iterator[Iterator[_Planes]]:
    """Results of the blocks in their order, made by a few threads that never run far ahead."""
    workers = min(_WORKERS, os.cpu_count() or 1)

    def results(pool: ThreadPoolExecutor) -> Iterator[_Planes]:
        waiting: deque[Future[_Planes]] = deque()
        for block in blocks:
            waiting.append(pool.submit(function, block))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    pool = ThreadPoolExecutor(workers)
    try:
        yield results(pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _block(radar: Radar, channels: tuple[Channel, ...], grain: Grain, window: Window) -> _Planes:
    """DN of every channel, uint16 (lines, pixels)."""
    wide = window.expand(HALO)
    image = radar.power(wide)
    area_m2 = radar.cell_area_m2(wide)
    theta_deg = radar.incidence_deg(wide)
    inside = np.abs(image[-1] - 1.0) < _COVER_TOLERANCE
    shape = radar.geometry.lines, radar.geometry.pixels
    out = []
    for plane, channel in enumerate(channels):
        noise = noise_power(channel.noise, shape, wide)
        mean = image[plane] / area_m2 * beta0_amplitude(channel.calibration, wide) ** 2 + noise
        known = inside & np.isfinite(mean)
        mean = np.where(known, mean, 0.0).astype(np.float32)
        if grain.speckle == "none":
            power = mean[HALO:-HALO, HALO:-HALO]
        else:
            stream = (channel.header.absolute_orbit, channel.header.data_take, ("VV", "VH").index(channel.header.polarisation))
            power = speckled(mean, theta_deg, window, grain.seed, stream)
        dn = np.clip(np.rint(np.sqrt(power)), 1.0, 65535.0)
        out.append(np.where(_whole(known), dn, 0.0).astype(np.uint16))
    return out


def _whole(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose whole neighbourhood of HALO pixels is known; the halo is cut off."""
    from scipy.ndimage import minimum_filter1d

    size = 2 * HALO + 1
    rows = minimum_filter1d(known.astype(np.uint8), size, axis=0, mode="constant")
    return np.asarray(minimum_filter1d(rows, size, axis=1, mode="constant")[HALO:-HALO, HALO:-HALO] > 0)
