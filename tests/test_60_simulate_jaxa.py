"""The simulated mosaic and forest map beside real tiles, beside their truth, and beside geometry on paper."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from lxml import etree
from pyproj import Transformer
from rasterio.crs import CRS

from sarseg.cli.simulate import jaxa_mosaic
from sarseg.errors import InputError, UsageError
from sarseg.grid import MapGrid
from sarseg.labels.options import LabelOptions
from sarseg.labels.sources import open_sources
from sarseg.product.open import open_product
from sarseg.simulate.jaxa import JaxaOptions, simulate_jaxa
from sarseg.simulate.landscape import make_landscape, read_landscape, write_landscape
from sarseg.simulate.options import LandscapeOptions
from sarseg.simulate.terrain import Terrain
from sarseg.tiles import Window

CORNER = (11.03, 48.975)
"""In the top left of the tile N49E011, so that a trimmed tile is small."""
LOOK_DEG = 90.0 + np.degrees(np.arcsin(np.cos(np.radians(97.9)) / np.cos(np.radians(48.975))))
"""Azimuth in which an ascending ALOS looks: to the right of its heading, sin(heading) = cos(inclination) / cos(latitude)."""
CLASSES = ("water", "bare", "grass", "cereal", "broadleaf", "forest", "built")
GAMMA0_DB = {
    "HH": (-18.0, -17.0, -14.5, -13.0, -8.5, -7.5, -2.0),
    "HV": (-36.0, -28.0, -24.0, -21.0, -15.0, -12.5, -14.0),
}
SLOPE_DB = {"HH": (-0.4, -0.17, -0.1, -0.1, -0.03, 0, 0), "HV": (0, -0.08, -0.03, -0.03, 0, 0, 0)}
NOISE_DB = -32.0


def land(**more) -> LandscapeOptions:
    return LandscapeOptions(**{"size_px": 300, "lon_deg": CORNER[0], "lat_deg": CORNER[1], "relief_m": 0.0, **more})


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {one.name: archive.extractfile(one).read() for one in archive}


def opened(content: bytes):
    with rasterio.MemoryFile(content) as memory, memory.open() as file:
        return file.read(1), file.profile, file.tags()


def truth_at(folder: Path, lon, lat):
    """Class codes of the landscape under points; 0 outside."""
    with rasterio.open(folder / "truth.tif") as file:
        codes, inverse, crs = file.read(1), ~file.transform, file.crs
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    col, row = np.floor(inverse.a * x + inverse.c).astype(int), np.floor(inverse.e * y + inverse.f).astype(int)
    inside = (row >= 0) & (row < codes.shape[0]) & (col >= 0) & (col < codes.shape[1])
    return np.where(inside, codes[np.clip(row, 0, codes.shape[0] - 1), np.clip(col, 0, codes.shape[1] - 1)], 0)


def shares(folder: Path, grid: MapGrid, side: int = 9):
    """Share of each class 0..7 in every pixel of a grid, (8, rows, cols), from side x side points."""
    rows, cols = grid.shape
    fine = MapGrid(crs=grid.crs, transform=grid.transform @ Affine.scale(1 / side), shape=(rows * side, cols * side))
    codes = truth_at(folder, *np.meshgrid(*fine.centres())).reshape(rows, side, cols, side)
    return np.stack([(codes == code).mean(axis=(1, 3)) for code in range(8)])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One landscape without spread, flat, as three years see it; no speckle."""
    folder = tmp_path_factory.mktemp("plain")
    write_landscape(make_landscape(land(variation="none")), folder)
    for year in (2009, 2015, 2020):
        simulate_jaxa(folder / str(year), JaxaOptions(year=year, landscape_dir=folder, trimmed=True, speckle=False))
    return folder


