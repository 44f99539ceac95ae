"""Scales of bands: every one against plain Python, and what cannot be scaled is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sarseg.bands import BandScale, choose_scales, correlation, diagonals_of, scaled
from sarseg.errors import UsageError


def test_correlation_equals_brute_force() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.gamma(2.0, 0.05, (2, 7, 11)).astype(np.float32)
    element = (rng.normal(0, 0.6, (7, 11)) * np.sqrt(first * second)).astype(np.float32)
    first[0, :3], second[1, :2], first[2, 2] = 0.0, -1e-8, np.nan
    first[3, 0] = second[3, 0] = -0.5  # the product is above 0
    element[4, 4], element[0, 0] = np.nan, np.nan
    first[5, 5], second[5, 5], element[5, 5] = 1e-25, 4e-25, 1e-25  # the product is 0 in float32
    got = correlation(element, first, second)
    assert got.dtype == np.float32
    for place in np.ndindex(7, 11):
        e, a, b = float(element[place]), float(first[place]), float(second[place])
        if math.isnan(e) or math.isnan(a) or math.isnan(b):
            assert np.isnan(got[place])
        else:
            want = 0.0 if a * b <= 0 else min(1.0, max(-1.0, e / math.sqrt(a * b)))
            assert got[place] == pytest.approx(want, rel=1e-6)
    assert got[5, 5] == pytest.approx(0.5, rel=1e-6)
    assert np.nanmin(got) == -1.0
    assert np.nanmax(got) == 1.0


def test_each_band_in_its_own_scale() -> None:
    bands = choose_scales(("T12_imag", "T22", "angle", "T11"), ("raw",) * 4, {"T22": "db", "T11": "linear", "T12_imag": "correlation"})
    assert bands[0] == BandScale(name="T12_imag", scale="correlation", diagonals=("T11", "T22"))
    values = np.array([[[0.02, np.nan]], [[0.01, 0.0]], [[33.0, -5.0]], [[0.25, 0.5]]], np.float32)
    got = scaled(values, bands)
    np.testing.assert_allclose(got, [[[0.4, np.nan]], [[-20.0, -50.0]], [[33.0, -5.0]], [[0.25, 0.5]]], rtol=1e-6)
    assert not np.shares_memory(got, values)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("T12_real", ("T11", "T22")),
        ("C13_imag", ("C11", "C33")),
        ("c23_IM", ("c22", "c33")),
        ("T11", None),
        ("VV", None),
        ("T22_real", None),
    ],
)
def test_diagonals_by_name(name: str, want: tuple[str, str] | None) -> None:
    assert diagonals_of(name) == want


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"VH": "correlation"}, "band VH: its diagonal elements are not known"),
        ({"T12_real": "correlation"}, "band T12_real: its diagonal element T22 is not among the bands"),
        ({"HH": "db"}, "no band HH to scale"),
    ],
)
def test_what_cannot_be_scaled_is_said(wanted: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        choose_scales(("VH", "T12_real", "T11"), ("raw",) * 3, wanted)  # type: ignore[arg-type]
