"""A Sentinel-1 IW SLC as its files say it, burst by burst, put together as SNAP's Deburst does; nothing of sarseg is used here."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

LUTS = {"sigma0": "sigmaNought", "beta0": "betaNought", "gamma0": "gamma"}


@dataclass(frozen=True)
class Swath:
    """One annotation: first line (microseconds) and valid samples of each burst, and the sampling."""

    name: str
    root: ET.Element
    swath: str
    polarisation: str
    starts_us: list[int]
    valid: list[np.ndarray]  # (lines, 2) each
    interval_s: float
    sampling_hz: float
    tau_s: float

    def number(self, path: str) -> float:
        return float(self.root.findtext(path))


@dataclass(frozen=True)
class Pieces:
    """A part of the image of all bursts: |DN|, thermal noise in DN^2, calibration tables by quantity, by polarisation; 0 outside."""

    dn: dict[str, np.ndarray]
    noise: dict[str, np.ndarray]
    amplitude: dict[str, dict[str, np.ndarray]]


def us(text: str) -> int:
    return int(np.datetime64(text.strip(), "us").astype(np.int64))


def contents(product: Path) -> dict[str, bytes]:
    """The XML files of a folder or a zip, by their names in the SAFE folder."""
    if product.is_dir():
        return {str(path.relative_to(product)): path.read_bytes() for path in sorted(product.rglob("*.xml"))}
    with zipfile.ZipFile(product) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".xml"))
        return {name.partition(".SAFE/")[2] or name: archive.read(name) for name in names}


def swaths_of(product: Path) -> list[Swath]:
    """The annotations, from near to far range."""
    found = []
    for name, content in contents(product).items():
        if len(PurePosixPath(name).parts) > 2:
            continue
        root = ET.fromstring(content)
        bursts = root.findall("swathTiming/burstList/burst")
        image = "imageAnnotation/imageInformation"
        ends = [[np.array(one.findtext(f"{end}ValidSample").split(), int) for end in ("first", "last")] for one in bursts]
        found.append(
            Swath(
                name=name,
                root=root,
                swath=root.findtext("adsHeader/swath"),
                polarisation=root.findtext("adsHeader/polarisation"),
                starts_us=[us(one.findtext("azimuthTime")) for one in bursts],
                valid=[np.stack(pair, axis=1) for pair in ends],
                interval_s=float(root.findtext(f"{image}/azimuthTimeInterval")),
                sampling_hz=float(root.findtext("generalAnnotation/productInformation/rangeSamplingRate")),
                tau_s=float(root.findtext(f"{image}/slantRangeTime")),
            )
        )
    return sorted(found, key=lambda one: one.tau_s)


def place(swaths: list[Swath], swath: Swath, burst: int) -> tuple[int, int]:
    """Line and pixel of a burst's first sample in the image of all."""
    origin_us, near_s = min(one.starts_us[0] for one in swaths), min(one.tau_s for one in swaths)
    return round((swath.starts_us[burst] - origin_us) / 1e6 / swath.interval_s), round((swath.tau_s - near_s) * swath.sampling_hz)


