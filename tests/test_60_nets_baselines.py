"""The baselines against scikit-learn, scipy, formulas written out and brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sarseg.errors import InputError
from sarseg.legend import LandClass, Legend
from sarseg.nets import fitting
from sarseg.nets.baselines import BASELINES, boxcar, fit_gaussian
from sarseg.nets.boxcar import BandScales, filtered_features
from sarseg.nets.fitting import TrainingPatches, count_pixels, draw_sample, fit, fit_trees
from sarseg.nets.forest import RandomForest, RandomForestConfig
from sarseg.nets.modelfile import BandSpec, ModelSpec, load_model, normalise, save_model
from sarseg.nets.registry import build_network

torch.set_num_threads(1)


def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    means = {4: (-20.0, -30.0, 35.0), 7: (-9.0, -16.0, 40.0), 11: (-8.0, -13.0, 38.0)}
    mixing = np.array([[2.0, 0.0, 0.0], [1.2, 1.0, 0.0], [0.1, -0.2, 0.8]])
    parts, codes = [], []
    for (code, mean), count in zip(means.items(), (400, 900, 150), strict=True):
        parts.append(np.array(mean)[:, None] + mixing @ rng.standard_normal((3, count)))
        codes.append(np.full(count, code, np.uint8))
    return np.concatenate(parts, 1).astype(np.float32), np.concatenate(codes)


@pytest.mark.parametrize("priors", ["training", "equal"])
def test_gaussian_equals_the_formula_pixel_by_pixel(priors: str) -> None:
    features, codes = samples()
    got = fit_gaussian(features, codes, priors=priors).predict(features.reshape(3, 29, 50)).ravel()  # type: ignore[arg-type]
    for at in range(0, features.shape[1], 7):
        scores = {}
        for code in (4, 7, 11):
            own = features[:, codes == code].astype("f8")
            centre, spread = own.mean(1), np.cov(own)
            off = features[:, at].astype("f8") - centre
            density = np.exp(-0.5 * off @ np.linalg.inv(spread) @ off) / np.sqrt((2 * np.pi) ** 3 * np.linalg.det(spread))
            scores[code] = density * (own.shape[1] / features.shape[1] if priors == "training" else 1 / 3)
        assert got[at] == max(scores, key=lambda code: scores[code])


def test_nan_and_unlabelled_pixels_are_left_out() -> None:
    features, codes = samples()
    clean = fit_gaussian(features, codes)
    more = np.concatenate([features, np.full((3, 5), 99.0, np.float32), np.full((3, 4), np.nan, np.float32)], 1)
    labels = np.concatenate([codes, np.array([0, 255, 255, 0, 0], np.uint8), np.full(4, 7, np.uint8)])
    dirty = fit_gaussian(more, labels)
    np.testing.assert_array_equal(dirty.mean, clean.mean)
    np.testing.assert_array_equal(dirty.predict(more[:, -4:].reshape(3, 2, 2)), np.zeros((2, 2)))


def test_classes_without_enough_pixels_are_left_out() -> None:
    features, codes = samples()
    codes[:3], codes[3:6] = 99, 98
    assert set(fit_gaussian(features, codes).codes) == {4, 7, 11}
    with pytest.raises(InputError, match="more than 3 training pixels"):
        fit_gaussian(features[:, :3], codes[:3])


@pytest.mark.parametrize(("shape", "size"), [((2, 1, 1), 3), ((1, 7, 11), 5), ((2, 12, 3), 7), ((1, 4, 5), 1)])
def test_boxcar_equals_brute_force(shape: tuple[int, int, int], size: int) -> None:
    rng = np.random.default_rng(8)
    power = rng.gamma(4.4, 1 / 4.4, shape).astype("f4")
    power[rng.random(shape) < 0.2] = np.nan
    got, half = boxcar(power, size), size // 2
    for (b, r, c), value in np.ndenumerate(power):
        near = power[b, max(0, r - half) : r + half + 1, max(0, c - half) : c + half + 1].astype("f8")
        np.testing.assert_allclose(got[b, r, c], np.nan if np.isnan(value) else np.nanmean(near), rtol=1e-6)


def test_boxcar_needs_a_centre() -> None:
    with pytest.raises(InputError, match="no centre"):
        boxcar(np.ones((1, 3, 3), np.float32), 4)


LEGEND = Legend(tuple(LandClass(code=code, name=f"c{code}", color=(code, 0, 0)) for code in (1, 4, 7, 9)))
BANDS = (
    BandSpec(name="T11", scale="db", mean=-14.0, std=6.0),
    BandSpec(name="T22", scale="linear", mean=0.04, std=0.03),
    BandSpec(name="T12_real", scale="correlation", mean=0.1, std=0.4, diagonals=("T11", "T22")),
    BandSpec(name="height", scale="raw", mean=300.0, std=40.0),
)


def values_of(shape: tuple[int, int], seed: int = 4) -> np.ndarray:
    """As they stand in a file, NaN here and there: two powers, their product's real part, metres."""
    rng = np.random.default_rng(seed)
    power = rng.gamma(3.0, 0.02, (2, *shape))
    element = rng.uniform(-0.9, 0.9, shape) * np.sqrt(power[0] * power[1])
    out = np.stack([*power, element, rng.normal(300, 40, shape)]).astype(np.float32)
    out[0, rng.random(shape) < 0.05] = np.nan
    out[:, rng.random(shape) < 0.05] = np.nan
    return out


