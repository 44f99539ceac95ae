"""The bridge against a stand-in for esa_snappy, on real products of SNAP; the truth is what GDAL reads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyproj import CRS
from rasterio.errors import NotGeoreferencedWarning

from sarseg.ard.snap.bridge import operators, read_product
from sarseg.errors import InputError, MissingError, UsageError

MODULES = Path(__file__).parent / "fake_snap" / "modules"


@pytest.fixture
def snappy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PYTHONPATH", str(MODULES))
    return monkeypatch


def test_a_product_on_a_map_is_what_gdal_reads(shared: Path, snappy: pytest.MonkeyPatch) -> None:
    folder = shared / "data" / "snap_reference" / "products"
    found = read_product(folder / "map.dim")
    with rasterio.open(folder / "map.tif") as tif:
        assert list(found) == ["Sigma0_VV", "elevation", "localIncidenceAngle"]
        for number, name in enumerate(found, 1):
            stored = tif.read(number)
            expected = np.where(stored == 0, np.nan, stored) if name != "elevation" else stored
            assert found[name].dims == ("y", "x")
            np.testing.assert_array_equal(found[name].values, np.where(expected == -32768, np.nan, expected))
        assert tuple(found.attrs["transform"]) == tuple(tif.transform)[:6]
        assert CRS.from_wkt(found.attrs["crs"]) == CRS.from_user_input(tif.crs.to_wkt())
        assert (float(found.x[0]), float(found.y[-1])) == (tif.xy(0, 0)[0], tif.xy(tif.height - 1, 0)[1])
    assert found.Sigma0_VV.attrs["units"] == "intensity"
    assert np.isnan(found.Sigma0_VV.values).sum() == 1145


def test_a_product_in_radar_geometry_has_no_coordinates(shared: Path, snappy: pytest.MonkeyPatch) -> None:
    folder = shared / "data" / "snap_reference" / "products"
    found = read_product(folder / "radar.dim", ["Sigma0_VV"])
    assert "crs" not in found.attrs
    assert not found.coords
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(folder / "radar.data" / "Sigma0_VV.img") as img:
        stored = img.read(1)
    np.testing.assert_array_equal(found.Sigma0_VV.values, np.where(stored == 0, np.nan, stored))


def test_what_snap_has_no_reader_for(shared: Path, snappy: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"SNAP cannot read it: SNAP has no reader for .*map\.tif"):
        read_product(shared / "data" / "snap_reference" / "products" / "map.tif")


def test_operators_and_their_parameters(snappy: pytest.MonkeyPatch) -> None:
    found = operators()
    assert len(found) == 27
    filters = {one.name: one for one in found["Speckle-Filter"].parameters}
    assert filters["filter"].values[:3] == ("None", "Boxcar", "Median")
    assert filters["filterSizeX"].interval == "(1,100]"
    assert filters["estimateENL"].java_type == "boolean"
    assert next(one.mandatory for one in found["Read"].parameters if one.name == "file")
    assert found["Speckle-Filter"].sources == ("source",)
    assert list(operators(["Read"])) == ["Read"]
    with pytest.raises(UsageError, match="no operator 'NoSuchOp'"):
        operators(["NoSuchOp"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("unconfigured", "esa_snappy does not start: No module named 'jpyutil'"),
        ("spy", r"esa_snappy does not start: RuntimeError: loaded: \[\]"),  # neither sarseg nor rasterio's GDAL beside SNAP's
        ("no-snap", "esa_snappy does not start: OSError: Can't find SNAP distribution directory"),
    ],
)
def test_an_unconfigured_esa_snappy_tells_how_to_configure_it(snappy: pytest.MonkeyPatch, how: str, message: str) -> None:
    snappy.setenv("FAKE_SNAPPY", how)
    with pytest.raises(MissingError, match=message) as caught:
        operators()
    assert f"snappy-conf {sys.executable}" in str(caught.value)


def test_without_esa_snappy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(MissingError, match=r"esa_snappy is not installed.*pip install esa-snappy.*snappy-conf"):
        operators()


def test_failures_name_the_product(shared: Path, snappy: pytest.MonkeyPatch, tmp_path: Path) -> None:
    product = shared / "data" / "snap_reference" / "products" / "map.dim"
    with pytest.raises(InputError, match="no such file"):
        read_product(tmp_path / "none.dim")
    with pytest.raises(InputError, match="no band 'Sigma0_HH': bands are Sigma0_VV, elevation"):
        read_product(product, ["Sigma0_HH"])
    with pytest.raises(UsageError, match="cannot be started"):
        read_product(product, python=tmp_path / "python")
    snappy.setenv("FAKE_SNAPPY", "memory")
    with pytest.raises(InputError, match=r"OutOfMemoryError.*java_max_mem"):
        read_product(product)