def covered(swaths: list[Swath], line: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Whether any burst has a valid sample at whole lines and pixels, one by one."""
    out = np.zeros(line.shape, bool)
    for swath in swaths:
        for burst, valid in enumerate(swath.valid):
            row, col = place(swaths, swath, burst)
            inside = (line >= row) & (line < row + len(valid))
            ends = valid[np.where(inside, line - row, 0)]
            out |= inside & (ends[..., 0] >= 0) & (pixel - col >= ends[..., 0]) & (pixel - col <= ends[..., 1])
    return out


def deburst(product: Path, rows: tuple[int, int], cols: tuple[int, int]) -> Pieces:
    """The part of the image between two lines and two pixels: each line of one burst, cut in the middle of overlaps."""
    texts, swaths = contents(product), swaths_of(product)
    shape = rows[1] - rows[0], cols[1] - cols[0]
    made = Pieces({}, {}, {})
    for polarisation in sorted({one.polarisation for one in swaths}):
        dn, noise = np.zeros(shape, np.float32), np.zeros(shape)
        amplitude = {quantity: np.zeros(shape) for quantity in LUTS}
        mine = [one for one in swaths if one.polarisation == polarisation]
        filled, cut = np.zeros(shape, bool), 0
        for swath in mine:
            for burst, (low, high) in enumerate(_cuts(mine, swath)):
                row, col = place(mine, swath, burst)
                start, stop = max(rows[0], low), min(rows[1], high)
                left, right = max(cols[0], col), min(cols[1], col + int(swath.valid[burst].max()) + 1)
                if start >= stop or left >= right:
                    continue
                here = slice(start - rows[0], stop - rows[0]), slice(left - cols[0], right - cols[0])
                line, pixel = np.arange(start, stop) - row, np.arange(left, right) - col
                ends = swath.valid[burst][line]
                good = (ends[:, :1] >= 0) & (pixel >= ends[:, :1]) & (pixel <= ends[:, 1:])
                good &= ~filled[here] | (pixel + col >= cut)
                t_us = swath.starts_us[burst] + line * swath.interval_s * 1e6
                raw = line + burst * len(swath.valid[burst])
                filled[here] |= good
                dn[here][good] = _samples(product, swath, raw, pixel)[good]
                noise[here][good] = _noise(_table(texts, swath, "noise"), t_us, raw, pixel)[good]
                for quantity, tag in LUTS.items():
                    vectors = _table(texts, swath, "calibration").findall("calibrationVectorList/calibrationVector")
                    amplitude[quantity][here][good] = _bilinear(vectors, tag, t_us, pixel)[good]
            cut = _seam(mine, swath)
        made.dn[polarisation], made.noise[polarisation], made.amplitude[polarisation] = dn, noise, amplitude
    return made


def _cuts(swaths: list[Swath], swath: Swath) -> list[tuple[int, int]]:
    """The lines that each burst gives to the image: from one to before another."""
    ends = []
    for burst, valid in enumerate(swath.valid):
        lines = place(swaths, swath, burst)[0] + np.flatnonzero(valid[:, 0] >= 0)
        ends.append((int(lines[0]), int(lines[-1]) + 1))
    middle = [(before[1] + after[0]) // 2 for before, after in pairwise(ends)]
    return list(zip([ends[0][0], *middle], [*middle, ends[-1][1]], strict=True))


def _seam(swaths: list[Swath], swath: Swath) -> int:
    """The first pixel of the next swath, in the middle of the overlap in range."""
    at = swaths.index(swath)
    if at + 1 == len(swaths):
        return 0
    after = swaths[at + 1]
    near = place(swaths, after, 0)[1] + max(int(valid[:, 0].max()) for valid in after.valid)
    return (near + place(swaths, swath, 0)[1] + max(int(valid.max()) for valid in swath.valid)) // 2


def _table(texts: dict[str, bytes], swath: Swath, kind: str) -> ET.Element:
    return ET.fromstring(texts[f"annotation/calibration/{kind}-{PurePosixPath(swath.name).name}"])


def _bilinear(vectors: list[ET.Element], tag: str, t_us: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """Tables in time and along the pixels, (lines, pixels); straight on beyond the last vector."""
    times = np.array([us(one.findtext("azimuthTime")) for one in vectors], float)
    rows = [np.interp(pixel, *(np.array(one.findtext(name).split(), float) for name in ("pixel", tag))) for one in vectors]
    after = np.clip(np.searchsorted(times, t_us), 1, len(times) - 1)
    weight = ((t_us - times[after - 1]) / (times[after] - times[after - 1]))[:, None]
    table = np.stack(rows)
    return table[after - 1] * (1 - weight) + table[after] * weight


def _noise(root: ET.Element, t_us: np.ndarray, raw: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    along = root.find("noiseAzimuthVectorList/noiseAzimuthVector")
    factor = np.interp(raw, *(np.array(along.findtext(name).split(), float) for name in ("line", "noiseAzimuthLut")))
    return _bilinear(root.findall("noiseRangeVectorList/noiseRangeVector"), "noiseRangeLut", t_us, pixel) * factor[:, None]


def image_name(swath: Swath) -> str:
    return f"measurement/{PurePosixPath(swath.name).stem}.tiff"


def _samples(product: Path, swath: Swath, raw: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """|DN| of neighbouring lines and pixels of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(product / image_name(swath)) as file:
            return np.abs(file.read(1, window=Window(int(pixel[0]), int(raw[0]), len(pixel), len(raw))))


def write_samples(folder: Path, dn: dict[str, int], dark: dict[str, tuple[int, int, int, int]], part: tuple[int, int, int, int]) -> None:
    """Sparse images for all annotations of an unpacked product: a constant |DN| by swath in the lines and pixels of `part`.

    Parameters
    ----------
    dn : by swath
    dark : by swath, first line, last line, first pixel, last pixel of the image of all, where the DN is 1 + 0j
    part : of the image of all, as in `dark`
    """
    swaths = swaths_of(folder)
    (folder / "measurement").mkdir(exist_ok=True)
    for swath in swaths:
        lines, samples = (int(swath.number(f"imageAnnotation/imageInformation/numberOf{what}")) for what in ("Lines", "Samples"))
        profile = {"driver": "GTiff", "count": 1, "height": lines, "width": samples, "dtype": "complex_int16", "compress": "deflate"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(folder / image_name(swath), "w", **profile, tiled=True, sparse_ok=True) as file:
                for burst, valid in enumerate(swath.valid):
                    row, col = place(swaths, swath, burst)
                    start, stop = max(part[0], row), min(part[1], row + len(valid))
                    left, right = max(part[2], col), min(part[3], col + samples)
                    if start >= stop or left >= right:
                        continue
                    line, pixel = np.arange(start, stop)[:, None], np.arange(left, right)[None]
                    ends = valid[start - row : stop - row]
                    good = (ends[:, :1] >= 0) & (pixel - col >= ends[:, :1]) & (pixel - col <= ends[:, 1:])
                    values = np.where(good, dn[swath.swath], 0).astype(np.complex64)
                    if swath.swath in dark:
                        box = dark[swath.swath]
                        inside = (line >= box[0]) & (line < box[1]) & (pixel >= box[2]) & (pixel < box[3])
                        values[good & inside] = 1
                    window = Window(left - col, start - row + burst * len(valid), right - left, stop - start)
                    file.write(values, 1, window=window)


def unpack(archive: Path, folder: Path) -> Path:
    """The SAFE folder of a zip."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
        (name,) = {re.match(r"[^/]+\.SAFE", one)[0] for one in file.namelist()}
    return folder / name