def test_a_tile_has_the_structure_of_the_real_one(shared, tmp_path):
    made = simulate_jaxa(tmp_path, JaxaOptions(year=2020, landscape=land(size_px=100)))
    assert [one.name for one in made.mosaic] == ["N49E011_20_MOS_F02DAR.tar.gz"]
    ours = members(made.mosaic[0])
    real = members(shared / "data/jaxa_mosaic/N23W161_20_MOS_F02DAR.tar.gz")
    assert {name.replace("N49E011", "N23W161") for name in ours} == set(real)
    for name in real:
        mine = ours[name.replace("N23W161", "N49E011")]
        if name.endswith(".tif"):
            _, profile, tags = opened(mine)
            _, expected, expected_tags = opened(real[name])
            assert tags == expected_tags
            place, expected_place = profile.pop("transform"), expected.pop("transform")
            assert profile == expected
            assert (place.c, place.f) == (11, 49)
            assert [place.a, place.e] == pytest.approx([expected_place.a, expected_place.e], abs=1e-15)
            continue
        mine, its = (etree.fromstring(content) for content in (mine, real[name]))
        paths = {mine.getroottree().getpath(node): node for node in mine.iter()}
        known = {re.sub(r"\[\d+\]", "", its.getroottree().getpath(node)): node for node in its.iter() if isinstance(node.tag, str)}
        for path, node in paths.items():
            twin = known[re.sub(r"\[\d+\]", "", path)]
            if node.tag in (
                "BackscatterConversionEq",
                "ZeroReferenceDate",
                "NumberLines",
                "NumPixelsPerLine",
                "PassDirection",
                "OceanWater",
            ):
                assert node.text == twin.text
            assert not any(value for key, value in node.attrib.items() if key not in twin.attrib)


def test_a_forest_map_has_the_structure_of_the_real_one(shared, tmp_path):
    made = simulate_jaxa(tmp_path, JaxaOptions(year=2015, landscape=land(size_px=100)))
    ours = members(made.fnf[0])
    real = members(shared / "data/jaxa_fnf/S16W150_15_FNF_F02DAR.tar.gz")
    assert [name.replace("N49E011", "S16W150") for name in ours] == sorted(real)
    assert [len(content) for content in ours.values()][:1] == [len(real["S16W150_15_C_F02DAR"])]
    keys = [
        dict(re.findall(r"^([\w ]+?)\s*= (.*)$", one[name].decode(), re.MULTILINE)) for one in (ours, real) for name in one if "hdr" in name
    ]
    assert set(keys[1]) - set(keys[0]) <= {"description", "wavelength units"}
    for key, value in keys[0].items():
        if key == "map info":
            assert value == keys[1][key].replace("-540000.00000000, -57600.00000000", "39600.00000000, 176400.00000000")
        else:
            assert value == keys[1][key]


def test_every_class_has_its_gamma0(plain):
    product = open_product(plain / "2020")
    hh_hv, angle, where = product.read(), product.read(bands=["incidence"])[0], shares(plain, product.grid)
    assert product.platform if hasattr(product, "platform") else product.item["properties"]["platform"] == "alos-2"
    for k, pol in enumerate(("HH", "HV")):
        for code, name in enumerate(CLASSES, start=1):
            pure = where[code] == 1
            assert np.count_nonzero(pure) > 20, name
            look = np.nanmean(angle[pure])
            power = 10 ** (0.1 * (GAMMA0_DB[pol][code - 1] + SLOPE_DB[pol][code - 1] * (look - 39)))
            expected = power + 10 ** (0.1 * NOISE_DB) / np.cos(np.radians(look))
            # the angle is written in whole degrees; a DN of 350 and more is fine to 0.02 dB
            assert 10 * np.log10(hh_hv[k][pure].mean(dtype=float) / expected) == pytest.approx(0, abs=0.03), (name, pol)
    assert np.nanmin(angle) >= 35
    assert np.nanmax(angle) <= 37


def test_all_formats_hold_the_same_and_days_count_from_the_launch(plain):
    products = {year: open_product(plain / str(year)) for year in (2009, 2015, 2020)}
    names = {year: {one.name for one in (plain / str(year)).iterdir()} for year in products}
    assert names == {
        2009: {"N49E011_09_MOS.tar.gz", "fnf"},
        2015: {"N49E011_15_MOS_F02DAR.tar.gz", "fnf"},
        2020: {"N49E011_20_MOS_F02DAR.tar.gz", "fnf"},
    }
    assert set(members(plain / "2009" / "N49E011_09_MOS.tar.gz")) == {
        f"N49E011_09_{layer}{end}" for layer in ("sl_HH", "sl_HV", "linci", "date", "mask") for end in ("", ".hdr")
    }
    for year, product in products.items():
        assert product.grid == products[2020].grid
        np.testing.assert_array_equal(product.read(), products[2020].read())
        np.testing.assert_array_equal(product.mask(), products[2020].mask())
        date = product.read(bands=["date"])[0]
        assert set(date[~np.isnan(date)].astype("datetime64[D]")) == {np.datetime64(f"{year}-06-15")}
    assert [one.item["properties"]["platform"] for one in products.values()] == ["alos", "alos-2", "alos-2"]


