"""Augmentation: poses and offsets against the plain numpy way, speckle against the Gamma distribution, and what it depends on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from sarseg.errors import UsageError
from sarseg.nets.modelfile import BandSpec
from sarseg.rng import generator
from sarseg.train.augment import Augmentation, _gamma_cells, _hash, augment_batch, sample_at

torch.set_num_threads(1)

DB = BandSpec(name="VV", scale="db", mean=-14.0, std=4.0)
DB_2 = BandSpec(name="VH", scale="db", mean=-20.0, std=6.5)
LINEAR = BandSpec(name="HH", scale="linear", mean=0.4, std=0.25)
RAW = BandSpec(name="angle", scale="raw", mean=0.0, std=2.0)
QUIET = Augmentation(turns=False, common_offset_db=0.0, band_offset_db=0.0)
ALL = Augmentation(speckle_looks=3.0, band_dropout=0.4)


def made_batch(count: int, bands: int, rows: int, cols: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 1, (count, bands, rows, cols)).astype(np.float32)
    images[rng.random(images.shape) < 0.05] = np.nan
    target = rng.integers(0, 256, (count, rows, cols))
    return torch.from_numpy(images), torch.from_numpy(target)


def in_numpy(
    values: NDArray[np.float32], mask: NDArray[np.int64], bands: list[BandSpec], options: Augmentation, draw: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Poses and offsets of one sample, one after the other: the numbers are those of stream 2 of (step, index)."""
    rng = generator(draw[0], 2, *draw[1:])
    mirrored, turns = bool(rng.integers(2)), int(rng.integers(4))
    common, single = rng.standard_normal(), rng.standard_normal(len(bands))
    if options.turns:
        if mirrored:
            values, mask = values[:, :, ::-1], mask[:, ::-1]
        turns = turns if mask.shape[0] == mask.shape[1] else turns // 2 * 2
        values, mask = np.rot90(values, turns, axes=(1, 2)), np.rot90(mask, turns)
    values = np.array(values, np.float32, order="C")
    for at, band in enumerate(bands):
        if band.scale == "db":
            values[at] += np.float32((common * options.common_offset_db + single[at] * options.band_offset_db) / band.std)
    return values, mask


@pytest.mark.parametrize("shape", [(7, 7), (5, 8), (1, 3)])
@pytest.mark.parametrize("options", [Augmentation(), replace(Augmentation(), turns=False), QUIET])
def test_poses_and_offsets_equal_those_of_numpy_to_the_bit(shape: tuple[int, int], options: Augmentation) -> None:
    bands = [DB, RAW, DB_2]
    images, target = made_batch(40, 3, *shape)
    draws = [(11, step, index) for step in range(8) for index in range(5)]
    out, codes = augment_batch(images, target, bands, options, draws)
    assert out.dtype == torch.float32
    assert codes.dtype == torch.int64
    for at, draw in enumerate(draws):
        wanted = in_numpy(images[at].numpy(), target[at].numpy(), bands, options, draw)
        np.testing.assert_array_equal(out[at].numpy(), wanted[0])
        np.testing.assert_array_equal(codes[at].numpy(), wanted[1])


@pytest.mark.parametrize(("rows", "cols", "poses"), [(5, 5, 8), (3, 4, 4)])
def test_image_and_mask_move_alike(rows: int, cols: int, poses: int) -> None:
    target = torch.arange(rows * cols).reshape(1, rows, cols).repeat(100, 1, 1)
    images = torch.stack([target, target + 100], 1).float()
    out, codes = augment_batch(images, target, [DB, RAW], Augmentation(), [(1, step, 0) for step in range(100)])
    assert torch.equal(out[:, 1], codes.float() + 100)  # a raw band has no offset in dB
    offset = out[:, 0] - codes
    assert offset.flatten(1).std(1).max() < 1e-5
    # of the two offsets' deviations together, in dB; 100 draws: 7 % of error
    assert float(offset.mean((1, 2)).std()) * DB.std == pytest.approx(np.hypot(0.3, 0.2), rel=0.25)
    assert len({one.numpy().tobytes() for one in codes}) == poses
    assert all(sorted(one.flatten().tolist()) == list(range(rows * cols)) for one in codes)


@pytest.mark.parametrize("options", [QUIET, Augmentation(), ALL])
def test_the_callers_tensors_stay_as_they_are(options: Augmentation) -> None:
    images, target = made_batch(4, 3, 6, 6)
    before = images.clone(), target.clone()
    out, codes = augment_batch(images, target, [DB, LINEAR, RAW], options, [(0, 0, at) for at in range(4)])
    out.fill_(7.0)
    codes.fill_(7)
    assert torch.equal(images.nan_to_num(99.0), before[0].nan_to_num(99.0))
    assert torch.equal(target, before[1])


