"""Matrices of quad-polarised scenes: against numpy on the samples that were written, and against targets of known scattering."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from palsar_files import Made, lonlat, write_product
from PIL import Image
from test_60_ard_palsar import ZONE, utm_of, write_dem

from sarseg.ard.polarimetry import CHANNELS, bands_of, matrix_image
from sarseg.ard.preprocess import PreprocessOptions, preprocess
from sarseg.ard.radiometry import scale
from sarseg.bands import choose_scales, scaled
from sarseg.errors import InputError, UsageError
from sarseg.masks import Mask
from sarseg.product.described import matrix_bands
from sarseg.product.open import open_product
from sarseg.scene import model
from sarseg.scene.open import open_scene
from sarseg.tiles import Window

SHAPE = (48, 40)
FACTOR = 10 ** (115 / 10)  # |I + jQ|^2 of sigma0 = 1: a calibration factor of -83 dB, 32 dB less for level 1.1
ORDER = ("VV", "HH", "VH", "HV")


def quad(shape=SHAPE, **words):
    return Made(shape=shape, polarisations=ORDER, off_nadir_deg=21.5, **words)


def samples(shape=SHAPE, seed=1):
    """Correlated channels, the two cross-polarised ones alike but not equal, of backscatter about 0.1."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(4, *shape)) + 1j * rng.normal(size=(4, *shape))
    hh, cross = noise[0], 0.3 * noise[1]
    vv = 0.6 * np.exp(0.7j) * hh + 0.5 * noise[2] + 0.2 * cross
    values = {"HH": hh, "VV": vv, "HV": cross + 0.05 * noise[3] - 0.1j * hh, "VH": cross - 0.05 * noise[3]}
    return {name: (np.sqrt(0.05 * FACTOR) * one).astype(np.complex64) for name, one in values.items()}


def whole(scene):
    return Window(row=0, col=0, rows=scene.shape[0], cols=scene.shape[1])


def complex_matrix(bands):
    """(3, 3, rows, cols) of nine bands in their order."""
    out = np.zeros((3, 3, *bands.shape[1:]), np.complex128)
    for k in range(3):
        out[k, k] = bands[k]
    for at, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        out[i, j] = bands[3 + 2 * at] + 1j * bands[4 + 2 * at].astype(np.float64)
        out[j, i] = out[i, j].conj()
    return out


def test_names_are_those_of_polsarpro():
    assert bands_of("c3") == ("C11", "C22", "C33", "C12_real", "C12_imag", "C13_real", "C13_imag", "C23_real", "C23_imag")
    assert bands_of("t3") == matrix_bands(bands_of("t3")[::-1])
    assert bands_of("pauli") == ("T11", "T22", "T33")


@pytest.mark.parametrize("polarimetry", ["c3", "t3", "pauli"])
def test_elements_by_hand(tmp_path, polarimetry):
    """Every element of every pixel of 4 x 3 looks: vectors and their outer products, pixel by pixel."""
    images = samples()
    scene = open_scene(write_product(tmp_path / "p", quad(), images)).multilooked((4, 3))
    window = Window(row=2, col=1, rows=7, cols=9)
    found = matrix_image(scene, polarimetry, "sigma0", window)
    assert found.dtype == np.float32
    values = {name: images[name].astype(np.complex128) / np.sqrt(FACTOR) for name in CHANNELS}
    cross = (values["HV"] + values["VH"]) / 2
    if polarimetry == "c3":
        vector = np.stack([values["HH"], np.sqrt(2) * cross, values["VV"]])
    else:
        vector = np.stack([values["HH"] + values["VV"], values["HH"] - values["VV"], 2 * cross]) / np.sqrt(2)
    for row, col in np.ndindex(*window.shape):
        box = vector[:, 4 * (row + 2) : 4 * (row + 3), 3 * (col + 1) : 3 * (col + 2)].reshape(3, 12)
        matrix = box @ box.conj().T / 12
        want = [matrix[k, k].real for k in range(3)]
        for i, j in ((0, 1), (0, 2), (1, 2)):
            want += [matrix[i, j].real, matrix[i, j].imag]
        np.testing.assert_allclose(found[:, row, col], want[: len(found)], rtol=0, atol=1e-6 * np.trace(matrix).real)
    assert polarimetry == "pauli" or (found[3:] < 0).any(axis=(1, 2)).sum() >= 4


TARGETS = {
    "trihedral": ({"HH": 1, "VV": 1}, 0),
    "dihedral": ({"HH": 1, "VV": -1}, 1),
    "dihedral turned by 45 degrees": ({"HV": 1, "VH": 1}, 2),
}


