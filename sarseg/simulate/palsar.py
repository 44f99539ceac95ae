"""A complete PALSAR or PALSAR-2 product in CEOS format over a landscape whose truth is known (docs/palsar.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarseg.constants import SPEED_OF_LIGHT_M_S
from sarseg.progress import Progress, silent
from sarseg.raster.ceos import walk
from sarseg.raster.cog import check_space
from sarseg.simulate.landscape import DEM_NAME, LEGEND_NAME, TRUTH_NAME, make_landscape, read_landscape, write_landscape
from sarseg.simulate.lband import NOISE_SIGMA0_DB
from sarseg.simulate.palsar_files import record_bytes, summary_text, trailer_file, volume_file, write_images
from sarseg.simulate.palsar_leader import leader_file, scene_values
from sarseg.simulate.palsar_modes import CALIBRATION_DB, SLC_DB, PalsarOptions
from sarseg.simulate.palsar_plan import PalsarPlan, plan_scene
from sarseg.simulate.palsar_radar import CROSS, PalsarRadar, make_palsar_radar
from sarseg.simulate.palsar_speckle import HALO, kernel, smoothed, white
from sarseg.simulate.publish import publish, unfinished
from sarseg.tiles import Window

_BLOCK_PIXELS = 1_500_000
_LEAST_LINES = 64
_STREAM = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPalsar:
    """What was written: the product (folder or zip), and the truth of its landscape."""

    product: Path
    dem: Path
    truth: Path
    legend: Path


def simulate_palsar(out: Path, options: PalsarOptions, progress: Progress = silent) -> SimulatedPalsar:
    """Write a product into folder `out`, and the landscape's truth beside it unless the landscape was written before.

    InputError when no orbit sees the landscape under the wanted incidence, or when `options.landscape_dir` holds none.
    """
    folder = options.landscape_dir or out
    landscape = read_landscape(folder) if options.landscape_dir is not None else make_landscape(options.landscape)
    plan = plan_scene(landscape, options)
    radar = make_palsar_radar(landscape, plan)
    with unfinished(out) as work:
        product = work / plan.name
        product.mkdir()
        size = plan.image.shape[0] * record_bytes(plan) * len(options.polarisations)
        check_space(out, size)
        write_images(product, plan, _blocks(radar, progress))
        leader = leader_file(scene_values(plan))
        (product / f"LED-{plan.name}").write_bytes(leader)
        (product / f"VOL-{plan.name}").write_bytes(volume_file(plan, [len(one.content) for one in walk(leader, "leader")]))
        (product / f"TRL-{plan.name}").write_bytes(trailer_file(plan))
        (product / "summary.txt").write_text(summary_text(plan, (size + len(leader)) / 1e6), encoding="ascii")
        if options.landscape_dir is None:
            write_landscape(landscape, out)
        final = publish(product, out, zipped=options.zipped)
    return SimulatedPalsar(product=final, dem=folder / DEM_NAME, truth=folder / TRUTH_NAME, legend=folder / LEGEND_NAME)


def _blocks(radar: PalsarRadar, progress: Progress) -> Iterator[tuple[Window, list[NDArray[Any]]]]:
    """Blocks of whole lines with the pixels of every polarisation."""
    lines, pixels = radar.plan.image.shape
    step = max(_LEAST_LINES, _BLOCK_PIXELS // pixels)
    taps = _taps(radar.plan)
    for row in range(0, lines, step):
        window = Window(row=row, col=0, rows=min(step, lines - row), cols=pixels)
        yield window, _block(radar, window, taps)
        progress(window.row_stop, lines, "simulate")


def _taps(plan: PalsarPlan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernels along lines' and pixels' directions: shares of the band that the raster's sampling gives.

    A geocoded image gets those of its scene along the map's axes.
    """
    mode = plan.options.mode
    if plan.options.level == "1.1":
        return kernel(mode.azimuth_hz / mode.prf_hz), kernel(mode.range_hz / mode.sampling_hz)
    t_s, slant_m = plan.image.to_radar(*(np.array(one) for one in plan.middle))
    point, later = (plan.view.ground(t_s + shift, slant_m, 0.0) for shift in (0.0, 1.0))
    speed_m_s = float(np.linalg.norm(later - point))
    sine = math.sin(math.radians(float(plan.view.incidence_deg(t_s, point))))
    azimuth = mode.azimuth_hz / len(mode.looks) * mode.spacing_m / speed_m_s
    return kernel(azimuth), kernel(mode.range_hz * 2.0 * sine * mode.spacing_m / SPEED_OF_LIGHT_M_S)