def test_tiles_and_the_forest_map_lie_on_the_truth(tmp_path):
    """A landscape on a corner of four tiles, joined by the reader."""
    options = JaxaOptions(year=2015, landscape=land(size_px=240, lon_deg=11.0, lat_deg=48.0, field_ha=40.0), speckle=False, folders=True)
    made = simulate_jaxa(tmp_path / "sim", options)
    assert [one.name[:7] for one in made.mosaic] == ["N49E010", "N49E011", "N48E010", "N48E011"]
    product = open_product(tmp_path / "sim")
    window = Window(row=4400, col=4400, rows=200, cols=200)
    assert product.grid.bounds == pytest.approx((10, 47, 12, 49))
    where = shares(tmp_path / "sim", product.grid.crop(window), side=5)
    there = where[0] == 0
    mask = product.mask(window)
    np.testing.assert_array_equal((mask == 0) >= there, True)
    assert np.count_nonzero((mask == 0) & (where[0] > 0.2)) == 0
    water = product.read(window, ["water"])[0]
    certain = there & (np.abs(where[1] - 0.5) > 0.2)
    np.testing.assert_array_equal(water[certain] == 1, where[1][certain] > 0.5)
    labels = open_sources(tmp_path / "sim" / "fnf")
    row, col = labels.grid.offset_of(product.grid)
    codes = labels.codes(window.shift(rows=row, cols=col))
    expected = np.select([where[1] > 0.5, where[6] > 0.5], [3, 1], 2)
    certain &= np.abs(where[6] - 0.5) > 0.2
    np.testing.assert_array_equal(codes[certain], expected[certain])
    assert {1, 2, 3} <= set(np.unique(codes[certain]))
    assert np.count_nonzero(certain) > 12_000


def test_three_and_four_classes_of_one_landscape(plain, tmp_path):
    for year in (2017, 2018):
        simulate_jaxa(tmp_path / str(year), JaxaOptions(year=year, landscape_dir=plain, trimmed=True))
    fnf = {2015: plain / "2015" / "fnf", 2017: tmp_path / "2017" / "fnf", 2018: tmp_path / "2018" / "fnf"}
    three, four = open_sources(fnf[2015]), open_sources(fnf[2018])
    whole = Window.whole(three.grid.shape)
    assert (three.origin.kind, four.origin.kind) == ("fnf3", "fnf4")
    assert set(np.unique(four.codes(whole))) == {0, 1, 2, 3, 4}
    as_three = np.array([0, 1, 1, 2, 3])[four.codes(whole)]
    np.testing.assert_array_equal(as_three, three.codes(whole))
    where = shares(plain, three.grid)
    assert where[6][four.codes(whole) == 1].min() > 0.7
    assert where[6][four.codes(whole) == 2].max() < 0.98
    remapped = open_sources(fnf[2018], options=LabelOptions(remap="fnf"))
    np.testing.assert_array_equal(remapped.codes(whole), three.codes(whole))
    wet = open_sources(fnf[2017])  # JAXA has this year in both editions: water says which
    assert wet.origin.kind == "fnf4"
    np.testing.assert_array_equal(wet.codes(whole), four.codes(whole))
    land = read_landscape(plain)
    land.codes[land.codes == 1] = 2
    write_landscape(land, tmp_path / "dry")
    simulate_jaxa(tmp_path / "dry", JaxaOptions(year=2017, landscape_dir=tmp_path / "dry", trimmed=True))
    with pytest.raises(UsageError, match="three or four classes"):
        open_sources(tmp_path / "dry" / "fnf")


RIDGE_M, FACING, AWAY = 300.0, np.tan(np.radians(48)), np.tan(np.radians(65))


def ridge(across):
    """Height of a ridge along the track: 48 degrees towards the radar, 65 degrees away from it, its crest at 0."""
    return RIDGE_M - np.where(across < 0, -FACING * across, AWAY * across).clip(max=RIDGE_M)