@pytest.mark.parametrize("target", TARGETS)
def test_known_targets_fill_one_pauli_component(tmp_path, target):
    """S of a reflector: all of its power, twice that of one channel, stands in one component. Empty channels hold a trace of signal."""
    matrix, component = TARGETS[target]
    phase = np.exp(1j * np.random.default_rng(7).uniform(0, 2 * np.pi, SHAPE))
    images = {name: np.sqrt(0.3 * FACTOR) * phase * matrix.get(name, 1e-9) for name in ORDER}
    scene = open_scene(write_product(tmp_path / "p", quad(), images)).multilooked((3, 2))
    powers = matrix_image(scene, "pauli", "sigma0", whole(scene))
    np.testing.assert_allclose(powers[component], 0.6, rtol=1e-6)
    np.testing.assert_allclose(np.delete(powers, component, 0), 0.0, atol=1e-7)
    t3 = matrix_image(scene, "t3", "sigma0", whole(scene))
    np.testing.assert_array_equal(t3[:3], powers)


def test_c3_and_t3_are_one_matrix(tmp_path):
    """T3 = U C3 U*; equal spans; no negative eigenvalue; C11 and C33 are the calibrated powers of HH and VV, to the last bit."""
    scene = open_scene(write_product(tmp_path / "p", quad(), samples(), invalid=(5, 6, 7, 17))).multilooked((4, 3))
    c3, t3 = (matrix_image(scene, name, "gamma0", whole(scene)) for name in ("c3", "t3"))
    for element, channel in ((c3[0], "HH"), (c3[2], "VV")):
        amplitude = scene.calibration[channel].amplitude("gamma0", whole(scene))
        np.testing.assert_array_equal(element, scale(scene.power(channel, whole(scene)), amplitude))
    assert np.isnan(c3[:, 1]).all()  # three of its four lines are invalid
    good = np.isfinite(c3[0])
    assert good.sum() == good.size - good.shape[1]
    covariance, coherency = complex_matrix(c3)[:, :, good], complex_matrix(t3)[:, :, good]
    turn = np.array([[1, 0, 1], [1, 0, -1], [0, np.sqrt(2), 0]]) / np.sqrt(2)
    turned = np.einsum("ij,jkn,lk->iln", turn, covariance, turn)
    span = np.trace(covariance).real
    assert (np.abs(turned - coherency) < 1e-6 * span).all()
    np.testing.assert_allclose(np.trace(coherency).real, span, rtol=1e-6)
    assert (np.linalg.eigvalsh(np.moveaxis(covariance, -1, 0)) > -1e-6 * span[:, None]).all()


def test_no_data_of_one_channel_is_that_of_all(tmp_path):
    images = samples()
    images["VH"][8, 9] = 0
    scene = open_scene(write_product(tmp_path / "p", quad(), images))
    found = matrix_image(scene, "c3", "sigma0", whole(scene))
    assert np.isnan(found[:, 8, 9]).all()
    assert np.isnan(found).sum() == 9
    many = matrix_image(scene.multilooked((4, 3)), "c3", "sigma0", Window(row=2, col=3, rows=1, cols=1))
    others = np.delete(np.abs(images["HH"][8:12, 9:12].astype(np.complex128)).ravel() ** 2, 0)
    assert many[0, 0, 0] == pytest.approx(others.mean() / FACTOR, rel=1e-6)


def test_memory_is_that_of_a_strip(tmp_path, monkeypatch):
    """The bits do not depend on the strips, and a window of many looks is not read at once."""
    shape = (640, 500)
    scene = open_scene(write_product(tmp_path / "p", quad(shape), samples(shape))).multilooked((20, 10))
    at_once = scene.products(CHANNELS, whole(scene))
    monkeypatch.setattr(model, "_STRIP_PX", 20_000)
    tracemalloc.start()
    try:
        in_strips = scene.products(CHANNELS, whole(scene))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(in_strips, at_once)
    assert peak < 3e6  # all samples are 10 MB


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    """A scene preprocessed as powers, as C3 and as T3."""
    folder = tmp_path_factory.mktemp("quad")
    made = quad((360, 120), sampling_hz=16e6)
    middle = lonlat(made, (made.shape[0] - 1) / 2, (made.shape[1] - 1) / 2)
    origin = tuple(float(value) for value in utm_of(*middle))
    dem = write_dem(folder / "dem.tif", origin)
    download = write_product(folder / made.name, made, samples(made.shape))
    words = {"spacing_m": 20.0, "crs": f"EPSG:{32600 + ZONE}", "dem_datum": "ellipsoidal", "threads": 1}
    kinds = (None, "c3", "t3", "pauli")
    return {kind: preprocess(download, folder / "out", dem, PreprocessOptions(**words, polarimetry=kind)) for kind in kinds}


