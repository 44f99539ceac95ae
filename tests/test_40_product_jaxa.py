"""JAXA's mosaics and ScanSAR ARD: the real tile's known numbers, made tiles of every layout, and damage."""

from __future__ import annotations

import io
import logging
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from sarseg.errors import InputError, UsageError
from sarseg.product.open import Product, is_ready_made, open_product
from sarseg.raster.archive import list_members
from sarseg.tiles import Window

SIDE = 90
STEP = 1 / SIDE
SCANSAR = "ALOS2437590500-220630_WWDR2.2GUA"


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that a file that GDAL left beside the archive would be seen."""
    folder = tmp_path_factory.mktemp("mosaic")
    shutil.copy(shared / "data/jaxa_mosaic/N23W161_20_MOS_F02DAR.tar.gz", folder)
    return folder / "N23W161_20_MOS_F02DAR.tar.gz"


@pytest.fixture(scope="module")
def tile(real: Path) -> Product:
    return open_product(real)


def decibel(power: np.ndarray) -> float:
    return float(10 * np.log10(power.mean(dtype=np.float64)))


def test_the_real_tile_has_its_known_power_mask_dates_and_angles(real: Path, tile: Product) -> None:
    with tarfile.open(real) as archive:
        content = archive.extractfile("N23W161_20_mask_F02DAR.tif")
        assert content is not None
        with rasterio.MemoryFile(content.read()) as memory, memory.open() as file:
            codes = file.read(1)
    hh, hv = tile.read()
    known = {50: (897_321, -17.614, -31.136), 150: (202, -7.573, -16.119), 255: (2_461, -7.903, -17.046)}
    for code, (pixels, hh_db, hv_db) in known.items():
        inside = codes == code
        assert np.count_nonzero(inside & ~np.isnan(hh)) == pixels
        assert decibel(hh[inside]) == pytest.approx(hh_db, abs=0.001)
        assert decibel(hv[inside]) == pytest.approx(hv_db, abs=0.001)
    assert np.isnan(hh).sum() == np.isnan(hv).sum() == 19_350_016
    there = Window(row=3900, col=1000, rows=600, cols=3400)
    mask = tile.mask(there)
    np.testing.assert_array_equal(mask, np.select([codes[there.slices] == 0, codes[there.slices] == 150], [1, 4], 0))
    water, date, angle = tile.read(there, ["water", "date", "incidence"])
    assert (np.count_nonzero(water == 1), np.count_nonzero(water == 0)) == (897_321, 2_461)
    assert set(date[~np.isnan(date)].astype("datetime64[D]")) == {np.datetime64("2020-09-09")}
    assert np.nanmean(angle[codes[there.slices] == 50], dtype=np.float64) == pytest.approx(36.35, abs=0.005)
    assert np.nanmean(angle[codes[there.slices] == 255], dtype=np.float64) == pytest.approx(45.28, abs=0.005)
    assert (np.nanmin(angle), np.nanmax(angle)) == (6, 82)


def test_the_real_tile_says_what_it_is_and_leaves_nothing_beside_it(real: Path, tile: Product) -> None:
    said = tile.item["properties"]
    assert tile.bands == ("HH", "HV")
    assert (tile.id, tile.radiometry, tile.quantity, tile.warnings) == ("N23W161_20_MOS", "gamma0", "power", ())
    assert (said["platform"], said["sar:frequency_band"], said["sat:orbit_state"]) == ("alos-2", "L", "ascending")
    assert (said["start_datetime"], said["end_datetime"]) == ("2020-09-09T10:44:12.406Z", "2020-09-09T10:44:26.423Z")
    assert tile.grid.bounds == pytest.approx((-161, 22, -160, 23), abs=1e-9)
    tile.read(Window(row=4400, col=0, rows=100, cols=100))
    assert [one.name for one in real.parent.iterdir()] == [real.name]
    assert tile.files() == (real,)
    assert is_ready_made(real)


def test_a_file_of_the_real_tile_inside_of_the_archive_opens_the_same(real: Path, tile: Product) -> None:
    window = Window(row=4400, col=4000, rows=40, cols=90)
    inside = open_product(f"/vsitar/{real}/N23W161_20_sl_HV_F02DAR.tif")
    np.testing.assert_array_equal(inside.read(window), tile.read(window))
    lost_slash = open_product(Path(f"/vsitar/{real}"))  # pathlib takes the second slash away
    np.testing.assert_array_equal(lost_slash.mask(window), tile.mask(window))


class Layers:
    """A made tile: random DN with 0 and 1, mask codes, angles and days."""

    def __init__(self, seed: int, polarisations: tuple[str, ...] = ("HH", "HV")) -> None:
        rng = np.random.default_rng(seed)
        self.dn = {name: rng.integers(0, 9000, (SIDE, SIDE)).astype("u2") for name in polarisations}
        for dn in self.dn.values():
            dn[rng.random(dn.shape) < 0.1] = 1
            dn[rng.random(dn.shape) < 0.1] = 0
        self.mask = rng.choice(np.array([0, 50, 100, 150, 255], "u1"), (SIDE, SIDE))
        self.linci = rng.integers(2, 90, (SIDE, SIDE)).astype("u1")
        self.date = rng.integers(2, 2000, (SIDE, SIDE)).astype("u2")

    def files(self) -> dict[str, np.ndarray]:
        return {**{f"sl_{name}": dn for name, dn in self.dn.items()}, "mask": self.mask, "linci": self.linci, "date": self.date}

    def power(self, name: str, factor_db: float = -83.0) -> np.ndarray:
        dn = self.dn[name].astype(float)
        return np.where((dn <= 1) | (self.mask == 0), np.nan, 10 ** ((10 * np.log10(np.maximum(dn, 1) ** 2) + factor_db) / 10))


def envi(lon: int, lat: int, data: np.ndarray) -> bytes:
    kind = {"u1": 1, "u2": 12}[data.dtype.str[1:]]
    corner = f"{lon * 3600}, {lat * 3600}, {STEP * 3600!r}, {STEP * 3600!r}"
    lines = [
        "ENVI", f"samples = {data.shape[1]}", f"lines = {data.shape[0]}", "bands = 1", "header offset = 0",
        "file type = ENVI Standard", f"data type = {kind}", "interleave = bsq", "byte order = 0",
        f"map info = {{Geographic Lat/Lon, 1, 1, {corner}, WGS-84, units=Seconds}}",
    ]  # fmt: skip
    return "\n".join(lines).encode() + b"\n"


def corner(name: str) -> tuple[int, int]:
    return (1 if name[3] == "E" else -1) * int(name[4:7]), (1 if name[0] == "N" else -1) * int(name[1:3])


def raw_files(name: str, layers: Layers, mode: str = "") -> dict[str, bytes]:
    files = {}
    for layer, data in layers.files().items():
        files[f"{name}_{layer}{mode}"] = data.tobytes()
        files[f"{name}_{layer}{mode}.hdr"] = envi(*corner(name), data)
    return files


def tiff_files(name: str, layers: Layers, mode: str = "_F02DAR") -> dict[str, bytes]:
    files = {}
    lon, lat = corner(name)
    for layer, data in layers.files().items():
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": data.dtype, "crs": CRS.from_epsg(4326)}
        with rasterio.MemoryFile() as memory:
            with memory.open(**profile, transform=Affine(STEP, 0, lon, 0, -STEP, lat), nodata=0 if layer == "mask" else 1) as out:
                out.write(data, 1)
            files[f"{name}_{layer}{mode}.tif"] = memory.read()
    return files


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def as_zip(path: Path, files: dict[str, bytes], folder: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(folder + name, content)
    return path


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def check(product: Product, layers: Layers, launch: str, factor_db: float = -83.0) -> None:
    got = product.read(bands=[*layers.dn, "date", "incidence"])
    for name, values in zip(layers.dn, got, strict=False):
        np.testing.assert_allclose(values, layers.power(name, factor_db), rtol=2e-6)
    nothing = layers.mask == 0
    days = np.datetime64(launch) + layers.date.astype("m8[D]")
    np.testing.assert_array_equal(got[-2][~nothing].astype("M8[D]"), days[~nothing])
    np.testing.assert_array_equal(got[-1], np.where(nothing, np.nan, layers.linci))
    dark = np.any([dn <= 1 for dn in layers.dn.values()], axis=0)
    want = (nothing | dark) * 1 + (layers.mask == 100) * 2 + (layers.mask == 150) * 4
    np.testing.assert_array_equal(product.mask(), want)
    np.testing.assert_array_equal(product.valid(), ~(nothing | dark))


@pytest.mark.parametrize(
    ("year", "mode", "launch", "factor_db", "platform"),
    [
        (96, "", "1992-02-11", -84.66, "jers-1"),
        (10, "", "2006-01-24", -83.0, "alos"),
        (15, "_F02DAR", "2014-05-24", -83.0, "alos-2"),
        (16, "_FP6QAR", "2014-05-24", -83.0, "alos-2"),
    ],
)
def test_raw_tiles_of_all_years_in_every_container(tmp_path, year, mode, launch, factor_db, platform):
    name = f"S07E106_{year}"
    layers = Layers(year, ("HH",) if year == 96 else ("HH", "HV"))
    files = raw_files(name, layers, mode)
    folder = as_folder(tmp_path / "folder", files)
    paths = [
        folder,
        as_tar(tmp_path / f"{name}_MOS{mode}.tar.gz", files),
        as_zip(tmp_path / f"{name}_MOS{mode}.zip", files),
        as_zip(tmp_path / "renamed.zip", files, "download/"),
        folder / f"{name}_sl_HH{mode}",
    ]
    for path in paths:
        product = open_product(path)
        check(product, layers, launch, factor_db)
        assert product.item["properties"]["platform"] == platform
        assert product.datetime_utc is not None
        assert product.datetime_utc[:7] == f"{'19' if year == 96 else '20'}{year}-07"
        assert product.grid.bounds == pytest.approx((106, -8, 107, -7))


def test_neighbours_are_one_product_wherever_they_come_from(tmp_path):
    names = ["N01E010_19", "N01E011_19", "N00E011_19"]
    layers = {name: Layers(at) for at, name in enumerate(names)}
    folder = tmp_path / "java 2019"
    folder.mkdir()
    as_tar(folder / f"{names[0]}_MOS_F02DAR.tar.gz", tiff_files(names[0], layers[names[0]]))
    as_zip(folder / f"{names[1]}_MOS_F02DAR.zip", tiff_files(names[1], layers[names[1]]))
    for name, content in tiff_files(names[2], layers[names[2]]).items():
        (folder / name).write_bytes(content)
    (folder / f"{names[0]}_FNF_F02DAR.tar.gz").write_bytes(b"labels, of no interest here")
    everything = {name: content for one in names for name, content in tiff_files(one, layers[one]).items()}
    want = np.full((2 * SIDE, 2 * SIDE), np.nan)
    want[:SIDE, :SIDE], want[:SIDE, SIDE:], want[SIDE:, SIDE:] = (layers[name].power("HV") for name in names)
    for path in (folder, as_tar(tmp_path / "N05E010_19_MOS_F02DAR.tar.gz", everything)):
        product = open_product(path)
        assert product.grid.bounds == pytest.approx((10, -1, 12, 1))
        assert product.item["properties"]["sarseg:tiles"] == sorted(names)
        np.testing.assert_allclose(product.read(bands=["HV"])[0], want, rtol=2e-6)
        seam = Window(row=80, col=70, rows=33, cols=51)
        np.testing.assert_allclose(product.read(seam, ["HV"])[0], want[seam.slices], rtol=2e-6)
        assert (product.mask()[SIDE:, :SIDE] == 1).all()
    assert open_product(folder).id == "java 2019"
    assert len(open_product(folder).files()) == 2 + 5


def test_tiles_that_are_no_neighbours_are_refused(tmp_path):
    layers = Layers(1)
    cases = {
        "years 2019, 2020": {**raw_files("N01E010_19", layers), **raw_files("N01E011_20", layers)},
        "too far from each other": {**raw_files("N01E010_19", layers), **raw_files("S44E170_19", layers)},
        "its corner at 10, 1, where its name says 12, 1": {
            name.replace("E010", "E012"): content for name, content in raw_files("N01E010_19", layers).items()
        },
        "no mosaic of the year 2004": raw_files("N01E010_04", layers),
        "no backscatter: sl_HH": {name: content for name, content in raw_files("N01E010_19", layers).items() if "_sl_" not in name},
        "no ENVI header": {name: content for name, content in raw_files("N01E010_19", layers).items() if not name.endswith(".hdr")},
        "16199 bytes where its header asks for 16200": {
            name: content[:-1] if name.endswith("HV") else content for name, content in raw_files("N01E010_19", layers).items()
        },
        "is here twice": {**tiff_files("N01E010_19", layers, "_F02DAR"), **tiff_files("N01E010_19", layers, "_FP6QAR")},
    }
    for at, (message, files) in enumerate(cases.items()):
        with pytest.raises(InputError, match=message):
            open_product(as_folder(tmp_path / f"case {at}", files))


def test_missing_layers_and_unknown_codes_are_said(tmp_path, caplog):
    layers = Layers(3)
    files = raw_files("N01E010_17", layers)
    for name in list(files):
        if "mask" in name or "linci" in name:
            del files[name]
    product = open_product(as_folder(tmp_path / "bare", files))
    assert product.warnings == ("no mask layer: layover, shadow and water are not known",)
    np.testing.assert_array_equal(product.mask() == 1, np.any([dn <= 1 for dn in layers.dn.values()], axis=0))
    with pytest.raises(InputError, match="no band incidence"):
        product.read(bands=["incidence"])
    layers.mask[5, 5] = 77
    odd = open_product(as_folder(tmp_path / "odd", raw_files("N01E010_17", layers)))
    assert "mask code 77 is not known" in odd.warnings[0]
    with caplog.at_level(logging.WARNING):
        assert odd.mask()[5, 5] & 1
        odd.mask()
    assert sum("mask code 77" in record.message for record in caplog.records) == 1
    with pytest.raises(UsageError, match="one scale only"):
        open_product(tmp_path / "odd", scale="power")


def test_the_xml_decides_calibration_and_first_day(tmp_path):
    layers = Layers(4)
    xml = (
        "<Metadata><BackscatterConversionEq>10 * log10(DN^2) - 80.5</BackscatterConversionEq>"
        "<ZeroReferenceDate>2014-05-25</ZeroReferenceDate></Metadata>"
    )
    folder = as_folder(tmp_path / "a", {**tiff_files("N01E010_20", layers), "N01E010_20_F02DAR.xml": xml.encode()})
    product = open_product(folder)
    check(product, layers, "2014-05-25", -80.5)
    assert len(product.warnings) == 2
    (folder / "N01E010_20_F02DAR.xml").write_text(xml.replace("- 80.5", "+ 80.5"))
    with pytest.raises(InputError, match=r"names 80\.5 dB as calibration"):
        open_product(folder)
    bomb = (
        '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;"><!ENTITY d SYSTEM "file:///etc/passwd">]><Metadata>&c;&d;</Metadata>'
    )
    (folder / "N01E010_20_F02DAR.xml").write_text(bomb)
    check(open_product(folder), layers, "2014-05-24")  # entities stay unread
    (folder / "N01E010_20_F02DAR.xml").write_text(xml[:60])
    with pytest.raises(InputError, match="damaged XML"):
        open_product(folder)


def test_scansar_ard_has_codes_and_angles_of_its_own(tmp_path, shared):
    source = shared / "data/jaxa_scansar_ard"
    shutil.copy(source / f"{SCANSAR}_summary.xml", tmp_path)
    shutil.copy(source / f"{SCANSAR}_MSK_crop.tif", tmp_path / f"{SCANSAR}_MSK.tif")
    rng = np.random.default_rng(5)
    with rasterio.open(tmp_path / f"{SCANSAR}_MSK.tif") as file:
        codes, profile = file.read(1), {**file.profile, "dtype": "uint16", "nodata": None}
    dn = {name: rng.integers(0, 9000, codes.shape).astype("u2") for name in ("HH_SLP", "HV_SLP", "LIN")}
    for name, values in dn.items():
        with rasterio.open(tmp_path / f"{SCANSAR}_{name}.tif", "w", **profile) as out:
            out.write(values, 1)
    product = open_product(tmp_path)
    none = np.isin(codes, (0, 5))
    np.testing.assert_allclose(
        product.read()[0], np.where(none | (dn["HH_SLP"] <= 1), np.nan, dn["HH_SLP"].astype(float) ** 2 * 10**-8.3), rtol=2e-6
    )
    angle, water = product.read(bands=["incidence", "water"])
    np.testing.assert_allclose(angle, np.where(none | (dn["LIN"] == 0), np.nan, dn["LIN"] / 100.0), rtol=1e-6)
    assert (np.count_nonzero(water == 1), np.count_nonzero(water == 0)) == (597_586, 48_003)
    mask = product.mask()
    assert (np.count_nonzero(mask & 2), np.count_nonzero(mask & 4)) == (19, 25)
    assert np.count_nonzero(np.isnan(product.read()).any(0)) == np.count_nonzero(mask & 1)
    assert np.count_nonzero(mask & 1) >= 402_900 + 43
    left, _, _, top = product.grid.bounds
    assert (left, top) == (374_612.5 + 4608 * 25, 3_087_012.5 - 14_848 * 25)
    assert product.datetime_utc == "2022-06-30T15:58:28.260Z"
    assert product.warnings == ("the XML's 16234 x 15916 pixels are not the raster's 1024 x 1024",)
    assert (product.item["properties"]["sat:orbit_state"], product.id) == ("ascending", SCANSAR)


def test_the_swapped_sides_of_the_scansar_xml_do_no_harm(tmp_path, shared):
    shutil.copy(shared / f"data/jaxa_scansar_ard/{SCANSAR}_summary.xml", tmp_path)
    profile = {"driver": "GTiff", "height": 15_916, "width": 16_234, "count": 1, "crs": CRS.from_epsg(32651), "tiled": True}
    profile |= {"transform": Affine(25, 0, 374_612.5, 0, -25, 3_087_012.5), "SPARSE_OK": True, "compress": "lzw"}
    for name, dtype in (("HH_SLP", "uint16"), ("MSK", "uint8")):
        with rasterio.open(tmp_path / f"{SCANSAR}_{name}.tif", "w", **profile, dtype=dtype):
            pass
    product = open_product(tmp_path / f"{SCANSAR}_HH_SLP.tif")
    assert product.grid.shape == (15_916, 16_234)
    assert product.bands == ("HH",)
    assert product.warnings == ()
    assert (product.mask(Window(row=15_900, col=16_200, rows=16, cols=34)) == 1).all()


def read_all(path: Path) -> None:
    product = open_product(path)
    product.read()
    product.mask()


def test_cut_and_flipped_archives_are_errors_of_ours_or_read(tmp_path):
    layers = Layers(6)
    rng = np.random.default_rng(6)
    made = {
        "N01E010_19_MOS_F02DAR.tar.gz": as_tar(tmp_path / "a.tar.gz", tiff_files("N01E010_19", layers)),
        "N01E010_10_MOS.zip": as_zip(tmp_path / "a.zip", raw_files("N01E010_10", layers)),
    }
    failed = 0
    for name, source in made.items():
        content = source.read_bytes()
        for at in range(60):
            damaged = bytearray(content)
            if at % 2:
                for place in rng.integers(0, len(content), 6):
                    damaged[place] ^= 1 << int(rng.integers(8))
            else:
                del damaged[int(rng.integers(1, len(content) - 1)) :]
            folder = tmp_path / f"{name} {at}"
            folder.mkdir()
            (folder / name).write_bytes(damaged)
            try:
                read_all(folder / name)
            except InputError:
                failed += 1
    assert failed > 100


def test_archives_that_lead_out_or_claim_too_much_are_refused(tmp_path):
    layers = Layers(7)
    files = raw_files("N01E010_19", layers)
    for at, name in enumerate(("../N01E010_19_sl_HH", "/etc/N01E010_19_sl_HH", "a/../../N01E010_19_sl_HH", "C:\\x_HH", "..\\x_HH")):
        for path in (as_zip(tmp_path / f"{at}.zip", {**files, name: b"x"}), as_tar_named(tmp_path / f"{at}.tar.gz", files, name)):
            with pytest.raises(InputError, match="outside of itself"):
                open_product(path)
    huge = tmp_path / "huge.zip"
    content = bytearray(as_zip(tmp_path / "plain.zip", files).read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = b"\xfe\xff\xff\xff"  # 4 GB: more than its header asks for
    huge.write_bytes(content)
    with pytest.raises(InputError):
        open_product(huge)
    claims = tmp_path / "N01E010_19_MOS.tar"
    info = tarfile.TarInfo("N01E010_19_sl_HH")
    info.size = 1 << 45
    claims.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    with pytest.raises(InputError, match=r"more than a product can be|damaged"):
        open_product(claims)
    long_name = tmp_path / "N01E011_19_MOS.tar"
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    long_name.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    with pytest.raises(InputError, match="a record is longer than any name"):
        list_members(long_name)


def as_tar_named(path: Path, files: dict[str, bytes], name: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for one in [*files, name]:
            info = tarfile.TarInfo(one)
            info.size = len(files.get(one, b"x"))
            archive.addfile(info, io.BytesIO(files.get(one, b"x")))
    return path


def test_an_archive_of_archives_and_a_huge_raster_are_refused(tmp_path):
    inner = as_zip(tmp_path / "N01E010_19_MOS.zip", raw_files("N01E010_19", Layers(8))).read_bytes()
    with pytest.raises(InputError, match="archive inside of the archive"):
        open_product(as_zip(tmp_path / "outer.zip", {"N01E010_19_MOS.zip": inner}))
    files = raw_files("N01E010_19", Layers(8))
    files["N01E010_19_sl_HH.hdr"] = files["N01E010_19_sl_HH.hdr"].replace(b"lines = 90", b"lines = 2000000000")
    with pytest.raises(InputError):
        open_product(as_folder(tmp_path / "lines", files))