def test_layover_shadow_and_local_incidence_of_a_ridge(tmp_path):
    """Against plane waves: range = u sin - h cos must grow, and u cos + h sin stay above what came before."""
    flat = make_landscape(land(variation="none"))
    posts = flat.terrain.grid
    to_map = Transformer.from_crs("EPSG:4326", flat.grid.crs, always_xy=True)
    middle = np.mean(np.reshape(flat.grid.bounds, (2, 2)), axis=0)

    def across(lon, lat):
        x, y = to_map.transform(lon, lat)
        return (x - middle[0]) * np.sin(np.radians(LOOK_DEG)) + (y - middle[1]) * np.cos(np.radians(LOOK_DEG))

    terrain = Terrain(grid=posts, height_m=ridge(across(*np.meshgrid(*posts.centres()))).astype("f4"))
    write_landscape(type(flat)(grid=flat.grid, codes=flat.codes, legend=flat.legend, terrain=terrain, gamma0_39=flat.gamma0_39,
                               description=flat.description), tmp_path)  # fmt: skip
    made = simulate_jaxa(tmp_path / "sim", JaxaOptions(year=2016, landscape_dir=tmp_path, trimmed=True, speckle=False, folders=True))
    product = open_product(made.mosaic[0])
    with rasterio.open(made.mosaic[0] / "N49E011_16_mask_F02DAR") as file:
        codes = file.read(1)
    places = np.meshgrid(*product.grid.centres())
    u = across(*places)
    theta = np.radians(36.0)
    foot_near, foot_far = -RIDGE_M / FACING, RIDGE_M / AWAY
    # layover: from where the flat ground has the crest's range to where the back has the near foot's
    start = -RIDGE_M / np.tan(theta)
    back = (foot_near * np.sin(theta) + RIDGE_M * np.cos(theta)) / (np.sin(theta) + AWAY * np.cos(theta))
    # shadow: from the crest to where its ray meets the ground
    end = RIDGE_M * np.tan(theta)
    rim = 30.0
    assert start < foot_near < 0 < back < foot_far < end
    # at the landscape's edges the crest before a place may lie outside
    inside = (codes != 0) & (np.abs(to_map.transform(*places)[1] - middle[1]) < 1100)
    assert (codes[inside & (u > start + rim) & (u < back - rim)] == 100).all()
    assert (codes[inside & (u > back + rim) & (u < end - rim)] == 150).all()
    free = codes[inside & ((u < start - rim) | (u > end + rim))]
    assert set(np.unique(free)) <= {50, 255}
    angle = product.read(bands=["incidence"])[0]
    facing = inside & (u > foot_near + rim) & (u < -rim)
    assert np.abs(angle[facing] - (48 - 36)).max() <= 1
    assert np.abs(angle[inside & (u > end + rim)] - 36).max() <= 1
    # shadow holds noise alone
    dark = inside & (u > back + rim) & (u < end - rim)
    expected = NOISE_DB - 10 * np.log10(np.cos(theta))
    assert np.count_nonzero(dark) > 500
    assert 10 * np.log10(product.read()[:, dark].mean(axis=1)) == pytest.approx([expected, expected], abs=0.1)


