"""Rasters that say what they are: side files, descriptions, SNAP's products, PolSARpro's folders."""

from __future__ import annotations

import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from sarseg.bands import choose_scales, scaled
from sarseg.errors import InputError, UsageError
from sarseg.product.described import meaning_of, read_side
from sarseg.product.open import is_ready_made, open_product
from sarseg.raster.read import close_handles
from sarseg.tiles import Window

GRID = {"crs": CRS.from_epsg(32633), "transform": Affine(10, 0, 399_990, 0, -10, 4_650_020)}


@pytest.fixture
def snap(shared: Path, tmp_path: Path) -> Path:
    """A copy of SNAP's two products of the same pixels."""
    source = shared / "data/snap_reference/products"
    shutil.copytree(source / "map.data", tmp_path / "map.data", copy_function=shutil.copyfile)
    for one in (tmp_path / "map.data").rglob("*"):
        one.chmod(0o755)
    for name in ("map.dim", "map.tif"):
        shutil.copyfile(source / name, tmp_path / name)
    return tmp_path


def write(path: Path, bands: dict[str, NDArray[np.float32]], nodata: float | None = None) -> Path:
    shape = next(iter(bands.values())).shape
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": len(bands), "dtype": "float32", "nodata": nodata}
    with rasterio.open(path, "w", **profile, **GRID) as out:
        for at, (name, data) in enumerate(bands.items(), 1):
            out.write(data, at)
            out.set_band_description(at, name)
    return path


def chips(shape: tuple[int, int] = (40, 50)) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(4)
    return rng.uniform(-20, -3, shape).astype("f4"), rng.uniform(-28, -9, shape).astype("f4")


def test_a_polarisation_alone_says_nothing_of_the_values(tmp_path):
    vv, vh = chips()
    product = open_product(write(tmp_path / "chip.tif", {"VV": vv, "VH": vh}))
    assert (product.quantity, product.bands, product.radiometry, product.item) == ("raw", ("VV", "VH"), None, {})
    np.testing.assert_array_equal(product.read(), [vv, vh])
    with pytest.raises(UsageError, match="a scale alone"):
        open_product(tmp_path / "chip.tif", scale="db")


def test_a_side_file_makes_power_of_a_chip(tmp_path, shared):
    """The real chips hold decibels; their means are known."""
    for name, vv_db, vh_db in (("282D_485L_3_3", -13.29, -18.65), ("637U_59R_1_3", -10.07, -16.96)):
        shutil.copyfile(shared / f"data/terramind_chips/S1RTC/{name}.tif", tmp_path / f"{name}.tif")
        assert open_product(tmp_path / f"{name}.tif").quantity == "raw"
        side = tmp_path / f"{name}.sarseg.yaml"
        side.write_text("bands: [VV, VH]\nquantity: gamma0\nscale: db\ndatetime: 2021-07-21\nplatform: sentinel-1a\n")
        product = open_product(tmp_path / f"{name}.tif")
        assert (product.quantity, product.radiometry, product.datetime_utc) == ("power", "gamma0", "2021-07-21T00:00:00Z")
        mean_db = (10 * np.log10(product.read())).mean((1, 2), dtype=float)
        np.testing.assert_allclose(mean_db, [vv_db, vh_db], atol=0.006)


