"""What varies between two sights of one patch: pure functions of (seed, step, index in the global batch).

Every sample draws its decisions from a generator of its own, and speckle comes from a hash of that generator's key and the
pixel's number: a sample is changed alike in whatever batch it stands, on a CPU and on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sarseg.errors import UsageError
from sarseg.nets.modelfile import BandSpec
from sarseg.rng import generator

_ORDER, _CHANGE = 1, 2  # streams of random numbers
_CELLS = 1 << 16  # equally likely values that stand for a Gamma distribution
_LOW16, _LOW32 = (1 << 16) - 1, (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may change: the pose of a patch, the level of its bands, their speckle, and which of them are there.

    The offsets are in dB: of bands in dB and, as factors, of linear power; bands of other scales keep their values.
    """

    turns: bool = True
    """Mirrored or not, and a number of quarter turns; half turns for a patch that is not square."""
    common_offset_db: float = 0.3
    """Standard deviation of one offset for all bands."""
    band_offset_db: float = 0.2
    """Standard deviation of the offsets of each band."""
    speckle_looks: float | None = None
    """Further speckle: power times Gamma noise of mean 1 and so many looks, each pixel and band on its own; none when None."""
    band_dropout: float = 0.0
    """Probability of each band to be 0, its mean, in a whole patch; one band always stays."""

    def __post_init__(self) -> None:
        for name in ("common_offset_db", "band_offset_db"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}", hint="a standard deviation, 0 or more dB")
        if self.speckle_looks is not None and not 1 <= self.speckle_looks < math.inf:
            raise UsageError(f"speckle_looks is {self.speckle_looks}", hint="at least 1; leave it out for no speckle")
        if not 0 <= self.band_dropout < 1:
            raise UsageError(f"band_dropout is {self.band_dropout}", hint="a probability from 0 to below 1")


def sample_at(seed: int, step: int, index: int, *, batch: int, count: int) -> int:
    """Which of `count` samples stands at `index` of the batch of `step`: epochs are permutations, without a rest left over."""
    number = step * batch + index
    epoch, place = divmod(number, count)
    return int(_permutation(seed, epoch, count)[place])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(seed, _ORDER, epoch).permutation(count)


def augment_batch(
    images: Tensor, target: Tensor, bands: Sequence[BandSpec], options: Augmentation, draws: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, Tensor]:
    """A changed copy of a batch of normalised patches and their class indexes, on the device where they are.

    Parameters
    ----------
    images : float32 (n, band, rows, cols), normalised; NaN stays NaN
    target : int64 (n, rows, cols)
    draws : (seed, step, index in the global batch) of each sample: equal draws give equal changes
    """
    changes = [_decide(draw, len(bands), options) for draw in draws]
    out, codes = _turned(images, target, changes) if options.turns else (images.clone(), target.clone())
    offset_db = np.stack([change.offset_db for change in changes])
    keys = torch.from_numpy(np.stack([change.key for change in changes])).to(out.device)
    for at, band in enumerate(bands):
        values = out[:, at]  # a view: what follows changes `out`
        noise = None
        if options.speckle_looks is not None and band.scale in ("db", "linear"):
            noise = _gamma_noise(keys, at, values.shape[1:], _gamma_cells(options.speckle_looks, band.scale, out.device))
        if band.scale == "db":
            values += _each(offset_db[:, at] / band.std, out)
            if noise is not None:
                values += noise * (1.0 / band.std)  # a GPU would divide by a scalar with another rounding
        elif band.scale == "linear":
            factor = _each(10.0 ** (offset_db[:, at] / 10.0), out)
            factor = factor if noise is None else factor * noise
            values *= factor  # (power - mean) / std, of a power that is larger by the factor
            values += (factor - 1.0) * (band.mean / band.std)
    dropped = np.stack([change.dropped for change in changes])
    if dropped.any():
        out.masked_fill_(torch.from_numpy(dropped).to(out.device)[:, :, None, None] & ~out.isnan(), 0.0)
    return out, codes


@dataclass(frozen=True, slots=True)
class _Change:
    """The decisions for one sample."""

    mirrored: bool
    turns: int
    offset_db: NDArray[np.float64]
    """(bands,)"""
    dropped: NDArray[np.bool_]
    """(bands,)"""
    key: NDArray[np.int64]
    """Two words of 32 bits, from which the speckle's hash starts."""


