"""Known label products: real tiles and made ones, their legends, dates and remap tables."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from numpy.typing import NDArray

from sarseg.cli.labels import command
from sarseg.errors import InputError, SarsegError, UsageError
from sarseg.labels.known import KINDS, READY, composed, legend_of, ready_remap, recognise, values_of
from sarseg.labels.options import LabelOptions, check_dates
from sarseg.labels.resample import make_labels
from sarseg.labels.sources import Remap, open_labels, open_sources
from sarseg.legend import Legend
from sarseg.product.open import open_map
from sarseg.tiles import Window

TILE = "S16W150_15_FNF_F02DAR.tar.gz"
MAP_INFO = "map info = {Geographic Lat/Lon, 1, 1, %d, -57600, 0.8, 0.8, WGS-84, units=Seconds}"


def codes_of(path: Path, **options: object) -> NDArray[np.uint8]:
    labels = open_sources(path, None, None, LabelOptions(**options))  # type: ignore[arg-type]
    return labels.codes(Window.whole(labels.grid.shape))


def tif(path: Path, data: NDArray[np.generic], *, left: float = 10.0, step: float = 1 / 12000, nodata: float | None = None) -> Path:
    transform = Affine(step, 0, left, 0, -step, 50.0)
    profile = {"driver": "GTiff", "height": data.shape[0], "width": data.shape[1], "crs": "EPSG:4326", "transform": transform}
    with rasterio.open(path, "w", count=1, dtype=data.dtype.name, nodata=nodata, **profile) as file:
        file.write(data[np.newaxis])
    return path


def raw_fnf(data: NDArray[np.uint8], *, corner_s: int = -540_000, more: str = "") -> dict[str, bytes]:
    """A raw tile and its header, by the ends of their names."""
    lines = [
        "ENVI",
        f"samples = {data.shape[1]}",
        f"lines = {data.shape[0]}",
        "bands = 1",
        "header offset = 0",
        "file type = ENVI Standard",
    ]
    lines += ["data type = 1", "interleave = bsq", "byte order = 0", MAP_INFO % corner_s, more]
    return {"": data.tobytes(), ".hdr": "\n".join(lines).encode()}


def archive(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def made_fnf(folder: Path, year: int, data: NDArray[np.uint8], *, end: str = ".tar.gz", more: str = "", level: str = "") -> Path:
    name = f"{level}S16W150_{year:02d}_C_F02DAR"
    return archive(folder / f"S16W150_{year:02d}_FNF_F02DAR{end}", {name + key: value for key, value in raw_fnf(data, more=more).items()})


def test_the_real_forest_map_in_its_archive(shared: Path, tmp_path: Path) -> None:
    path = shared / "data" / "jaxa_fnf" / TILE
    labels = open_sources(path)
    assert (labels.origin.kind, labels.origin.year, labels.grid.shape) == ("fnf3", 2015, (4500, 4500))
    assert labels.grid.bounds == pytest.approx((-150, -17, -149, -16), abs=1e-12)
    with tarfile.open(path) as file:
        content = file.extractfile("S16W150_15_C_F02DAR")
        assert content is not None
        raw = np.frombuffer(content.read(), np.uint8).reshape(4500, 4500)
    window = Window(row=4400, col=1800, rows=100, cols=400)
    np.testing.assert_array_equal(labels.codes(window), raw[window.slices])
    for remap, table in {"fnf": {2: 2, 3: 3}, "sar5": {2: 255, 3: 1}}.items():
        made = make_labels(path, _like(tmp_path / f"{remap}_like.tif", labels.grid), tmp_path / f"{remap}.tif", LabelOptions(remap=remap))
        with rasterio.open(made) as file:
            got, tags = file.read(1), file.tags()
        # counts of the README of the data, not of this code
        assert {code: int((got == code).sum()) for code in np.unique(got)} == {table[2]: 5383, table[3]: 20_244_617}
        assert not (got[:4426] == table[2]).any()
        assert (tags["label_kind"], tags["label_year"], tags["label_remap"], tags["label_ratio"]) == ("fnf3", "2015", remap, "1")
        assert tags["class_1"] == ("forest" if remap == "fnf" else "water")
    with pytest.raises(UsageError, match="names the legend fnf3, not fnf4"):
        open_sources(path, None, None, LabelOptions(kind="fnf4"))


def _like(path: Path, grid: object) -> Path:
    profile = {"driver": "GTiff", "height": grid.shape[0], "width": grid.shape[1], "crs": grid.crs, "transform": grid.transform}  # type: ignore[attr-defined]
    with rasterio.open(path, "w", count=1, dtype="uint8", sparse_ok=True, **profile):
        pass
    return path


@pytest.mark.parametrize(("year", "version"), [(2020, "v100"), (2021, "v200")])
def test_the_real_worldcover_tiles(shared: Path, tmp_path: Path, year: int, version: str) -> None:
    path = shared / "data" / "worldcover" / f"ESA_WorldCover_10m_{year}_{version}_N00E006_Map_crop.tif"
    counts = {
        2020: {10: 4201598, 20: 2276, 30: 312628, 40: 6856, 50: 118613, 60: 45062, 80: 3951054, 90: 1814, 95: 99},
        2021: {10: 4187654, 20: 341, 30: 308976, 40: 4601, 50: 163571, 60: 14105, 80: 3960008, 90: 714, 95: 30},
    }[year]
    made = make_labels(path, path, tmp_path / "own.tif", LabelOptions())
    with rasterio.open(made) as file:
        own, tags = file.read(1), file.tags()
    assert {int(code): int((own == code).sum()) for code in np.unique(own)} == counts
    assert (tags["label_kind"], tags["label_year"], tags["label_version"], tags["class_95"]) == (
        "worldcover",
        str(year),
        version,
        "mangroves",
    )
    made = make_labels(path, path, tmp_path / "five.tif", LabelOptions(remap="sar5"))
    five = open_map(made)
    assert five.legend.names == ("water", "bare and low vegetation", "shrub and wetland", "forest", "built-up")
    want = {1: counts[80], 2: sum(counts[v] for v in (30, 40, 60)), 3: counts[20] + counts[90], 4: counts[10] + counts[95], 5: counts[50]}
    got = five.codes()
    assert {code: int((got == code).sum()) for code in range(256) if (got == code).any()} == want
    other = shutil.copy(path, tmp_path / "renamed.tif")
    assert open_labels(other).origin.kind == "worldcover"  # by its tags


def test_code_2_is_another_class_from_2018_on(tmp_path: Path) -> None:
    data = np.random.default_rng(0).choice(np.array([1, 2, 3], np.uint8), (40, 50))  # 1..3 alone: a tile of four classes without water
    early, late = made_fnf(tmp_path, 15, data), made_fnf(tmp_path, 18, data, end=".zip", level="bundle/")
    np.testing.assert_array_equal(codes_of(early, remap="fnf"), data)
    np.testing.assert_array_equal(codes_of(late, remap="fnf"), np.array([0, 1, 1, 2])[data])
    np.testing.assert_array_equal(codes_of(early, remap="sar5"), np.array([0, 4, 255, 1])[data])
    np.testing.assert_array_equal(codes_of(late, remap="sar5"), np.array([0, 4, 4, 255])[data])
    assert open_sources(late).legend.names == ("dense forest", "non-dense forest", "non-forest", "water")
    between = made_fnf(tmp_path, 17, data)
    with pytest.raises(UsageError, match=r"three or four classes.*--legend fnf3"):
        open_sources(between)
    with pytest.raises(UsageError, match="three or four classes"):
        open_sources(between, None, None, LabelOptions(remap="fnf"))
    np.testing.assert_array_equal(codes_of(between, remap="fnf", kind="fnf3"), data)
    np.testing.assert_array_equal(codes_of(between, remap="fnf", kind="fnf4"), np.array([0, 1, 1, 2])[data])
    # a user's own table says what the values are
    np.testing.assert_array_equal(open_sources(between, None, Remap({1: 1, 2: 9, 3: 3})).codes(Window.whole((40, 50)))[data == 2], 9)


def test_2017_is_told_by_names_colours_or_a_4(tmp_path: Path) -> None:
    data = np.full((30, 20), 2, np.uint8)
    names = {
        "3": "class names = {NoData,Forest,Non-Forest,Water}",
        "4": "class names = {No data, Dense forest,Non-dense forest,Non-forest,Water}",
    }
    for count, more in names.items():
        (tmp_path / count).mkdir()
        assert open_sources(made_fnf(tmp_path / count, 17, data, more=more)).origin.kind == f"fnf{count}"
    data[3, 4] = 4
    assert open_sources(made_fnf(tmp_path, 17, data)).origin.kind == "fnf4"
    path = tif(tmp_path / "N10E010_17_C_F02DAR.tif", np.full((9, 9), 2, np.uint8))
    with pytest.raises(UsageError, match="three or four"):
        open_sources(path)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {1: (0, 178, 0), 2: (131, 239, 98), 3: (255, 255, 153), 4: (0, 0, 255)})
    assert open_sources(path).origin.kind == "fnf4"


def test_a_folder_of_tiles_is_joined_and_plain_raw_tiles_open(tmp_path: Path) -> None:
    data = np.random.default_rng(1).choice(np.array([1, 2, 3], np.uint8), (45, 45))
    for at, name in enumerate(("S16W150_16_C_F02DAR", "S16W149_16_C_F02DAR")):
        for end, content in raw_fnf(data + at * 0, corner_s=-540_000 + 36 * at).items():  # 45 pixels of 0.8 seconds
            (tmp_path / f"{name}{end}").write_bytes(content)
    (tmp_path / "readme.txt").write_text("no raster")
    joined = open_sources(tmp_path)
    assert joined.grid.shape == (45, 90)
    np.testing.assert_array_equal(joined.codes(Window(row=3, col=40, rows=9, cols=20)), np.tile(data, 2)[3:12, 40:60])
    np.testing.assert_array_equal(codes_of(tmp_path / "S16W149_16_C_F02DAR.hdr"), data)
    for end, content in raw_fnf(data).items():
        (tmp_path / f"S17W150_18_C_F02DAR{end}").write_bytes(content)
    with pytest.raises(InputError, match="different legends"):
        open_sources(tmp_path)
    with pytest.raises(InputError, match="are of 20"):
        open_sources(tmp_path, None, None, LabelOptions(remap="fnf"))


def test_a_header_without_its_raster_says_so(tmp_path: Path) -> None:
    data = np.ones((45, 45), np.uint8)
    name = "S16W150_16_C_F02DAR"
    for end, content in raw_fnf(data).items():
        (tmp_path / f"{name}{end}").write_bytes(content)
    (tmp_path / name).unlink()
    says = rf"only the header {name}\.hdr is there, not its raster \[.*/{name}\]: give the raster"
    for given in (f"{name}.hdr", name):
        with pytest.raises(InputError, match=says):
            open_sources(tmp_path / given)
    with pytest.raises(InputError, match=r"no such file \[.*/absent\.hdr\]"):
        open_sources(tmp_path / "absent.hdr")
    with pytest.raises(InputError, match="holds no class raster"):
        open_sources(tmp_path)


def test_other_products_by_their_names(tmp_path: Path) -> None:
    lc100 = tif(
        tmp_path / "PROBAV_LC100_global_v3.0.1_2019-nrt_Discrete-Classification-map.tif",
        np.array([[0, 20, 111, 126, 200, 255]], np.uint8),
        nodata=255,
    )
    assert codes_of(lc100, remap="sar5").tolist() == [[0, 3, 4, 4, 1, 0]]
    assert codes_of(lc100, remap="worldcover").tolist() == [[0, 20, 10, 10, 80, 0]]
    origin = open_labels(lc100).origin
    assert (origin.kind, origin.year, origin.version) == ("lc100", 2019, "3.0.1")
    three = tif(tmp_path / "U2018_CLC2018_V2020_20u1.tif", np.array([[111, 312, 523, 211, 335]], np.int16), nodata=-128)
    ranks = tif(tmp_path / "g100_clc12_V18_5.tif", np.array([[1, 24, 44, 12, 34, 48, 0]], np.uint8))
    assert codes_of(three, remap="sar5").tolist() == [[5, 4, 1, 2, 255]]
    assert codes_of(ranks, remap="sar5").tolist() == [[5, 4, 1, 2, 255, 0, 0]]
    assert codes_of(three).tolist() == [[1, 24, 44, 12, 34]]
    assert [open_labels(path).origin.year for path in (three, ranks)] == [2018, 2012]
    table = dict.fromkeys((111, 312, 523, 211, 335), 7)
    assert open_labels(three, None, Remap(table, default=9)).codes(Window.whole((1, 5))).tolist() == [[7] * 5]
    folder = tmp_path / "ver2111_LC_GeoTiff"
    folder.mkdir()
    rows = np.arange(13, dtype=np.uint8)[np.newaxis]
    assert codes_of(tif(folder / "LC_N36E140.tif", rows), remap="sar5").tolist() == [[0, 1, 5, 2, 2, 2, 4, 4, 4, 4, 2, 4, 5]]
    nameless = tif(tmp_path / "LC_N36E140.tif", rows)
    with pytest.raises(UsageError, match="version of HRLULC is not in the name"):
        open_sources(nameless)
    assert codes_of(nameless, kind="hrlulc21.11").tolist() == rows.tolist()
    (tmp_path / "2023SEA_v25.09").mkdir()
    with pytest.raises(UsageError, match=r"HRLULC of version 25\.09 is not known"):
        open_sources(tif(tmp_path / "2023SEA_v25.09" / "LC_N10E100.tif", rows), None, None, LabelOptions(remap="sar5"))
    with pytest.raises(InputError, match="quality layer"):
        recognise(Path("ESA_WorldCover_10m_2021_v200_N00E006_InputQuality.tif"), {})
    with pytest.raises(UsageError, match="no table for a source that is not known"):
        codes_of(tif(tmp_path / "mine.tif", rows), remap="sar5")


def test_remap_tables_are_complete_and_unknown_values_are_errors(tmp_path: Path) -> None:
    for name in READY:
        ready = ready_remap(name)
        for kind, table in ready.tables.items():
            out = composed(kind, table, None, name)  # names every code, or it raises
            assert set(out.values()) <= {0, 255, *ready.legend.codes}
            assert set(out) == set(values_of(kind))
    assert set(ready_remap("sar5").tables) == set(KINDS)
    assert sum(len(values) for values in ready_remap("sar5").tables.values()) == sum(len(legend_of(kind).codes) for kind in KINDS)
    path = tif(tmp_path / "ESA_WorldCover_10m_2021_v200_N00E006_Map.tif", np.array([[10, 80, 77]], np.uint8))
    with pytest.raises(InputError, match=r"leaves out 20 \(shrubland\).*name every code"):
        open_labels(path, None, Remap({10: 1, 80: 2}))
    with pytest.raises(InputError, match="value 77 is not in the legend of worldcover"):
        codes_of(path, remap="sar5")
    with pytest.raises(InputError, match="value 77 is not in the legend of worldcover"):
        codes_of(path)
    assert open_labels(path, None, Remap({10: 1, 80: 2}, default=255)).codes(Window.whole((1, 3))).tolist() == [[1, 2, 255]]


def test_damaged_archives_are_our_errors(shared: Path, tmp_path: Path) -> None:
    good = (shared / "data" / "jaxa_fnf" / TILE).read_bytes()
    rng = np.random.default_rng(2)
    for at in range(20):
        bad = bytearray(good[: int(rng.integers(1, len(good)))] if at % 2 else good)
        for place in rng.integers(0, len(bad), 5):
            bad[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{at}" / TILE
        path.parent.mkdir()
        path.write_bytes(bytes(bad))
        try:
            labels = open_sources(path)
            labels.codes(Window(row=4400, col=0, rows=100, cols=4500))
        except SarsegError:
            continue
    data = np.ones((30, 20), np.uint8)
    content = raw_fnf(data)
    huge = {"": content[""], ".hdr": content[".hdr"].replace(b"lines = 30", b"lines = 2000000")}
    short = archive(tmp_path / "S16W150_15_FNF.zip", {f"S16W150_15_C{end}": value for end, value in huge.items()})
    with pytest.raises(InputError, match=r"600 bytes where its header asks|cannot be read as a raster"):
        open_sources(short)
    with pytest.raises(InputError, match="no class raster"):
        open_sources(archive(tmp_path / "empty.zip", {"readme": b"x"}))
    with pytest.raises(InputError, match="names a file outside of itself"):
        open_sources(archive(tmp_path / "slip.zip", {"../../etc/passwd": b"x"}))
    (tmp_path / "no.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="archive"):
        open_sources(tmp_path / "no.tar.gz")
    with pytest.raises(InputError, match="no such file"):
        open_sources(tmp_path / "absent.zip")


def test_dates_are_judged() -> None:
    check_dates(2015, "2018-12-31T10:00:00Z", 3)
    check_dates(None, "2018-12-31T10:00:00Z", 0)
    check_dates(2015, None, 0)
    for year in (2014, 2022):
        with pytest.raises(InputError, match=f"of {year} and the scene of 2018: more than 3 years apart.*--max-years"):
            check_dates(year, "2018-01-01T00:00:00Z", 3)
    for wrong in ({"min_purity": 0.0}, {"min_purity": 1.5}, {"max_years": -1}, {"year": 15}):
        with pytest.raises(UsageError):
            LabelOptions(**wrong)  # type: ignore[arg-type]


def test_the_command_takes_names_or_files(tmp_path: Path) -> None:
    made_fnf(tmp_path, 17, np.array([[1, 2], [3, 2]], np.uint8))
    like = tmp_path / "like.tif"
    with rasterio.open(
        like,
        "w",
        driver="GTiff",
        count=1,
        height=1,
        width=1,
        dtype="uint8",
        crs="EPSG:4326",
        transform=Affine(2 / 4500, 0, -150, 0, -2 / 4500, -16),
    ):
        pass
    words = [str(tmp_path / "S16W150_17_FNF_F02DAR.tar.gz"), "--like", str(like), "-o", str(tmp_path / "o.tif"), "--remap", "fnf"]
    for more, want in {("--legend", "fnf4"): 1, ("--legend", "fnf3"): 2, ("--legend", "fnf4", "--min-purity", "0.8"): 255}.items():
        result = CliRunner().invoke(command, [*words, *more], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        with rasterio.open(tmp_path / "o.tif") as file:
            assert file.read(1).tolist() == [[want]]
            assert file.tags()["label_year"] == "2017"
            assert file.tags()["label_ratio"] == "0.5"
    (tmp_path / "legend.yaml").write_text("- {code: 1, name: wood, colour: '#00ff00'}\n- {code: 2, name: rest, color: [9, 9, 9]}\n")
    assert Legend.from_file(tmp_path / "legend.yaml").classes[0].color == (0, 255, 0)
    (tmp_path / "remap.yaml").write_text("1: 1\n2: 2\n3: 2\n")
    words[-1] = str(tmp_path / "remap.yaml")
    result = CliRunner().invoke(command, [*words, "--legend", str(tmp_path / "legend.yaml")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "o.tif") as file:
        assert (file.read(1)[0, 0], file.tags()["class_2"], file.tags()["label_remap"]) == (2, "rest", "remap.yaml")