@pytest.mark.parametrize(
    ("stamp", "utc"),
    [
        ("2021-07-21T08:40:10Z", "2021-07-21T08:40:10Z"),
        ("2021-07-21T05:00:00+02:00", "2021-07-21T03:00:00Z"),
        ("2021-07-21 08:40:10", "2021-07-21T08:40:10Z"),
        ('"2021-07-21"', "2021-07-21T00:00:00Z"),
    ],
)
def test_a_side_file_tells_the_time(tmp_path, stamp, utc):
    """YAML makes a time of what looks like one; it is told in UTC."""
    (tmp_path / "chip.sarseg.yaml").write_text(f"quantity: gamma0\nscale: db\ndatetime: {stamp}\n")
    assert read_side(tmp_path / "chip.tif").datetime == utc


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bands: [VV, VH]\nscale: db\n", "quantity or scale is missing"),
        ("bands: [VV]\nquantity: gamma0\nscale: db\n", "1 bands are named, the raster has 2"),
        ("bands: [VV, VV]\nquantity: gamma0\nscale: db\n", "named twice"),
        ("bands: [a, b]\nquantity: gamma0\nscale: db\n", "no band is a polarisation"),
        ("bands: [VV, VH]\nquantity: gamma1\nscale: db\n", "sarseg.yaml:2"),
        ("scales: db\n", "unknown key 'scales'"),
        ("quantity: gamma0\nscale: db\ndatetime: yesterday\n", "datetime is 'yesterday'"),
    ],
)
def test_a_wrong_side_file_is_a_wrong_use(tmp_path, text, message):
    path = write(tmp_path / "chip.tif", dict(zip(("b1", "b2"), chips(), strict=True)))
    (tmp_path / "chip.sarseg.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        open_product(path)


def test_the_side_file_knows_nodata_and_further_bands(tmp_path):
    vv, angle = chips()
    vv[3, 4] = -9999
    path = write(tmp_path / "a.tif", {"b1": angle, "b2": vv})
    (tmp_path / "a.tif.sarseg.yaml").write_text("bands: [incidence, HH]\nquantity: sigma0\nscale: db\nnodata: -9999\n")
    product = open_product(path)
    assert product.bands == ("HH",)
    assert product.radiometry == "sigma0"
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(product.read()[0], np.where(vv == -9999, np.nan, 10 ** (vv.astype(float) / 10)), rtol=2e-6)
    np.testing.assert_array_equal(product.read(bands=["incidence"])[0], angle)
    assert product.mask()[3, 4] == 1


def test_descriptions_that_say_all_are_enough(tmp_path):
    vv, vh = chips()
    product = open_product(write(tmp_path / "a.tif", {"Gamma0_VV_db": vv, "gamma0 VH (dB)": vh, "slope": vv}))
    assert (product.bands, product.quantity, product.radiometry, product.warnings) == (("VV", "VH"), "power", "gamma0", ())
    np.testing.assert_allclose(product.read(), 10 ** (np.stack([vv, vh]).astype(float) / 10), rtol=2e-6)
    np.testing.assert_array_equal(product.read(bands=["slope"])[0], vv)
    assumed = open_product(write(tmp_path / "b.tif", {"Sigma0_HH": 10 ** (vv / 10)}))
    assert assumed.warnings == ("taken as linear power, since nothing says the scale: Sigma0_HH",)
    np.testing.assert_array_equal(assumed.read()[0], 10 ** (vv / 10))
    with pytest.raises(UsageError, match="these are decibels"):
        open_product(write(tmp_path / "c.tif", {"Sigma0_HH": vv}))
    both = open_product(write(tmp_path / "d.tif", {"Sigma0_VV_db": vv, "Sigma0_VV_linear": 10 ** (vv / 10), "Gamma0_VV_db": vh}))
    assert both.radiometry == "gamma0"
    np.testing.assert_allclose(both.read()[0], 10 ** (vh.astype(float) / 10), rtol=2e-6)
    assert "Sigma0_VV_db, Sigma0_VV_linear" in both.warnings[0]


def test_what_names_say():
    said = {
        "Sigma0_VV": ("sigma0", "VV", "power", False), "Gamma0_IW1_VH": ("gamma0", "VH", "power", False),
        "Beta0_HH_db": ("beta0", "HH", "db", True), "HV gamma0 amplitude": ("gamma0", "HV", "amplitude", True),
    }  # fmt: skip
    for name, want in said.items():
        found = meaning_of(name)
        assert found is not None
        assert (found.radiometry, found.polarisation, found.scale, found.scale_told) == want
    assert meaning_of("Sigma0_VV", "intensity_db").scale == "db"
    for name in ("VV", "Intensity_VV", "Sigma0_VV_slv1_04Jan2021", "Sigma0_VV_VH", "Gamma0", "Sigma0_VV_db_linear", ""):
        assert meaning_of(name) is None
    assert meaning_of("Sigma0_VV_db", "amplitude") is None


def test_snap_dimap_and_geotiff_are_the_same_product(snap):
    dim, tif = open_product(snap / "map.dim"), open_product(snap / "map.tif")
    with rasterio.open(snap / "map.tif") as file:
        sigma0, elevation, angle = file.read()
    for product in (dim, tif):
        assert (product.id, product.bands, product.quantity, product.radiometry) == ("map", ("VV",), "power", "sigma0")
        assert product.grid.crs == CRS.from_epsg(32633)
        assert product.grid.transform == Affine(10, 0, 292_065, 0, -10, 4_653_165)
        values = product.read(bands=["VV", "elevation", "incidence"])
        np.testing.assert_array_equal(values, [np.where(one == 0, np.nan, one) for one in (sigma0, elevation, angle)])
        assert np.count_nonzero(product.mask() == 1) == 1145
        assert product.datetime_utc == "2021-12-23T05:11:32.913Z"
        assert (product.item["properties"]["platform"], product.warnings) == ("sentinel-1b", ())
    assert dim.grid == tif.grid
    assert dim.item == tif.item
    assert is_ready_made(snap / "map.dim")


def test_snap_dimap_inside_of_a_zip(snap):
    with zipfile.ZipFile(snap / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for one in sorted(snap.rglob("*")):
            if "map." in str(one.relative_to(snap)) and one.suffix != ".tif" and one.is_file():
                archive.write(one, f"out/{one.relative_to(snap)}")
    np.testing.assert_array_equal(open_product(snap / "p.zip").read(), open_product(snap / "map.dim").read())


def test_snap_in_decibels_and_without_calibration(snap):
    header = (snap / "map.dim").read_text("latin-1")
    vv = open_product(snap / "map.dim").read()[0]
    in_db = header.replace("<BAND_NAME>Sigma0_VV<", "<BAND_NAME>Sigma0_VV_db<").replace(">intensity<", ">intensity_db<")
    (snap / "db.dim").write_text(in_db, "latin-1")
    want = 10 ** (vv.astype(float) / 10)
    want[want > np.finfo("f4").max] = np.nan  # this image has bright points: no power in float32 if they were decibels
    np.testing.assert_allclose(open_product(snap / "db.dim").read()[0], want, rtol=2e-5)
    np.testing.assert_array_equal(open_product(snap / "db.dim", scale="power").read()[0], vv)
    (snap / "raw.dim").write_text(header.replace("<BAND_NAME>Sigma0_VV<", "<BAND_NAME>Intensity_VV<"), "latin-1")
    with pytest.raises(UsageError, match=r"no band is calibrated backscatter.*Intensity_VV.*raw\.sarseg\.yaml"):
        open_product(snap / "raw.dim")


def test_a_product_in_radar_geometry_is_not_on_the_map(shared):
    with pytest.raises(InputError, match="radar geometry"):
        open_product(shared / "data/snap_reference/products/radar.dim")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("map.dim", "<NROWS>207", "<NROWS>208", "has 207 x 214 pixels, not the product's"),
        ("map.dim", "<NCOLS>214", "<NCOLS>-3", "no number of pixels"),
        ("map.dim", "map.data/Sigma0", "../map.data/Sigma0", "outside of the product"),
        ("map.dim", "map.data/Sigma0_VV", "map.data/Gone", r"map\.data/Gone\.hdr is missing"),
        ("map.dim", "10.0,0.0,0.0,-10.0", "nan,0.0,0.0,-10.0", "georeference is damaged"),
        ("map.dim", "PROJCS[", "PROJ[", "georeference is damaged"),
        ("map.dim", "<SCALING_FACTOR>1.0", "<SCALING_FACTOR>2.0", "data gain values"),
        ("map.dim", "</Dimap_Document>", "", "damaged XML"),
        ("map.dim", "BEAM-DATAMODEL-V1", "SPOT", "no BEAM-DIMAP header"),
        ("map.dim", ">float32<", ">complex<", "type 'complex' is not known"),
        ("map.data/Sigma0_VV.hdr", "lines = 207", "lines = 2070000", "lines is 2070000 where the product's header says 207"),
        ("map.data/Sigma0_VV.hdr", "data type = 4", "data type = 5", "data type is 5"),
        ("map.data/Sigma0_VV.hdr", "byte order = 1", "byte order = 7", "byte order"),
        ("map.data/Sigma0_VV.hdr", "header offset = 0", "header offset = 9", "header offset is 9"),
    ],
)
def test_damaged_snap_headers_are_refused(snap, file, old, new, message):
    text = (snap / file).read_text("latin-1")
    assert old in text
    (snap / file).write_text(text.replace(old, new), "latin-1")
    with pytest.raises(InputError, match=message):
        open_product(snap / "map.dim").read()