def _decide(draw: tuple[int, int, int], bands: int, options: Augmentation) -> _Change:
    """Everything is drawn, always in this order: one option does not change what another one does."""
    rng = generator(draw[0], _CHANGE, *draw[1:])
    mirrored, turns = bool(rng.integers(2)), int(rng.integers(4))
    common, single = rng.standard_normal(), rng.standard_normal(bands)
    chance, key = rng.random(bands), rng.integers(1 << 32, size=2)
    dropped = chance < options.band_dropout
    dropped[chance.argmax()] = False
    offset_db = common * options.common_offset_db + single * options.band_offset_db
    return _Change(mirrored=mirrored, turns=turns, offset_db=offset_db, dropped=dropped, key=key)


def _turned(images: Tensor, target: Tensor, changes: Sequence[_Change]) -> tuple[Tensor, Tensor]:
    """Mirrored and turned copies; half turns only where the patch is not square, so that it keeps its shape."""
    unit = 1 if target.shape[1] == target.shape[2] else 2
    poses = [(change.mirrored, change.turns // unit * unit) for change in changes]
    return (
        torch.stack([_posed(image, *pose) for image, pose in zip(images, poses, strict=True)]),
        torch.stack([_posed(codes, *pose) for codes, pose in zip(target, poses, strict=True)]),
    )


def _posed(values: Tensor, mirrored: bool, turns: int) -> Tensor:
    return torch.rot90(values.flip(-1) if mirrored else values, turns, (-2, -1))


def _each(numbers: NDArray[np.float64], like: Tensor) -> Tensor:
    """One float32 number a sample, (n, 1, 1)."""
    return torch.from_numpy(numbers.astype(np.float32)).to(like.device)[:, None, None]


@lru_cache(maxsize=4)
def _gamma_cells(looks: float, scale: Literal["db", "linear"], device: torch.device) -> Tensor:
    """A Gamma distribution of mean 1 and shape `looks` as equally likely numbers, float32 (2^16,), or those in dB.

    Each is the mean of the distribution over its cell, so that their mean is 1. Their variance falls short of 1 / looks by
    less than 2e-5 of it, and no value is rarer than 1 in 65536: at one look the least is -51 dB, the largest +10.8 dB.
    """
    from scipy.special import gammainc, gammaincinv

    edges = gammaincinv(looks, np.arange(_CELLS + 1) / _CELLS)
    cells = np.diff(gammainc(looks + 1.0, edges)) * _CELLS  # the integral of x f(x) is the distribution of one look more
    return torch.from_numpy((10.0 * np.log10(cells) if scale == "db" else cells).astype(np.float32)).to(device)


def _gamma_noise(keys: Tensor, band: int, shape: tuple[int, ...], cells: Tensor) -> Tensor:
    """Independent numbers out of `cells`, float32 (n, rows, cols): a hash of the sample's key, the band and the pixel picks them.

    Every 32-bit hash serves two pixels.

    Parameters
    ----------
    keys : int64 (n, 2), 32 bits each
    """
    pixels = math.prod(shape)
    half = -(-pixels // 2)
    hashed = _hash(torch.arange(band * half, (band + 1) * half, device=keys.device), keys)
    picked = torch.stack([hashed & _LOW16, hashed >> 16], 1).flatten()
    return cells.index_select(0, picked).view(len(keys), 2 * half)[:, :pixels].reshape(len(keys), *shape)


def _hash(counter: Tensor, keys: Tensor) -> Tensor:
    """A 32-bit hash of counter int64 (k,) under each key, int64 (n, k) from 0 to 2^32 - 1.

    Two rounds of multiply and xor-shift, with the constants that Wellons ("hash-prospector", 2018-2022) searched for the
    least bias, the second word of the key between them. A product of 32 and 31 bits stays within int64 on any device.
    """
    bits = counter ^ keys[:, :1]
    bits ^= bits >> 16
    bits *= 0x21F0AAAD
    bits &= _LOW32
    bits ^= keys[:, 1:]
    bits ^= bits >> 15
    bits *= 0xD35A2D97 - (1 << 32)  # the same product modulo 2^32
    bits &= _LOW32
    bits ^= bits >> 15
    return bits