def features_by_hand(values: np.ndarray) -> np.ndarray:
    """Features float64 (20, rows, cols) of raw values, window by window."""
    values = values.astype("f8")
    bands, rows, cols = values.shape
    out = np.full((bands, 5, rows, cols), np.nan)
    missing = np.isnan(values[0]) | np.isnan(values[1]) | np.isnan(values[2])
    for r in range(rows):
        for c in range(cols):
            for b in range(bands):
                if np.isnan(values[b, r, c]) or (b == 2 and missing[r, c]):
                    continue
                window = {s: np.s_[max(0, r - s // 2) : r + s // 2 + 1, max(0, c - s // 2) : c + s // 2 + 1] for s in (1, 3, 7, 15)}
                for at, s in enumerate((1, 3, 7, 15)):
                    mean = {k: np.nanmean(values[k][window[s]]) for k in {0: [0], 1: [1], 2: [0, 1], 3: []}[b]}
                    if b < 2:
                        out[b, at, r, c] = 10 * np.log10(mean[b]) if b == 0 or s > 1 else mean[b]
                    elif b == 2:
                        out[b, at, r, c] = np.nanmean(np.where(missing, np.nan, values[2])[window[s]]) / np.sqrt(mean[0] * mean[1])
                    else:
                        out[b, at, r, c] = np.nanmean(values[3][window[s]])
                near = values[b][window[7]]
                if b == 0:
                    near = 10 * np.log10(near)
                elif b == 2:
                    near = np.where(missing, np.nan, values[2] / np.sqrt(values[0] * values[1]))[window[7]]
                out[b, 4, r, c] = np.nanstd(near)
    return out.reshape(-1, rows, cols)


def test_features_equal_brute_force() -> None:
    values = values_of((19, 13))
    got = filtered_features(normalise(values, BANDS), BandScales.of(BANDS))
    # float32 in the normalisation and the means
    np.testing.assert_allclose(got, features_by_hand(values), rtol=2e-4, atol=2e-4)


def reader(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Patches in which each class has powers of its own; class 9 only in patch 5, class 7 nowhere."""
    rng = np.random.default_rng((11, number))
    mask = np.kron(rng.choice([1, 4], (4, 5)), np.ones((6, 7), np.int64)).astype(np.uint8)
    if number == 5:
        mask[:2, :9] = 9
    values = values_of(mask.shape, seed=number + 50)
    factor = np.where(mask == 1, 0.3, np.where(mask == 4, 1.0, 3.0)).astype(np.float32)
    values[:3] *= factor
    mask[np.isnan(values).any(0)] = 255
    return values, mask


def patches() -> TrainingPatches:
    numbers = np.array([0, 2, 3, 5, 8])
    return TrainingPatches(read=reader, numbers=numbers, pixels=count_pixels(reader, {}, numbers, LEGEND), bands=BANDS, legend=LEGEND)


def test_all_pixels_are_drawn_where_they_are_few() -> None:
    got = draw_sample(patches(), seed=1)
    masks = [reader(number)[1] for number in (0, 2, 3, 5, 8)]
    assert np.bincount(got.target, minlength=4).tolist() == [sum(int((m == c).sum()) for m in masks) for c in (1, 4, 7, 9)]
    assert got.pixels.tolist() == np.bincount(got.target, minlength=4).tolist()
    first = normalise(reader(0)[0], BANDS)[:, masks[0] != 255]
    np.testing.assert_array_equal(got.values[:, : first.shape[1]], first)


def test_a_draw_keeps_every_class_and_depends_on_seed_and_patch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "BUDGET", 300)
    monkeypatch.setattr(fitting, "LEAST", 12)
    monkeypatch.setattr(fitting, "PATCHES", 2)
    there = patches()
    one, again, other = (draw_sample(there, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.values, again.values)
    assert one.values.shape != other.values.shape or (one.values != other.values).any()
    counts = np.bincount(one.target, minlength=4)
    assert counts[3] == 12 == min(12, int((reader(5)[1] == 9).sum()))
    assert counts[2] == 0
    share = one.pixels / one.pixels.sum()
    np.testing.assert_allclose(counts[:2], 300 * share[:2], atol=1)
    keys = {tuple(column) for column in one.values.T.tolist()}
    assert len(keys) == one.values.shape[1]  # no pixel twice


def test_gaussian_network_equals_scipy() -> None:
    from scipy.stats import multivariate_normal

    sample = draw_sample(patches(), seed=1)
    network, options = fit("gaussian", sample, seed=0)
    values = normalise(values_of((9, 14), seed=77), BANDS)
    with torch.inference_mode():
        got = torch.softmax(network(torch.from_numpy(values)[None])[0].double(), 0).numpy()
    valid = ~np.isnan(values).any(0)
    density = np.zeros((4, int(valid.sum())))
    for at in (0, 1, 3):
        own = sample.values[:, sample.target == at].astype("f8")
        density[at] = multivariate_normal(own.mean(1), np.cov(own)).pdf(values[:, valid].T) * own.shape[1] / len(sample.target)
    # logits are float32, and the fit adds 1e-9 of the variance to it
    np.testing.assert_allclose(got[:, valid], density / density.sum(0), atol=2e-5)
    np.testing.assert_allclose(got[:, ~valid], 0.25)
    assert options == {}


def test_majority_answers_with_the_shares() -> None:
    network, _ = fit("majority", draw_sample(patches(), seed=1), seed=0)
    got = torch.softmax(network(torch.full((2, 4, 3, 5), torch.nan)), 1)
    share = patches().pixels.sum(0) / patches().pixels.sum()
    np.testing.assert_allclose(got[1, :, 2, 4], share, atol=1e-6)
    assert got.shape == (2, 4, 3, 5)


@pytest.fixture(scope="module")
def forest() -> tuple[RandomForest, dict[str, Any], Any, Any]:
    sample = draw_sample(patches(), seed=1)
    network, options = fit("random_forest", sample, seed=3, options={"trees": 9, "min_leaf": 2})
    assert isinstance(network, RandomForest)
    config = RandomForestConfig(bands=4, classes=4, trees=9, min_leaf=2)
    return network, options, fit_trees(sample, config, seed=3), sample


def test_forest_equals_scikit_learn(forest: Any) -> None:
    network, options, sklearn, sample = forest
    rng = np.random.default_rng(0)
    features = np.concatenate([sample.features.T, sample.features.T + rng.normal(0, 1, sample.features.T.shape)]).astype(np.float32)
    want = np.zeros((len(features), 4))
    want[:, sklearn.classes_] = sklearn.predict_proba(features)
    assert set(sklearn.classes_) == {0, 1, 3}
    np.testing.assert_allclose(network.probabilities(features), want, atol=1e-6)
    values = normalise(values_of((21, 17), seed=9), BANDS)
    valid = ~np.isnan(values).any(0)
    flat = filtered_features(values, BandScales.of(BANDS))[:, valid].T
    with torch.inference_mode():
        got = torch.softmax(network(torch.from_numpy(values)[None])[0], 0).numpy()
    want = np.zeros((len(flat), 4))
    want[:, sklearn.classes_] = sklearn.predict_proba(flat)
    np.testing.assert_allclose(got[:, valid].T, want, atol=1e-6)
    np.testing.assert_allclose(got[:, ~valid], 0.25)
    assert options["nodes"] == sum(tree.tree_.node_count for tree in sklearn.estimators_)


def spec_of(name: str, options: dict[str, Any]) -> ModelSpec:
    return ModelSpec(network=name, options=options, bands=BANDS, quantity="power", legend=LEGEND)


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_folder_gives_the_same_answers(name: str, forest: Any, tmp_path: Path) -> None:
    network, options = (forest[0], forest[1]) if name == "random_forest" else fit(name, forest[3], seed=0)
    loaded = load_model(save_model(tmp_path / "model", network, spec_of(name, options))).network
    x = torch.from_numpy(normalise(values_of((8, 11)), BANDS))[None]
    torch.testing.assert_close(loaded(x), network(x), rtol=0, atol=0)


DAMAGE: list[tuple[str, Any]] = [
    ("left", lambda t: t.fill_(0)),  # a circle
    ("right", lambda t: t.fill_(10**9)),
    ("feature", lambda t: t.fill_(999)),
    ("root", lambda t: t.fill_(-5)),
    ("distribution", lambda t: t.fill_(torch.nan)),
    ("band_diagonals", lambda t: t.fill_(7)),
]


@pytest.mark.parametrize(("array", "change"), DAMAGE, ids=[name for name, _ in DAMAGE])
def test_forests_that_would_lead_astray_are_refused(array: str, change: Any, forest: Any, tmp_path: Path) -> None:
    """The checksum fits: the numbers themselves are wrong."""
    network, options, *_ = forest
    broken = RandomForest(network.config)
    broken.load_state_dict(network.state_dict())
    change(getattr(broken, array))
    folder = save_model(tmp_path / "model", broken, spec_of("random_forest", options))
    with pytest.raises(InputError, match="do not fit network 'random_forest'"):
        load_model(folder)


def test_other_damage_is_refused(forest: Any, tmp_path: Path) -> None:
    network, options, _, sample = forest
    for wrong in ({**options, "nodes": options["nodes"] + 2}, {**options, "trees": 3}, {**options, "nodes": options["nodes"] + 1}):
        folder = save_model(tmp_path / "forest", network, spec_of("random_forest", wrong))
        with pytest.raises(InputError, match=r"do not fit|cannot be built"):
            load_model(folder)
    gaussian, _ = fit("gaussian", sample, seed=0)
    gaussian.mean[0, 0] = torch.nan
    with pytest.raises(InputError, match="do not fit network 'gaussian'"):
        load_model(save_model(tmp_path / "gaussian", gaussian, spec_of("gaussian", {})))
    with pytest.raises(InputError, match="do not fit network 'majority'"):
        load_model(save_model(tmp_path / "majority", gaussian, spec_of("majority", {})))
    majority, _ = fit("majority", sample, seed=0)
    majority.log_share[1] = -torch.inf
    with pytest.raises(InputError, match="do not fit network 'majority'"):
        load_model(save_model(tmp_path / "share", majority, spec_of("majority", {})))


@pytest.mark.parametrize("name", list(BASELINES))
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (6, 2)])
def test_before_the_fit_every_class_is_equal_at_any_size(name: str, shape: tuple[int, int]) -> None:
    network = build_network(name, bands=3, classes=5, options={})
    got = torch.softmax(network(torch.zeros(2, 3, *shape)), 1)
    torch.testing.assert_close(got, torch.full((2, 5, *shape), 0.2))