def test_a_cut_snap_band_is_refused(snap):
    image = snap / "map.data/Sigma0_VV.img"
    image.write_bytes(image.read_bytes()[:-4])
    with pytest.raises(InputError, match="177188 bytes where its header asks for 177192"):
        open_product(snap / "map.dim")


def test_snap_headers_damaged_at_random_are_errors_of_ours_or_read(snap):
    rng = np.random.default_rng(7)
    for name in ("map.dim", "map.tif"):
        content = (snap / name).read_bytes()
        failed = 0
        for at in range(40):
            damaged = bytearray(content)
            where = 9000 if name.endswith("dim") else 600
            for place in rng.integers(0, where, 8):
                damaged[place] = int(rng.integers(256))
            if at % 4 == 0:
                del damaged[int(rng.integers(1, len(content))) :]
            path = snap / f"{at} {name}"
            path.write_bytes(damaged)
            try:
                open_product(path).read(Window(row=0, col=0, rows=20, cols=20))
            except (InputError, UsageError):
                failed += 1
        assert failed > 20


def test_the_embedded_header_is_found_in_a_bigtiff_of_either_order(tmp_path, snap):
    from sarseg.raster.dimap import embedded_header

    want = embedded_header(snap / "map.tif")
    assert want is not None
    assert want.startswith(b"<?xml")
    for order, mark in (("<", b"II"), (">", b"MM")):
        path = tmp_path / "big.tif"
        path.write_bytes(
            mark
            + struct.pack(f"{order}HHHQ", 43, 8, 0, 16)
            + struct.pack(f"{order}QHHQQ", 1, 65000, 2, len(want) + 1, 64)
            + b"\0" * 20
            + want
            + b"\0"
        )
        assert embedded_header(path) == want
    (tmp_path / "short.tif").write_bytes(b"II*\0\xff\xff\xff\x7f")
    assert embedded_header(tmp_path / "short.tif") is None