def _block(radar: PalsarRadar, window: Window, taps: tuple[NDArray[np.float64], NDArray[np.float64]]) -> list[NDArray[Any]]:
    """Pixels of every polarisation, uint16 or complex64 (lines, pixels); 0 = no data."""
    options = radar.plan.options
    slant = options.level == "1.1"
    sigma0, inside = radar.sigma0(window.expand(HALO))
    signal = dict(zip(radar.channels, np.where(inside, sigma0, 0.0), strict=True))
    known = _whole(inside)
    scale = 10.0 ** (-0.1 * (CALIBRATION_DB + (SLC_DB if slant else 0.0)))
    if not options.speckle:
        noise = 10.0 ** (0.1 * NOISE_SIGMA0_DB)
        means = (signal["HV" if pol == "VH" else pol][HALO:-HALO, HALO:-HALO] + noise for pol in options.polarisations)
        return [_samples(np.sqrt(mean * scale), known, slant) for mean in means]
    if slant:
        ramp = _ramp(radar.plan, window)
        fields = (smoothed(field, taps) for field in _fields(radar, signal, window, 0))
        return [_samples(field * ramp * np.float32(math.sqrt(scale)), known, slant) for field in fields]
    weights = options.mode.looks
    power = [np.zeros(window.shape, np.float32) for _ in options.polarisations]
    for look, weight in enumerate(weights):
        for total, field in zip(power, _fields(radar, signal, window, look), strict=True):
            total += np.float32(weight / sum(weights)) * np.abs(smoothed(field, taps)) ** 2
    return [_samples(np.sqrt(total * scale), known, slant) for total in power]


def _samples(amplitude: NDArray[Any], known: NDArray[np.bool_], slant: bool) -> NDArray[Any]:
    if slant:
        return np.where(known, amplitude, 0.0).astype(np.complex64)
    return np.where(known, np.clip(np.rint(amplitude), 1.0, 65535.0), 0.0).astype(np.uint16)


def _whole(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose whole neighbourhood of HALO pixels is known; the halo is cut off."""
    from scipy.ndimage import minimum_filter

    return np.asarray(minimum_filter(known.astype(np.uint8), 2 * HALO + 1, mode="constant")[HALO:-HALO, HALO:-HALO] > 0)


def _fields(radar: PalsarRadar, signal: dict[str, NDArray[np.float64]], window: Window, look: int) -> Iterator[NDArray[np.complex64]]:
    """What comes back from each pixel before the sensor's bandwidths, complex64 with a halo, in the polarisations' order.

    The two co-polarised fields of quad polarisation are correlated as `CROSS` says; HV and VH are one field. Each polarisation has
    noise of its own.
    """
    options = radar.plan.options
    stream = (_STREAM, radar.plan.absolute_orbit, look)
    wide = window.expand(HALO)
    noise = np.float32(10.0 ** (0.05 * NOISE_SIGMA0_DB))
    scattered: dict[str, NDArray[Any]] = {}
    for number, pol in enumerate(options.polarisations):
        if pol == "HH":
            scattered[pol] = np.sqrt(signal[pol]) * white(options.seed, (*stream, 0), wide)
        elif pol in ("HV", "VH") and "HV" not in scattered:
            scattered["HV"] = np.sqrt(signal["HV"]) * white(options.seed, (*stream, 1), wide)
        elif pol == "VV":
            common = np.where(signal["HH"] > 0.0, signal[CROSS] / np.maximum(signal["HH"], 1e-30), 0.0)
            own = np.maximum(signal["VV"] - common * signal[CROSS], 0.0)
            scattered[pol] = common * scattered["HH"] + np.sqrt(own) * white(options.seed, (*stream, 2), wide)
        field = scattered["HV" if pol == "VH" else pol]
        yield (field + noise * white(options.seed, (*stream, 3 + number), wide)).astype(np.complex64)


def _ramp(plan: PalsarPlan, window: Window) -> NDArray[np.complex64]:
    """Phase that puts the azimuth spectrum around the Doppler frequency, complex64 (lines, pixels)."""
    _, slant_m = plan.image.to_radar(np.array(0.0), np.arange(window.col, window.col_stop, dtype=np.float64))
    cycles = np.arange(window.row, window.row_stop)[:, np.newaxis] * (plan.view.frequency_hz(slant_m) / plan.options.mode.prf_hz)
    return np.asarray(np.exp(2j * np.pi * (cycles % 1.0)), np.complex64)