@pytest.mark.parametrize("shape", [(9, 9), (4, 7), (1, 1)])
def test_a_sample_is_changed_alike_in_any_batch(shape: tuple[int, int]) -> None:
    bands = [DB, LINEAR, RAW, DB_2]
    images, target = made_batch(5, 4, *shape)
    draws = [(3, 17, index) for index in range(5)]
    whole = augment_batch(images, target, bands, ALL, draws)
    for cut in (slice(0, 1), slice(1, 3), slice(3, 5), slice(4, 1, -1)):
        places = list(range(5))[cut]
        part = augment_batch(images[places], target[places], bands, ALL, draws[cut])
        assert torch.equal(part[0].nan_to_num(99.0), whole[0][places].nan_to_num(99.0))
        assert torch.equal(part[1], whole[1][places])


def test_missing_values_stay_missing() -> None:
    images, target = made_batch(30, 3, 8, 8)
    for options in (replace(ALL, turns=False), replace(QUIET, band_dropout=0.9), replace(QUIET, speckle_looks=1.0)):
        out, _ = augment_batch(images, target, [DB, LINEAR, RAW], options, [(0, step, 0) for step in range(30)])
        assert torch.equal(out.isnan(), images.isnan())
    out, _ = augment_batch(images, target, [DB, LINEAR, RAW], ALL, [(0, step, 0) for step in range(30)])
    assert torch.equal(out.isnan().sum((2, 3)), images.isnan().sum((2, 3)))


def speckle(band: BandSpec, looks: float, draws: list[tuple[int, int, int]], size: int, bands: int = 1) -> NDArray[np.float64]:
    """By what power is multiplied, (sample, band, rows, cols), read off the changed bands."""
    power = 0.37
    level = (10 * np.log10(power) if band.scale == "db" else power) - band.mean
    images = torch.full((len(draws), bands, size, size), level / band.std, dtype=torch.float32)
    target = torch.zeros(len(draws), size, size, dtype=torch.int64)
    out, _ = augment_batch(images, target, [band] * bands, replace(QUIET, speckle_looks=looks), draws)
    changed = out.double().numpy() * band.std + band.mean
    return np.asarray((10 ** (changed / 10) if band.scale == "db" else changed) / power)


@pytest.mark.parametrize("band", [DB, LINEAR], ids=["db", "linear"])
@pytest.mark.parametrize("looks", [1.0, 1.7, 4.0, 16.0])
def test_speckle_is_gamma_noise_of_mean_1(band: BandSpec, looks: float) -> None:
    noise = speckle(band, looks, [(5, 2, 9), (5, 3, 9)], 301).ravel()
    count = noise.size
    # four standard errors of a mean, and of a variance whose kurtosis is 3 + 6 / looks
    assert abs(noise.mean() - 1) < 4 / np.sqrt(looks * count)
    assert noise.mean() ** 2 / noise.var() == pytest.approx(looks, rel=4 * np.sqrt((2 + 6 / looks) / count) + 8 / np.sqrt(looks * count))
    assert stats.kstest(noise, stats.gamma(looks, scale=1 / looks).cdf).pvalue > 0.01


@pytest.mark.parametrize("looks", [1.0, 1.5, 4.4, 16.0, 1000.0])
def test_numbers_that_stand_for_the_gamma_distribution(looks: float) -> None:
    """The k-th lies between the k-th and the next of 65536 quantiles, so that no probability is off by more than 1 / 65536."""
    cells = _gamma_cells(looks, "linear", torch.device("cpu")).double().numpy()
    chance = stats.gamma(looks, scale=1 / looks).cdf(cells) * 65536 - np.arange(65536)
    # float32 rounds by 6e-8 of the number; 1000 looks have up to 826 quantiles in a part of 1e-3
    slack = 65536 * 6e-8 * np.sqrt(looks)
    assert chance.min() > -slack
    assert chance.max() < 1 + slack
    assert cells.mean() == pytest.approx(1, abs=1e-6)
    assert cells.var() == pytest.approx(1 / looks, rel=2e-5)
    in_db = _gamma_cells(looks, "db", torch.device("cpu")).double().numpy()
    np.testing.assert_allclose(10 ** (in_db / 10), cells, rtol=1e-6)