def polsarpro(folder: Path, source: Path, headers: bool) -> dict[str, NDArray[np.float32]]:
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(source) as file:
            bands = dict(zip(file.descriptions, file.read(), strict=True))
    rows, cols = bands["T11"].shape
    (folder / "config.txt").write_text(
        f"Nrow\n{rows}\n---------\nNcol\n{cols}\n---------\nPolarCase\nmonostatic\n---------\nPolarType\nfull\n"
    )
    for name, data in bands.items():
        (folder / f"{name}.bin").write_bytes(data.astype("<f4").tobytes())
        if headers:
            lines = ["ENVI", f"samples = {cols}", f"lines = {rows}", "bands = 1", "header offset = 0", "data type = 4", "interleave = bsq"]
            (folder / f"{name}.bin.hdr").write_text("\n".join([*lines, "byte order = 0"]) + "\n")
    return bands


@pytest.mark.parametrize("headers", [True, False])
def test_a_polsarpro_folder_is_the_matrix_of_the_geotiff(tmp_path, shared, headers):
    source = shared / "data/flevoland_airsar/T3.tif"
    bands = polsarpro(tmp_path / "flevoland/T3", source, headers)
    folder, tif = open_product(tmp_path / "flevoland/T3"), open_product(source)
    above = open_product(tmp_path / "flevoland")
    assert (folder.id, above.id, tif.id) == ("flevoland_T3", "flevoland", "T3")
    for product in (folder, above, tif):
        assert product.bands == tuple(bands)
        assert (product.quantity, product.radiometry, product.grid.shape) == ("power", None, (750, 1024))
        assert product.item["properties"]["sarseg:family"] == "polarimetric matrix T3"
    assert folder.grid == tif.grid
    window = Window(row=700, col=1000, rows=50, cols=24)
    np.testing.assert_array_equal(folder.read(window), tif.read(window))
    np.testing.assert_array_equal(folder.read(window, ["T23_imag", "T22"]), [bands[name][window.slices] for name in ("T23_imag", "T22")])
    assert not folder.mask(window).any()
    scales = choose_scales(folder.bands, ["db"] * 3 + ["correlation"] * 6, {})
    values = scaled(folder.read(), scales)
    assert np.isfinite(values).all()
    assert 10 ** (np.median(values[0]) / 10) == pytest.approx(0.006155, rel=1e-3)


def test_incomplete_and_cut_polsarpro_folders_are_refused(tmp_path, shared):
    folder = tmp_path / "T3"
    polsarpro(folder, shared / "data/flevoland_airsar/T3.tif", headers=False)
    content = (folder / "T12_imag.bin").read_bytes()
    (folder / "T12_imag.bin").write_bytes(content[:-1])
    with pytest.raises(InputError, match="3071999 bytes where 750 x 1024 pixels ask for 3072000"):
        open_product(folder)
    (folder / "T12_imag.bin").unlink()
    with pytest.raises(InputError, match=r"T12_imag\.bin missing"):
        open_product(folder)
    (folder / "T12_imag.bin").write_bytes(content)
    (folder / "config.txt").write_text("Nrow\n99999999999\n")
    with pytest.raises(InputError, match="Nrow is '99999999999', no number of pixels"):
        open_product(folder)
    (folder / "config.txt").unlink()
    with pytest.raises(InputError, match=r"neither T11\.bin\.hdr nor config\.txt"):
        open_product(folder)
    close_handles()
