"""Opening real products: folders, archives, mirrors, and everything that is missing or damaged."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as GdalWindow

from sarseg.cli.info import command as info
from sarseg.errors import InputError, MissingError
from sarseg.scene import model
from sarseg.scene.open import open_scene
from sarseg.tiles import Window

ROME = "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371"


@pytest.fixture(scope="module")
def rome(shared):
    return shared / "data/s1_grd_rome" / f"{ROME}.SAFE"


@pytest.fixture
def product(shared):
    def find(name):
        (path,) = (shared / "data/s1_grd_metadata").glob(f"*_{name}*.zip")
        return path

    return find


def unzip(path, folder):
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    (safe,) = folder.glob("*.SAFE")
    return safe


def write_image(path, shape, window, numbers):
    """A sparse, compressed GeoTIFF without georeference, as an image in radar geometry is."""
    profile = {"driver": "GTiff", "height": shape[0], "width": shape[1], "count": 1, "dtype": "uint16", "compress": "deflate"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", **profile, blockysize=1, SPARSE_OK=True) as dataset:
            dataset.write(numbers, 1, window=GdalWindow(window.col, window.row, window.cols, window.rows))


PATCH = Window(row=7000, col=12000, rows=61, cols=307)


@pytest.fixture(scope="module")
def filled(rome, tmp_path_factory):
    """The Rome product with a patch of numbers in its (sparse, compressed) image, as folder and as deflated zip."""
    folder = tmp_path_factory.mktemp("filled") / rome.name
    shutil.copytree(rome, folder)
    (image,) = (folder / "measurement").iterdir()
    image.unlink()
    numbers = np.random.default_rng(9).integers(1, 60000, PATCH.shape).astype(np.uint16)
    write_image(image, (16705, 26102), PATCH, numbers)
    archive = folder.parent / f"{ROME}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(folder.rglob("*")):
            out.write(file, f"{rome.name}/{file.relative_to(folder)}")
    return folder, archive, numbers


def assert_is_rome(scene):
    assert (scene.id, scene.mission, scene.mode, scene.product_type, scene.polarisations) == (ROME, "S1B", "IW", "GRDH", ("VV",))
    assert (scene.shape, scene.absolute_orbit, scene.relative_orbit) == ((16705, 26102), 30148, 22)
    assert (scene.orbit_direction, scene.ipf_version) == ("descending", "003.40")
    assert str(scene.start_utc) == "2021-12-23T05:11:22.594441"
    assert scene.footprint_lonlat[0] == (14.925448, 40.876698)
    assert len(scene.orbit.t_s) == 16
    assert scene.orbit.t_s[0] == pytest.approx(-61.565141, abs=1e-9)
    assert scene.orbit.source.startswith("S1B_OPER_AUX_PREORB")
    assert scene.grid.record_coefficients.shape == (28, 9)
    assert scene.grid.wavelength_m == pytest.approx(0.0554658, abs=1e-7)
    assert len(scene.geolocation_grid.line) == 210
    assert not scene.noise_removed


def test_folder_manifest_and_zip_are_the_same_scene(rome, filled):
    folder, archive, _ = filled
    for path in (rome, rome / "manifest.safe", folder, archive, str(archive)):
        assert_is_rome(open_scene(path))


def test_absent_files_are_warnings_and_errors_only_when_asked_for(rome):
    scene = open_scene(rome)
    assert any("names 8 files that are absent: annotation/s1b-iw-grd-vh" in warning for warning in scene.warnings)
    for table in (scene.calibration, scene.noise, scene.measurements):
        assert list(table) == ["VV"]
        assert "VH" not in table
        with pytest.raises(InputError, match="for VH"):
            table["VH"]


def test_a_safe_without_calibration_opens_and_says_so(rome, tmp_path):
    folder = tmp_path / rome.name
    shutil.copytree(rome, folder)
    shutil.rmtree(folder / "annotation/calibration")
    scene = open_scene(folder)
    assert {"no calibration for VV", "no noise table for VV"} <= set(scene.warnings)
    with pytest.raises(InputError, match="no calibration for VV"):
        scene.calibration["VV"]


def test_an_absent_image_is_an_error_when_read(product):
    scene = open_scene(product("8255"))
    assert scene.polarisations == ("VV", "VH")
    assert "no image for VV, VH" in scene.warnings
    with pytest.raises(InputError, match="no image for VH"):
        scene.dn("VH", Window(row=0, col=0, rows=1, cols=1))
    with pytest.raises(InputError, match="no image file"):
        scene.to_xarray()


@pytest.mark.parametrize(
    ("name", "mode", "kind", "polarisations", "shape", "relative_orbit"),
    [
        ("BB15", "EW", "GRDM", ("HH", "HV"), (10708, 10487), 20),
        ("4B8B", "S4", "GRDH", ("HH", "HV"), (11524, 8087), 15),
        ("ECC8", "IW", "GRDH", ("VV", "VH"), (16685, 25788), 168),
        ("6D00", "IW", "GRDH", ("VV", "VH"), (16712, 25560), 7),
    ],
)
def test_other_modes_and_generations(product, name, mode, kind, polarisations, shape, relative_orbit):
    scene = open_scene(product(name))
    assert (scene.mode, scene.product_type, scene.polarisations) == (mode, kind, polarisations)
    assert (scene.shape, scene.relative_orbit) == (shape, relative_orbit)


def test_the_short_names_of_a_mirror_are_found_by_their_places(product, tmp_path):
    path = product("BB15")
    scene = open_scene(path)
    assert list(scene.calibration) == list(scene.noise) == ["HH", "HV"]
    assert any("short names" in warning for warning in scene.warnings)
    # the mirror's folder has no .SAFE at its end
    folder = tmp_path / "S1A_EW_GRDM_1SDH_20221130T014342_20221130T014446_046117_058549_BB15"
    unzip(path, tmp_path).rename(folder)
    assert open_scene(folder).id == scene.id


def test_downlinked_and_predicted_orbits_are_warned_of(product):
    assert any("downlinked" in warning for warning in open_scene(product("ECC8")).warnings)
    assert any("prediction" in warning for warning in open_scene(product("4B8B")).warnings)
    assert not any("orbit" in warning for warning in open_scene(product("8255")).warnings)


def test_the_image_comes_in_windows(filled):
    folder, archive, numbers = filled
    for path in (folder, archive):
        scene = open_scene(path)
        np.testing.assert_array_equal(scene.dn("VV", PATCH), numbers)
        window = Window(row=PATCH.row - 3, col=PATCH.col + 11, rows=9, cols=13)
        want = np.zeros((9, 13), np.uint16)
        want[3:] = numbers[:6, 11:24]
        got = scene.dn("VV", window)
        assert got.dtype == np.uint16
        np.testing.assert_array_equal(got, want)
        with pytest.raises(ValueError, match="not inside"):
            scene.dn("VV", Window(row=16700, col=0, rows=6, cols=1))


def test_the_lazy_array_equals_the_windows(filled):
    folder, _, numbers = filled
    scene = pickle.loads(pickle.dumps(open_scene(folder)))
    lazy = scene.to_xarray()
    assert (lazy.dims, lazy.shape, lazy.dtype) == (("band", "line", "pixel"), (1, 16705, 26102), np.uint16)
    assert list(lazy.band.values) == ["VV"]
    assert {len(chunks) for chunks in lazy.chunks[2:]} == {1}  # whole lines
    part = lazy.sel(band="VV")[PATCH.row : PATCH.row_stop, PATCH.col : PATCH.col_stop]
    np.testing.assert_array_equal(part.compute().values, numbers)


def test_unpacking_takes_compressed_images_out_of_the_archive(filled, tmp_path, monkeypatch):
    folder, archive, numbers = filled
    assert open_scene(folder).unpacked(tmp_path / "none").measurements["VV"].archive is None
    assert not (tmp_path / "none").exists()
    scene = open_scene(archive)
    out = scene.unpacked(tmp_path / "scratch")
    assert out.measurements["VV"].archive is None
    assert [path.suffix for path in (tmp_path / "scratch").iterdir()] == [".tiff"]
    np.testing.assert_array_equal(out.dn("VV", PATCH), numbers)
    assert_is_rome(out)

    monkeypatch.setattr(model.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(MissingError, match="are needed to unpack"):
        scene.unpacked(tmp_path / "full")
    assert not list((tmp_path / "full").iterdir())


def test_stored_images_stay_in_the_archive(filled, tmp_path):
    folder, _, numbers = filled
    archive = tmp_path / "stored.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as out:
        for file in sorted(folder.rglob("*")):
            out.write(file, f"{folder.name}/{file.relative_to(folder)}")
    scene = open_scene(archive)
    assert scene.unpacked(tmp_path / "scratch") is scene
    np.testing.assert_array_equal(scene.dn("VV", PATCH), numbers)


def test_damaged_archives_are_one_clear_error(filled, tmp_path):
    _, archive, _ = filled
    content = archive.read_bytes()
    truncated = tmp_path / "truncated.zip"
    truncated.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="zip archive is damaged or was not downloaded to its end"):
        open_scene(truncated)

    with zipfile.ZipFile(archive) as opened:
        (image,) = [member for member in opened.infolist() if member.filename.endswith(".tiff")]
        (noise,) = [member for member in opened.infolist() if "/noise-" in member.filename]
    for member, name in ((image, "image.zip"), (noise, "noise.zip")):
        spoilt = bytearray(content)
        middle = member.header_offset + 100 + len(member.filename) + member.compress_size // 2
        spoilt[middle : middle + 40] = b"x" * 40
        (tmp_path / name).write_bytes(spoilt)
    with pytest.raises(InputError, match=r"noise-.* is damaged inside of the archive"):
        open_scene(tmp_path / "noise.zip")
    scene = open_scene(tmp_path / "image.zip")
    with pytest.raises(InputError, match="the archive is damaged"):
        scene.unpacked(tmp_path / "scratch")
    assert not list((tmp_path / "scratch").iterdir())


def test_what_is_no_scene_is_one_clear_error(shared, product, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        open_scene(tmp_path / "absent.zip")
    with pytest.raises(InputError, match="not a radar scene"):
        open_scene(tmp_path)
    with pytest.raises(InputError, match="not a radar scene"):
        open_scene(shared / "data/s1_grd_rome/Rome-30m-DEM.tif")
    with pytest.raises(InputError, match="not a radar scene"):
        open_scene(product("DF62"))  # an annotation alone


def edit(folder, pattern, old, new):
    (path,) = folder.glob(pattern)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<numberOfLines>16854</numberOfLines>", "<numberOfLines>16853</numberOfLines>", "VV and VH differ in size"),
        ("<productFirstLineUtcTime>2021-01-19T03:16:53.", "<productFirstLineUtcTime>2021-01-19T03:16:52.", "differ in first line"),
        ("<numberOfSamples>25931</numberOfSamples>", "<numberOfSamples>wide</numberOfSamples>", "numberOfSamples holds 'wide'"),
        ("orbitList", "orbitLost", "not well-formed XML"),
        ("<polarisation>VH", "<polarisation>VV", "differ in polarisation"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(product, tmp_path, old, new, message):
    folder = unzip(product("8255"), tmp_path)
    edit(folder, "annotation/*-vh-*.xml", old, new)
    with pytest.raises(InputError, match=message):
        open_scene(folder)


@pytest.mark.parametrize(
    ("pattern", "old", "new", "message"),
    [
        ("annotation/*.xml", "<rangePixelSpacing>", "<rangePixelSpacing>-", "pixel spacing is positive, not -10"),
        ("annotation/*.xml", "<azimuthTimeInterval>", "<azimuthTimeInterval>-", "line interval is positive"),
        ("annotation/*.xml", "<numberOfSamples>", "<numberOfSamples>-", "lines and pixels, not"),
        ("annotation/*.xml", "<radarFrequency>", "<radarFrequency>-", "wavelength is positive"),
        ("annotation/*.xml", "<rangePixelSpacing>1.000000e+01", "<rangePixelSpacing>nan", "rangePixelSpacing holds 'nan'"),
        ("annotation/*.xml", "<position>", "<position><x>0</x><y>0</y><z>0</z>", "inside of the Earth"),
        ("annotation/calibration/calibration*.xml", "<gamma count=", "<gamma>nan</gamma><gamma count=", "gamma holds 'nan'"),
    ],
)
def test_numbers_that_cannot_be_are_bad_input(rome, tmp_path, pattern, old, new, message):
    folder = tmp_path / rome.name
    shutil.copytree(rome, folder)
    edit(folder, pattern, old, new)
    with pytest.raises(InputError, match=message):
        open_scene(folder)


def test_a_product_without_located_points_is_bad_input(rome, tmp_path):
    folder = tmp_path / rome.name
    shutil.copytree(rome, folder)
    (path,) = folder.glob("annotation/*.xml")
    path.write_text(path.read_text().replace("geolocationGridPoint>", "point>"))
    with pytest.raises(InputError, match="no points in the geolocation grid"):
        open_scene(folder)


def test_a_missing_element_is_named_with_its_file(rome, tmp_path):
    folder = tmp_path / rome.name
    shutil.copytree(rome, folder)
    edit(folder, "annotation/*.xml", "azimuthTimeInterval>", "azimuthTimeIntervall>")
    edit(folder, "annotation/*.xml", "</azimuthTimeInterval>", "</azimuthTimeIntervall>")
    with pytest.raises(InputError, match=r"no element imageInformation/azimuthTimeInterval \[.*-vv-.*xml\]"):
        open_scene(folder)


def test_an_image_of_another_size_is_refused(rome, tmp_path):
    folder = tmp_path / rome.name
    shutil.copytree(rome, folder)
    (image,) = (folder / "measurement").iterdir()
    image.unlink()
    write_image(image, (17, 31), Window(row=0, col=0, rows=1, cols=1), np.ones((1, 1), np.uint16))
    with pytest.raises(InputError, match="17, 31"):
        open_scene(folder).dn("VV", Window(row=0, col=0, rows=1, cols=1))


def test_entities_are_never_followed(rome, tmp_path):
    folder = tmp_path / rome.name
    shutil.copytree(rome, folder)
    secret = tmp_path / "secret.txt"
    secret.write_text("S1A")
    edit(folder, "annotation/*.xml", "<product>", f'<!DOCTYPE product [<!ENTITY leak SYSTEM "{secret.as_uri()}">]><product>')
    edit(folder, "annotation/*.xml", "<missionId>S1B", "<missionId>&leak;")
    assert open_scene(folder).mission == ""


def test_info_prints_scenes_and_rasters(rome, shared):
    done = CliRunner().invoke(info, [str(rome), str(shared / "data/s1_grd_rome/Rome-30m-DEM.tif")])
    assert done.exit_code == 0, done.output
    words = " ".join(done.output.split())
    for text in (ROME, "polarisations: VV", "relative orbit: 22", "calibration: VV", "names 8 files that are absent", "EPSG:9707"):
        assert text in words
    done = CliRunner().invoke(info, ["--json", str(rome)])
    (scene,) = json.loads(done.output)
    assert (scene["kind"], scene["lines"], scene["pixels"], scene["noise_removed"]) == ("scene", 16705, 26102, False)
    assert len(scene["warnings"]) == 2


def test_info_of_a_scene_loads_nothing_that_is_slow(rome):
    code = (
        "import sys; from pathlib import Path; from sarseg.cli.info import describe; describe(Path(sys.argv[1]));"
        "sys.exit(any(name in sys.modules for name in ('torch', 'dask', 'xarray', 'numba', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(rome)], check=False).returncode == 0


def test_info_of_nothing_is_an_input_error(tmp_path):
    for path, message in ((tmp_path / "x", "no such file"), (tmp_path, "no scene, product, dataset, map or model")):
        result = CliRunner().invoke(info, [str(path)])
        assert isinstance(result.exception, InputError)
        assert message in str(result.exception)
    (tmp_path / "model.json").write_text("{}")
    result = CliRunner().invoke(info, [str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "model.safetensors is absent" in str(result.exception)
