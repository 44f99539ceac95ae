"""Damaged PALSAR products: always our error, never a hang, a crash or gigabytes."""

from __future__ import annotations

import shutil
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from ceos_damage import damaged
from palsar_files import Made, ground_of, write_product
from pyproj import Transformer

from sarseg.errors import InputError, SarsegError
from sarseg.raster import ceos
from sarseg.scene.open import open_scene
from sarseg.tiles import Window

SHAPE = (24, 18)
ROUNDS = 60
MOST_BYTES = 64 << 20
MOST_S = 5.0


def slant():
    return Made(shape=SHAPE, doppler=lambda r: 60.0 + 0 * r, across=(60.0, 0.0, 0.0))


def geocoded():
    made = Made(form="geocoded", level="1.5", mission="ALOS2", wavelength_m=0.2424525, shape=SHAPE, utm_zone=30, first_s=0.0)
    x, y = Transformer.from_crs(4326, 32630, always_xy=True).transform(*ground_of(made, 0.0, 868e3))
    made.corner_m = (round(float(x) / 12.5) * 12.5, round(float(y) / 12.5) * 12.5)
    return made


@pytest.fixture(scope="module", params=["slant", "geocoded"])
def whole(request, tmp_path_factory):
    made = {"slant": slant, "geocoded": geocoded}[request.param]()
    folder = write_product(tmp_path_factory.mktemp("whole") / made.name, made, np.full(SHAPE, 300.0))
    use(folder)
    return folder


def use(path):
    scene = open_scene(path)
    for polarisation in scene.measurements:
        scene.power(polarisation, Window(row=0, col=0, rows=SHAPE[0], cols=SHAPE[1]))
    scene.grid.line_pixel(np.array([0.0, np.nan]), np.array([8.6e5, 8.6e5]))
    return scene


def test_damaged_files(whole, tmp_path):
    rng = np.random.default_rng(20)
    files = sorted(whole.iterdir())
    refused = 0
    tracemalloc.start()
    for turn in range(ROUNDS):
        folder = tmp_path / "p"
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        target = files[turn % len(files)]
        (folder / target.name).write_bytes(damaged(target.read_bytes(), rng))
        started = time.monotonic()
        tracemalloc.reset_peak()
        try:
            use(folder)
        except SarsegError:
            refused += 1
        assert time.monotonic() - started < MOST_S, turn
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES, turn
    tracemalloc.stop()
    assert refused > ROUNDS // 4


def test_damaged_archives(whole, tmp_path):
    rng = np.random.default_rng(21)
    refused = 0
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / "whole.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for file in sorted(whole.iterdir()):
                archive.write(file, f"folder/{file.name}")
        use(path)
        content = path.read_bytes()
        directory = content.rindex(b"PK\1\2", 0, len(content))
        for turn in range(ROUNDS // 4):
            piece = bytearray(content)
            if turn % 3 == 0:
                piece = piece[: rng.integers(len(piece))]
            elif turn % 3 == 1:  # sizes, offsets and names in the directory
                piece[directory + int(rng.integers(46))] ^= 1 << int(rng.integers(8))
            else:
                for at in rng.integers(len(piece), size=20):
                    piece[at] ^= 1 << int(rng.integers(8))
            (tmp_path / "damaged.zip").write_bytes(piece)
            try:
                use(tmp_path / "damaged.zip")
            except SarsegError:
                refused += 1
    assert refused > ROUNDS // 8


@pytest.mark.parametrize("name", ["../LED-x", "/etc/LED-x", "..\\LED-x"])
def test_zip_slip(whole, tmp_path, name):
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
        for file in sorted(whole.iterdir()):
            archive.write(file, file.name)
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="outside of itself"):
        open_scene(tmp_path / "slip.zip")


def test_declared_sizes_are_checked_before_anything_is_read(whole, tmp_path):
    """Billions of lines or pixels in a descriptor: refused at once, by the size of the file."""
    for offset, width, value in ((236, 8, 99_999_999), (248, 8, 99_999_999), (186, 6, 999_999), (276, 4, 9999), (216, 4, 8)):
        folder = tmp_path / "p"
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        image = next(folder.glob("IMG-*"))
        content = bytearray(image.read_bytes())
        content[offset : offset + width] = f"{value:{width}d}".encode()
        image.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(InputError):
            open_scene(folder)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()


def test_a_packed_bomb_is_refused(whole, tmp_path, monkeypatch):
    """A member that unpacks to a hundred times its size is no image of a radar (above a size that is lowered here)."""
    image = next(whole.glob("IMG-*"))
    monkeypatch.setattr(ceos, "_DEFLATED_LARGE", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(whole.iterdir()):
            if file != image:
                archive.write(file, file.name)
        archive.writestr(image.name, image.read_bytes()[:720] + bytes(4 << 20))
    with pytest.raises(InputError, match="unpack to"):
        open_scene(tmp_path / "bomb.zip")