def test_products_on_the_map(products):
    """C11.tif is HH.tif, bit by bit; spans agree; off-diagonal elements keep their sign; masks, names and the item are right."""
    scene = products[None].name.removesuffix("_gamma0")
    assert [one.name for one in products.values()] == [f"{scene}_gamma0{end}" for end in ("", "_c3", "_t3", "_pauli")]
    opened = {kind: open_product(path) for kind, path in products.items()}
    assert [opened[kind].bands for kind in ("c3", "t3", "pauli")] == [bands_of(kind) for kind in ("c3", "t3", "pauli")]
    powers = opened[None]
    assert powers.bands == ("VV", "VH", "HH", "HV")
    c3, t3 = opened["c3"].read(), opened["t3"].read()
    np.testing.assert_array_equal(c3[0], powers.read(bands=["HH"])[0])
    np.testing.assert_array_equal(c3[2], powers.read(bands=["VV"])[0])
    np.testing.assert_allclose(t3[:3].sum(0), c3[:3].sum(0), rtol=2e-6)
    np.testing.assert_array_equal(opened["pauli"].read(), t3[:3])
    assert (c3[3:] < 0).any(axis=(1, 2)).sum() >= 4
    for kind in ("c3", "t3", "pauli"):
        mask = opened[kind].mask()
        np.testing.assert_array_equal(mask, powers.mask())
        assert not (mask & int(Mask.BELOW_NOISE)).any()
        assert 0.1 < opened[kind].valid().mean() < 1
        properties = opened[kind].item["properties"]
        assert (properties["sarseg:polarimetry"], properties["sarseg:quantity"]) == (kind, "gamma0")
        assert properties["sar:polarizations"] == list(CHANNELS)
    assert "sarseg:polarimetry" not in powers.item["properties"]
    assert json.loads((products["t3"] / "item.json").read_text())["assets"]["T12_imag"]["href"] == "./T12_imag.tif"
    coherence = scaled(t3, choose_scales(bands_of("t3"), ["linear"] * 9, {"T12_real": "correlation"}))[3]
    valid = opened["t3"].valid()
    np.testing.assert_allclose(coherence[valid], (t3[3] / np.sqrt(t3[0] * t3[1]))[valid], rtol=1e-5)


def test_quicklook_has_the_colours_of_pauli(products):
    """Red follows the double bounce T22, green T33, blue T11."""
    with Image.open(products["pauli"] / "quicklook.png") as file:
        picture = np.moveaxis(np.array(file, np.float64), -1, 0)
    step = max(1, -(-max(open_product(products["pauli"]).grid.shape) // 1024))
    assert step == 1
    values = open_product(products["pauli"]).read()
    shown = picture[3] > 0
    for colour, band in ((0, 1), (1, 2), (2, 0)):
        ranks = [np.argsort(np.argsort(one[shown])) for one in (picture[colour], values[band])]
        assert np.corrcoef(*ranks)[0, 1] > 0.99


def test_what_has_no_matrix_is_refused(tmp_path):
    dual = write_product(tmp_path / "dual", Made(shape=(12, 10), polarisations=("HH", "HV")))
    with pytest.raises(InputError, match="without VH, VV has no polarimetric matrix"):
        preprocess(dual, tmp_path / "out", tmp_path / "dem.tif", PreprocessOptions(polarimetry="c3"))
    made = quad((60, 50), form="georeferenced", level="1.5")
    with pytest.raises(InputError, match=r"L1\.5R images, which have no phase, has no"):
        preprocess(write_product(tmp_path / "map", made), tmp_path / "out", tmp_path / "dem.tif", PreprocessOptions(polarimetry="t3"))
    with pytest.raises(UsageError, match="no polarimetry 'c4'"):
        PreprocessOptions(polarimetry="c4")
    with pytest.raises(UsageError, match="speckle filter"):
        PreprocessOptions(polarimetry="c3", speckle="lee")
    assert not (tmp_path / "out").exists()


def test_a_singular_matrix_is_said(tmp_path):
    made = quad((120, 60), sampling_hz=16e6)
    middle = lonlat(made, 59.5, 29.5)
    dem = write_dem(tmp_path / "dem.tif", tuple(float(value) for value in utm_of(*middle)))
    options = PreprocessOptions(spacing_m=8.0, crs=f"EPSG:{32600 + ZONE}", dem_datum="ellipsoidal", threads=1, polarimetry="t3")
    product = preprocess(write_product(tmp_path / made.name, made, samples(made.shape)), tmp_path / "out", dem, options)
    looks = open_product(product).item["properties"]["sarseg:multilook"]
    assert looks == [2, 1]
    assert any("means of 2 look(s), and singular" in warning for warning in open_product(product).warnings)