def test_speckle_is_white_and_its_own_for_every_place() -> None:
    draws = [(5, 2, 0), (5, 2, 1), (5, 3, 0), (6, 2, 0), (5, 0, 2)]
    noise = speckle(DB, 2.0, draws, 200, bands=3) - 1
    noise /= noise.std()

    def related(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
        return abs(float((one * other).mean())) * np.sqrt(one.size)

    pairs = [(noise[a, b], noise[c, d]) for a in range(5) for b in range(3) for c in range(5) for d in range(3) if (a, b) < (c, d)]
    flat = noise.reshape(15, -1)
    lags = [(flat[:, :-lag], flat[:, lag:]) for lag in (1, 2, 3, 7, 8, 64, 199, 200, 201, 256, 20_000)]
    # 105 pairs and 11 lags, each of deviation 1
    assert max(related(*pair) for pair in [*pairs, *lags]) < 4.5
    assert max(related(one**2 - 1, other**2 - 1) / 5 for one, other in [*pairs, *lags]) < 4.5  # the squares' deviation is 5 here
    # no frequency stands out: the largest of 15 * 20000 exponential numbers
    spectrum = np.abs(np.fft.rfft2(noise)) ** 2 / noise[0, 0].size
    assert spectrum[..., 1:-1].max() < np.log(15 * 20_000) + 8


def test_hash_equals_python_integers() -> None:
    counter = [0, 1, 2, 65_535, 65_536, 3_000_000_000, 2**32 - 1]
    keys = [(0, 0), (2**32 - 1, 2**32 - 1), (123_456_789, 3_987_654_321)]
    hashed = _hash(torch.tensor(counter), torch.tensor(keys))
    for at, (first, second) in enumerate(keys):
        for place, number in enumerate(counter):
            bits = number ^ first
            bits = (bits ^ bits >> 16) * 0x21F0AAAD % 2**32 ^ second
            bits = (bits ^ bits >> 15) * 0xD35A2D97 % 2**32
            assert int(hashed[at, place]) == bits ^ bits >> 15


def test_offsets_of_linear_power_are_factors() -> None:
    """The same draw changes a band in dB and one of linear power by as many dB."""
    power = torch.rand(6, 1, 4, 5) + 0.1
    target = torch.zeros(6, 4, 5, dtype=torch.int64)
    draws = [(2, step, 1) for step in range(6)]
    options = replace(Augmentation(), turns=False, band_offset_db=0.4)
    linear, _ = augment_batch((power - LINEAR.mean) / LINEAR.std, target, [LINEAR], options, draws)
    in_db, _ = augment_batch((10 * power.log10() - DB.mean) / DB.std, target, [DB], options, draws)
    factor = (linear * LINEAR.std + LINEAR.mean) / power
    assert float(factor.std()) > 0.01
    torch.testing.assert_close(10 * factor.log10(), in_db * DB.std + DB.mean - 10 * power.log10(), atol=1e-4, rtol=0)


def test_bands_drop_out_but_never_all() -> None:
    images = torch.rand(2000, 3, 2, 2) + 0.5
    target = torch.zeros(2000, 2, 2, dtype=torch.int64)
    draws = [(8, step, 4) for step in range(2000)]
    out, _ = augment_batch(images, target, [DB, LINEAR, RAW], replace(QUIET, band_dropout=0.4), draws)
    gone = (out == 0).all((2, 3))
    assert torch.equal(gone, (out == 0).any((2, 3)))
    torch.testing.assert_close(out[~gone], images[~gone], rtol=1e-6, atol=1e-6)
    assert int(gone.sum(1).max()) == 2
    # 0.4 but for the 0.4^3 of cases in which one of three is kept; 4 standard errors
    assert float(gone.double().mean()) == pytest.approx(0.4 - 0.4**3 / 3, abs=4 * np.sqrt(0.24 / 6000))
    assert float(gone.double().mean(0).std()) < 0.03
    alone, _ = augment_batch(images[:, :1], target, [DB], replace(QUIET, band_dropout=0.9), draws)
    assert torch.equal(alone, images[:, :1])


def test_one_option_does_not_change_what_another_does() -> None:
    images, target = made_batch(20, 2, 6, 6)
    draws = [(1, step, 0) for step in range(20)]
    plain, codes = augment_batch(images, target, [DB, RAW], Augmentation(), draws)
    both, same_codes = augment_batch(images, target, [DB, RAW], replace(Augmentation(), band_dropout=0.5, speckle_looks=4.0), draws)
    assert torch.equal(codes, same_codes)
    kept = ~(both[:, 1].nan_to_num(0.0) == 0).all((1, 2))
    assert 3 < int(kept.sum()) < 20
    assert torch.equal(both[kept, 1].nan_to_num(99.0), plain[kept, 1].nan_to_num(99.0))


@pytest.mark.parametrize(
    "wrong", [{"speckle_looks": 0.5}, {"speckle_looks": np.nan}, {"band_dropout": 1.0}, {"band_dropout": -0.1}, {"common_offset_db": -1.0}]
)
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Augmentation(**wrong)  # type: ignore[arg-type]


def test_epochs_are_permutations_without_a_rest() -> None:
    drawn = [sample_at(3, step, at, batch=4, count=7) for step in range(7) for at in range(4)]
    for epoch in range(4):
        assert sorted(drawn[epoch * 7 : epoch * 7 + 7]) == list(range(7))
    assert drawn[:7] != drawn[7:14]
    assert drawn == [sample_at(3, step, at, batch=4, count=7) for step in range(7) for at in range(4)]
    assert drawn != [sample_at(4, step, at, batch=4, count=7) for step in range(7) for at in range(4)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_changes_a_batch_alike() -> None:
    images, target = made_batch(6, 4, 31, 31)
    bands, draws = [DB, LINEAR, RAW, DB_2], [(4, 1, at) for at in range(6)]
    here = augment_batch(images, target, bands, ALL, draws)
    there = augment_batch(images.cuda(), target.cuda(), bands, ALL, draws)
    assert torch.equal(there[0].cpu().nan_to_num(99.0), here[0].nan_to_num(99.0))
    assert torch.equal(there[1].cpu(), here[1])
