"""A writer of CEOS products of PALSAR, and the geometry that it writes: nothing of sarseg's reader is used.

Fields are put at their byte offsets by hand. Positions come from a satellite on a circle, known by formula (`circular_orbit`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from circular_orbit import EPOCH, circle
from pyproj import Transformer

C = 299_792_458.0
TO_ECEF = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
IMAGE_LINE = {"signal": (50, 10, 18, 20), "processed": (50, 11, 18, 20)}


def record(sequence, kind, length, *fields):
    """A record of `length` bytes: head, blanks, and (offset, bytes) fields."""
    out = bytearray(struct.pack(">I4BI", sequence, *kind, length) + b" " * (length - 12))
    for offset, content in fields:
        assert offset + len(content) <= length
        out[offset : offset + len(content)] = content
    return bytes(out)


def a(offset, width, text):
    return offset, text.ljust(width)[:width].encode()


def i(offset, width, value):
    return offset, f"{value:{width}d}".encode()


def f(offset, width, value, digits=7):
    return offset, f"{value:{width}.{digits}f}".encode()


def e(offset, width, value, digits=None):
    return offset, f"{value:{width}.{digits or width - 9}E}".encode()


@dataclass(kw_only=True)
class Made:
    """What a product is made of; the defaults are a single polarisation level 1.1 scene of ALOS-1.

    `doppler` (Hz of slant range in metres) is what the image has; `across` and `centre` what the leader says.
    """

    mission: str = "ALOS"
    level: str = "1.1"
    form: str = "slant"
    shape: tuple[int, int] = (3000, 2000)
    polarisations: tuple[str, ...] = ("HH",)
    prf_hz: float = 2100.0
    near_m: float = 847_000.0
    sampling_hz: float = 32e6
    wavelength_m: float = 0.2360571
    side: str = "right"
    doppler: object = None
    across: tuple[float, float, float] = (0.0, 0.0, 0.0)
    centre: tuple[float, float] = (0.0, 0.0)
    factor_db: float | None = -83.0
    processed: str = "20100203"
    off_nadir_deg: float = 34.3
    first_s: float = -0.7
    spacing_m: float = 12.5
    utm_zone: int = 0
    corner_m: tuple[float, float] = (0.0, 0.0)
    esa: bool = False
    coefficients: bool = True
    prefix: int = 0
    line_dates: bool = True
    level_text: str | None = None
    swapped: bool = False
    extra: dict = field(default_factory=dict)

    @property
    def scene(self):
        return "ALPSRP123456780" if self.mission == "ALOS" else "ALOS2123456780-230405"

    @property
    def product(self):
        if self.mission == "ALOS":
            return {"slant": "H1.1__A", "georeferenced": "H1.5_UA", "geocoded": "H1.5GUA"}[self.form]
        mode = {1: "FBS", 2: "FBD", 4: "HBQ"}[len(self.polarisations)]
        return mode + {"slant": "R1.1__A", "georeferenced": "R1.5RUA", "geocoded": f"R{self.level_text or '1.5'}GUA"}[self.form]

    @property
    def name(self):
        return f"{self.scene}-{self.product}"

    @property
    def prefix_bytes(self):
        if self.prefix:
            return self.prefix
        if self.form != "slant" or self.esa:
            return 192
        return 412 if self.mission == "ALOS" else 544

    @property
    def slant_m(self):
        return C / (2 * self.sampling_hz)

    def time_range(self, line, pixel):
        """Time (s after EPOCH) and slant range at which the image shows a position."""
        if self.form == "slant":
            return self.first_s + np.asarray(line) / self.prf_hz, self.near_m + np.asarray(pixel) * self.slant_m
        # georeferenced: line 0 is the latest; slant range grows with ground range, faster and faster
        pixel = np.asarray(pixel, np.float64)
        slant = self.near_m + pixel * self.spacing_m * 0.62 + (pixel * self.spacing_m) ** 2 * 3.1e-7
        return self.first_s + (self.shape[0] - 1.0 - np.asarray(line)) * self.spacing_m / 6800.0, slant

    def frequency(self, slant):
        return np.zeros_like(slant) if self.doppler is None else self.doppler(slant)


def doppler_hz(point, t, wavelength):
    """From the change of the distance in a millisecond, not from a formula with velocities."""
    half = 5e-4
    distance = [np.linalg.norm(point - circle(t + shift)[0], axis=-1) for shift in (-half, half)]
    return -2.0 / wavelength * (distance[1] - distance[0]) / (2 * half)


def image_place(made, lon, lat, height):
    """Time and slant range at which a ground point is imaged: bisection in time of (Doppler history - Doppler of its range)."""
    point = np.array(TO_ECEF.transform(lon, lat, height))
    low, high = -40.0, 40.0

    def ahead(t):
        slant = np.linalg.norm(point - circle(t)[0])
        return doppler_hz(point, t, made.wavelength_m) - made.frequency(slant)

    assert ahead(low) > 0 > ahead(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if ahead(middle) > 0 else (low, middle)
    return low, float(np.linalg.norm(point - circle(low)[0]))


def ground_of(made, t, slant):
    """Longitude and latitude on the ellipsoid of times and ranges: Newton in degrees with differences."""
    t, slant = np.broadcast_arrays(np.asarray(t, np.float64), np.asarray(slant, np.float64))
    place, speed = circle(t)
    across = np.cross(speed, place) * (1 if made.side == "right" else -1)
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    start = place / np.linalg.norm(place, axis=-1, keepdims=True) * 6.371e6 + across * np.sqrt(slant**2 - 640e3**2)[..., None]
    lon, lat, _ = TO_ECEF.transform(*np.moveaxis(start, -1, 0), direction="INVERSE")

    def wrong(lon, lat):
        point = np.stack(TO_ECEF.transform(lon, lat, np.zeros_like(lon)), axis=-1)
        distance = np.linalg.norm(point - place, axis=-1)
        return np.stack([distance - slant, doppler_hz(point, t, made.wavelength_m) - made.frequency(distance)], axis=-1)

    for _ in range(8):
        step = 1e-5
        here = wrong(lon, lat)
        matrix = np.stack([(wrong(lon + step, lat) - here) / step, (wrong(lon, lat + step) - here) / step], axis=-1)
        change = np.linalg.solve(matrix, here[..., None])[..., 0]
        lon, lat = lon - change[..., 0], lat - change[..., 1]
    return lon, lat


def lonlat(made, line, pixel):
    """Where the image shows its pixels on the ellipsoid."""
    if made.form == "geocoded":
        utm = Transformer.from_crs(f"EPSG:{32600 + made.utm_zone}", "EPSG:4326", always_xy=True)
        return utm.transform(made.corner_m[0] + np.asarray(pixel) * made.spacing_m, made.corner_m[1] - np.asarray(line) * made.spacing_m)
    return ground_of(made, *made.time_range(line, pixel))


def terms(x, y):
    return np.stack([x ** (4 - p) * y ** (4 - q) for p in range(5) for q in range(5)], axis=-1)


def fitted(x, y, values):
    """25 coefficients by least squares, in scaled variables."""
    sx, sy = np.abs(x).max(), np.abs(y).max()
    solution = np.linalg.lstsq(terms(x / sx, y / sy), values, rcond=None)[0]
    return solution / np.array([sx ** (4 - p) * sy ** (4 - q) for p in range(5) for q in range(5)])


def coefficient_record(made, sequence, length=5000):
    lines, pixels = made.shape
    line, pixel = (values.ravel() for values in np.meshgrid(np.linspace(0, lines - 1, 9), np.linspace(0, pixels - 1, 9), indexing="ij"))
    lon, lat = lonlat(made, line, pixel)
    origin = pixels // 2, lines // 2
    middle = float(np.mean(lat)), float(np.mean(lon))
    x, y, u, v = pixel - origin[0], line - origin[1], lat - middle[0], lon - middle[1]
    tables = [fitted(x, y, lat), fitted(x, y, lon), fitted(u, v, pixel), fitted(u, v, line)]
    if made.swapped:
        tables = [tables[1], tables[0], tables[3], tables[2]]
    fields = [a(12, 4, f"{5 if made.mission == 'ALOS2' else 11:4d}")]
    for start, table in zip((1024, 1524, 2064, 2564), tables, strict=True):
        fields += [e(start + 20 * k, 20, value) for k, value in enumerate(table)]
    fields += [e(2024, 20, origin[0]), e(2044, 20, origin[1]), e(3064, 20, middle[0]), e(3084, 20, middle[1])]
    return record(sequence, (18, 200, 18, 70), length, *fields)


def summary_fields(made, centre_utc):
    stamp = str(centre_utc.astype("datetime64[ms]"))
    words = [
        a(20, 32, made.scene),
        a(68, 32, stamp.replace("-", "").replace("T", "").replace(":", "").replace(".", "")),
        a(164, 16, "GRS80"),
        f(180, 16, 6378.137),
        f(196, 16, 6356.7523141),
        a(396, 16, made.mission),
        a(412, 32, "ALOS2 -L -0315-" if made.mission == "ALOS2" else "ALOS  -L -0000-"),
        a(444, 8, "12345"),
        f(476, 8, 90.0 if made.side == "right" else -90.0, 3),
        f(500, 16, made.wavelength_m),
        f(710, 16, made.sampling_hz / 1e6),
        f(934, 16, made.prf_hz * 1e3),
        a(1062, 8, "ESA" if made.esa else "SCMO"),
        a(1094, 16, made.level_text if made.level_text is not None else made.level),
        a(1110, 32, "BASIC IMAGE" if made.level == "1.1" else "STANDARD GEOCODED IMAGE"),
        a(1534, 8, "ASCEND"),
        f(1686, 16, made.spacing_m),
        f(1702, 16, made.spacing_m),
        f(1734, 16, made.centre[0]),
        f(1750, 16, made.centre[1]),
        f(1838, 16, made.off_nadir_deg),
    ]
    words += [f(1478 + 16 * k, 16, value) for k, value in enumerate(made.across)]
    return words


def platform_record(sequence, times_s, position, velocity, midnight):
    """State vectors; `times_s` are seconds of the day that begins at `midnight`."""
    date = midnight.astype("datetime64[D]").item()
    fields = [a(12, 32, "2"), i(140, 4, len(times_s)), i(144, 4, date.year), i(148, 4, date.month), i(152, 4, date.day)]
    fields += [i(156, 4, date.timetuple().tm_yday), e(160, 22, times_s[0]), e(182, 22, times_s[1] - times_s[0]), a(204, 64, "ECR")]
    for k, (place, speed) in enumerate(zip(position, velocity, strict=True)):
        for axis in range(3):
            fields += [e(386 + 132 * k + 22 * axis, 22, place[axis], 15), e(386 + 132 * k + 66 + 22 * axis, 22, speed[axis], 15)]
    return record(sequence, (18, 30, 18, 20), 4680, *fields)


def map_fields(made):
    lines, pixels = made.shape
    lon, lat = lonlat(made, np.array([0.0, 0.0, lines - 1.0, lines - 1.0]), np.array([0.0, pixels - 1.0, pixels - 1.0, 0.0]))
    words = [
        a(28, 32, "GEOCODED" if made.form == "geocoded" else "GEOREFERENCE"),
        i(60, 16, pixels),
        i(76, 16, lines),
        f(92, 16, made.spacing_m),
        f(108, 16, made.spacing_m),
        a(124, 16, "             NAN"),
        a(236, 32, "GRS80"),
        f(268, 16, 6378137.0, 4),
        f(284, 16, 6356752.3141, 4),
        a(412, 32, "UTM-PROJECTION"),
        a(476, 4, f"{made.utm_zone:4d}"),
        f(480, 16, 500000.0),
        f(496, 16, 0.0),
    ]
    for k in range(4):
        words += [f(1072 + 32 * k, 16, lat[k]), f(1088 + 32 * k, 16, lon[k])]
    if made.form == "geocoded":
        right, down = made.corner_m[0] + (pixels - 1) * made.spacing_m, made.corner_m[1] - (lines - 1) * made.spacing_m
        places = [(made.corner_m[1], made.corner_m[0]), (made.corner_m[1], right), (down, right), (down, made.corner_m[0])]
        for k, (north, east) in enumerate(places):
            words += [f(944 + 32 * k, 16, north / 1e3), f(960 + 32 * k, 16, east / 1e3)]
    return words


def leader(made):
    """All bytes of a leader file."""
    centre_s = made.time_range((made.shape[0] - 1) / 2, (made.shape[1] - 1) / 2)[0] if made.form != "geocoded" else made.first_s
    centre_utc = EPOCH + np.timedelta64(round(float(centre_s) * 1e3), "ms")
    midnight = EPOCH.astype("datetime64[D]")
    day_s = float((EPOCH - midnight.astype("datetime64[us]")).astype(np.int64)) / 1e6
    times_s = np.round((day_s - 14 * 60.0) / 60.0) * 60.0 + 60.0 * np.arange(28)
    records = [record(1, (11, 192, 18, 18), 720)]

    def add(kind, length, *fields):
        records.append(record(len(records) + 1, kind, length, *fields))

    add((18, 10, 18, 20), 4096, *summary_fields(made, centre_utc))
    if made.form != "slant":
        add((18, 20, 18, 20), 1620, *map_fields(made))
    records.append(platform_record(len(records) + 1, times_s, *circle(times_s - day_s), midnight))
    add((18, 40, 18, 20), 8192 if made.mission == "ALOS" else 16384, i(12, 4, 0))
    factor = [] if made.factor_db is None else [f(20, 16, made.factor_db)]
    add((18, 50, 18, 20), 9860, i(12, 4, 1), i(16, 4, 1), *factor)
    add((18, 60, 18, 20), 1620)
    if not made.esa:
        for number in range(1, 5 if made.mission == "ALOS2" else 11):
            add((18, 200, 18, 70), 3072, a(12, 4, f"{number:4d}"))
        if made.coefficients:
            records.append(coefficient_record(made, len(records) + 1))
        else:
            add((18, 200, 18, 70), 1024, a(12, 4, "  11"))
    return b"".join(records)


def volume(made):
    images = len(made.polarisations)
    head = [a(16, 12, "AIPF" if made.esa else "CEOS-SAR"), a(60, 16, "AL1SAR"), a(112, 8, made.processed), i(160, 4, images + 2)]
    records = [record(1, (192, 192, 18, 18), 360, *head)]
    for code in ("SARL", *["IMOP"] * images, "SART"):
        records.append(record(len(records) + 1, (219, 192, 18, 18), 360, a(64, 4, code)))
    records.append(record(len(records) + 1, (18, 192, 18, 18), 360, a(16, 40, f"PRODUCT:{made.product}")))
    return b"".join(records)


def image_descriptor(made, record_bytes):
    lines, pixels = made.shape
    slant = made.form == "slant"
    fields = [i(180, 6, lines), i(186, 6, record_bytes), i(216, 4, 32 if slant else 16), i(220, 4, 2 if slant else 1)]
    fields += [i(224, 4, 8 if slant else 2), i(232, 4, 1), i(236, 8, lines), i(248, 8, pixels), i(276, 4, made.prefix_bytes)]
    fields += [i(280, 8, pixels * (8 if slant else 2)), i(288, 4, 0)]
    return record(1, (50, 192, 18, 18), 720, *fields)


def line_prefix(made, line, record_bytes, polarisation="HH"):
    t, slant = made.time_range(line, 0)
    kind = IMAGE_LINE["signal" if made.form == "slant" and not made.esa else "processed"]
    out = bytearray(struct.pack(">I4BI", line + 2, *kind, record_bytes) + bytes(made.prefix_bytes - 12))
    now = EPOCH + np.timedelta64(round(float(t) * 1e6), "us")
    start = now.astype("datetime64[D]").astype("datetime64[us]")
    micros = int((now - start).astype(np.int64))
    date = now.astype("datetime64[D]").item()
    struct.pack_into(">III", out, 12, line + 1, 1, 0)
    if made.line_dates:
        struct.pack_into(">III", out, 36, date.year, date.timetuple().tm_yday, round(micros / 1000))
    struct.pack_into(">HH", out, 52, "HV".index(polarisation[0]), "HV".index(polarisation[1]))
    struct.pack_into(">I", out, 56, round(made.prf_hz * 1e3))
    if kind == IMAGE_LINE["signal"]:
        if made.mission == "ALOS2":
            struct.pack_into(">Q", out, 84, micros)
        struct.pack_into(">I", out, 116, round(float(slant)))
    else:
        struct.pack_into(">I", out, 64, round(float(slant)))
    return out


def write_image(path, made, pixels=None, polarisation="HH", invalid=()):
    """An image file; without pixels its samples are a hole of zeros, which takes no room on the disk."""
    size = 8 if made.form == "slant" else 2
    record_bytes = made.prefix_bytes + made.shape[1] * size
    with Path(path).open("wb") as file:
        file.write(image_descriptor(made, record_bytes))
        for line in range(made.shape[0]):
            prefix = line_prefix(made, line, record_bytes, polarisation)
            if line in invalid:
                struct.pack_into(">I", prefix, 96, 1)
            file.seek(720 + line * record_bytes)
            file.write(prefix)
            if pixels is not None:
                file.write(pixels[line].astype(">c8" if size == 8 else ">u2").tobytes())
        file.truncate(720 + made.shape[0] * record_bytes)


def write_product(folder, made, pixels=None, invalid=()):
    """A whole product; `pixels` by polarisation, or one array for all. Returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"VOL-{made.name}").write_bytes(volume(made))
    (folder / f"LED-{made.name}").write_bytes(leader(made))
    for polarisation in made.polarisations:
        one = pixels[polarisation] if isinstance(pixels, dict) else pixels
        write_image(folder / f"IMG-{polarisation}-{made.name}", made, one, polarisation, invalid)
    return folder
