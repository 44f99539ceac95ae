"""Our reader and writer of sharded arrays against zarr-python, both ways."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from sarseg.errors import InputError
from sarseg.patches import shards
from sarseg.patches.shards import ShardReader, ShardWriter, crc32c


def some_patches(count: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    rng = np.random.default_rng(count)
    values = rng.normal(0, 50, (count, *shape)).astype(dtype) if dtype == "float32" else rng.integers(0, 256, (count, *shape)).astype(dtype)
    if dtype == "float32" and values.size > 3:
        values.ravel()[::7] = np.nan
    return values


@given(
    count=st.integers(0, 23),
    shape=st.sampled_from([(2, 5, 3), (1, 1, 1), (7, 4)]),
    dtype=st.sampled_from(["float32", "uint8", "uint16"]),
    per_shard=st.integers(1, 9),
)
@limits(max_examples=40)
def test_zarr_reads_what_we_write_and_so_do_we(
    tmp_path_factory: pytest.TempPathFactory, count: int, shape: tuple[int, ...], dtype: str, per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("s") / "a.zarr"
    patches = some_patches(count, shape, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_SHARD_BYTES", per_shard * int(np.prod(shape)) * np.dtype(dtype).itemsize)
        with ShardWriter(folder, shape, dtype, np.nan if dtype == "float32" else 255) as writer:
            for one in patches:
                writer.append(one)
    theirs = zarr.open_array(folder, mode="r")
    assert theirs.shape == (count, *shape)
    assert theirs.dtype == dtype
    assert theirs.shards == (per_shard, *shape)
    if count:
        np.testing.assert_array_equal(theirs[:], patches)
    ours = ShardReader(folder)
    assert len(ours) == count
    for at in range(count):
        assert ours[at].dtype == dtype
        np.testing.assert_array_equal(ours[at], patches[at])
    with pytest.raises(IndexError):
        ours[count]


def test_we_read_what_zarr_writes_with_absent_chunks(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(11, 2, 3, 4),
        chunks=(1, 2, 3, 4),
        shards=(4, 2, 3, 4),
        dtype="float32",
        compressors=None,
        fill_value=np.nan,
    )
    patches = some_patches(11, (2, 3, 4), "float32")
    patches[5] = np.nan  # zarr leaves out chunks of nothing but the fill value
    array[:] = patches
    reader = ShardReader(tmp_path / "a.zarr")
    for at in range(11):
        np.testing.assert_array_equal(reader[at], patches[at])
    patch = reader[3]
    patch[:] = 0  # a patch is the caller's own
    np.testing.assert_array_equal(reader[3], patches[3])


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "z.zarr", shape=(4, 2, 3, 4), chunks=(1, 2, 3, 4), shards=(4, 2, 3, 4), dtype="float32")
    zarr.create_array(tmp_path / "plain.zarr", shape=(4, 2, 3, 4), chunks=(1, 2, 3, 4), dtype="float32", compressors=None)
    for name in ("z.zarr", "plain.zarr"):
        with pytest.raises(InputError, match=r"another layout|no zarr array of patches"):
            ShardReader(tmp_path / name)
    with pytest.raises(InputError, match="no zarr array of patches"):
        ShardReader(tmp_path / "absent.zarr")


def test_damage_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    with ShardWriter(folder, (3, 5), "uint8", 255) as writer:
        for one in some_patches(4, (3, 5), "uint8"):
            writer.append(one)
    shard = folder / "c" / "0" / "0" / "0"
    good = shard.read_bytes()
    for bad in (good[:-1], good[1:], good[:-30] + b"x" + good[-29:], b""):
        shard.write_bytes(bad)
        with pytest.raises(InputError, match="a shard is"):
            ShardReader(folder)[0]
    shard.unlink()
    with pytest.raises(InputError, match="a shard is absent"):
        ShardReader(folder)[0]


def test_reader_goes_to_other_processes_and_threads(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    patches = some_patches(50, (2, 3, 3), "float32")
    with ShardWriter(tmp_path / "a.zarr", (2, 3, 3), "float32", np.nan) as writer:
        for one in patches:
            writer.append(one)
    reader = ShardReader(tmp_path / "a.zarr")
    np.testing.assert_array_equal(reader[7], patches[7])
    copy = pickle.loads(pickle.dumps(reader))
    with ThreadPoolExecutor(4) as pool:
        for at, got in enumerate(pool.map(copy.__getitem__, range(50))):
            np.testing.assert_array_equal(got, patches[at])


def test_checksum_is_the_standard_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_nothing_is_finished_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit"), ShardWriter(tmp_path / "a.zarr", (2, 2), "uint8", 255) as writer:
        writer.append(np.zeros((2, 2), np.uint8))
        writer.append(np.zeros((2, 3), np.uint8))
    assert not (tmp_path / "a.zarr" / "zarr.json").exists()