def ocean_statistics(dn):
    """Looks (median over blocks of 32) and correlations of neighbours along a row and a column."""
    power = dn.astype(float) ** 2
    rows, cols = (size // 32 * 32 for size in power.shape)
    blocks = power[:rows, :cols].reshape(rows // 32, 32, cols // 32, 32).transpose(0, 2, 1, 3).reshape(-1, 32, 32)
    blocks = blocks[(blocks > 1).all(axis=(1, 2))]
    blocks = blocks / blocks.mean(axis=(1, 2), keepdims=True) - 1
    variance = (blocks**2).mean()
    looks = np.median(1 / (blocks**2).mean(axis=(1, 2)))
    return looks, (blocks[:, :, 1:] * blocks[:, :, :-1]).mean() / variance, (blocks[:, 1:] * blocks[:, :-1]).mean() / variance


def test_speckle_is_like_that_of_the_real_ocean_and_leaves_the_mean(shared, tmp_path):
    flat = make_landscape(land(variation="none"))
    lake = type(flat)(grid=flat.grid, codes=np.ones_like(flat.codes), legend=flat.legend, terrain=flat.terrain,
                      gamma0_39=np.full_like(flat.gamma0_39, 10**-2.0), description=flat.description)  # fmt: skip
    lake.gamma0_39[1] = 10**-3.0
    write_landscape(lake, tmp_path)
    real = members(shared / "data/jaxa_mosaic/N23W161_20_MOS_F02DAR.tar.gz")
    made = {}
    for speckle in (True, False):
        options = JaxaOptions(year=2020, landscape_dir=tmp_path, trimmed=True, speckle=speckle)
        made[speckle] = members(simulate_jaxa(tmp_path / str(speckle), options).mosaic[0])
    for pol in ("HH", "HV"):
        expected = ocean_statistics(opened(real[f"N23W161_20_sl_{pol}_F02DAR.tif"])[0][3950:4500, 1155:4000])
        dn, mean = (opened(made[key][f"N49E011_20_sl_{pol}_F02DAR.tif"])[0] for key in (True, False))
        found = ocean_statistics(dn)
        assert found[0] == pytest.approx(expected[0], rel=0.12), pol
        assert found[1] == pytest.approx(expected[1], abs=0.08), pol
        assert found[2] == pytest.approx(expected[2], abs=0.08), pol
        there = mean > 1
        ratio = (dn[there].astype(float) ** 2).mean() / (mean[there].astype(float) ** 2).mean()
        assert 10 * np.log10(ratio) == pytest.approx(0, abs=0.03)


def test_tiles_have_no_seam_in_their_speckle_and_equal_bytes_twice(tmp_path):
    """Two tiles of one landscape, and one tile of it moved by a whole degree: numbers go by the place on the Earth."""
    options = {"year": 2020, "landscape": land(size_px=300, lon_deg=11.0, variation="none"), "seed": 3, "trimmed": True}
    first = simulate_jaxa(tmp_path / "a", JaxaOptions(**options))
    again = simulate_jaxa(tmp_path / "b", JaxaOptions(**options))
    assert [one.read_bytes() for one in first.mosaic] == [one.read_bytes() for one in again.mosaic]
    hh = open_product(tmp_path / "a").read()[0]
    steps = np.abs(np.diff(np.log(hh), axis=1))
    seam = steps[:, 4499]
    beside = np.concatenate([steps[:, 4490:4499].ravel(), steps[:, 4500:4510].ravel()])
    assert np.nanmean(seam) == pytest.approx(np.nanmean(beside), rel=0.25)
    other = simulate_jaxa(tmp_path / "c", JaxaOptions(**{**options, "seed": 4, "landscape_dir": tmp_path / "a"}))
    assert first.mosaic[0].read_bytes() != other.mosaic[0].read_bytes()


def test_the_command(tmp_path):
    words = [
        "-o",
        str(tmp_path / "sim"),
        "--year",
        "2016",
        "--size",
        "60",
        "--centre",
        *map(str, CORNER),
        "--trimmed",
        "--folders",
        "--json",
    ]
    result = CliRunner().invoke(jaxa_mosaic, [*words, "--pass", "descending", "--no-speckle", "--relief", "0"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    folder = Path(said["mosaic"][0])
    assert (folder.name, folder.is_dir()) == ("N49E011_16_MOS_F02DDR", True)
    assert Path(said["fnf"][0]) == tmp_path / "sim" / "fnf" / "N49E011_16_FNF_F02DDR"
    assert all(Path(said[key]).is_file() for key in ("dem", "truth", "legend"))
    with rasterio.open(folder / "N49E011_16_sl_HH_F02DDR") as file:
        assert file.crs == CRS.from_epsg(4326)
    assert {path.name for path in (tmp_path / "sim").iterdir()} >= {"fnf", "truth.tif", "N49E011_16_MOS_F02DDR"}
    assert not list((tmp_path / "sim").rglob(".partial*"))
    text = CliRunner().invoke(jaxa_mosaic, [*words[:-1]])
    assert text.stdout.splitlines()[0] == f"mosaic {tmp_path / 'sim' / 'N49E011_16_MOS_F02DAR'}"


def test_what_cannot_be_simulated_is_refused(tmp_path):
    for wrong in ({"year": 2012}, {"year": 2006}, {"incidence_deg": 60.0}, {"seed": -1}):
        with pytest.raises(UsageError):
            JaxaOptions(**wrong)
    with pytest.raises(InputError, match="not a landscape"):
        simulate_jaxa(tmp_path / "out", JaxaOptions(landscape_dir=tmp_path))
    assert not (tmp_path / "out").exists()


def test_the_same_landscape_as_other_sensors_see(plain):
    """Class by class the L-band spread is that of the C-band landscape: what is bright in VV is bright in HH."""
    from sarseg.simulate.lband import LBandGround

    landscape = make_landscape(land())
    again = read_landscape(plain)
    assert (landscape.codes == again.codes).all()
    gamma0, _ = LBandGround(landscape=landscape).gamma0(Window.whole(landscape.grid.shape), ("HV", "HH"))
    for code in (2, 4, 5, 6):
        here = landscape.codes == code
        for at, k, sd in ((0, 1, np.hypot(0.9, 0.4 if code == 6 else 0.3)), (1, 0, np.hypot(0.7, 0.4 if code == 6 else 0.3))):
            lband, c_band = 10 * np.log10(gamma0[at][here]), 10 * np.log10(landscape.gamma0_39[k][here])
            assert np.corrcoef(lband, c_band)[0, 1] == pytest.approx(1, abs=1e-4)
            # few fields a class: their spread is known to a fifth
            assert lband.std() == pytest.approx(sd, rel=0.4)
    assert np.isfinite(gamma0).all()
